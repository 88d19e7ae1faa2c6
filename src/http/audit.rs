//! The audit log (`--audit-log`): who did what where, and what was decided (security.md row 26).
//!
//! One JSON object a line, appended as a whole. It names people, clusters, namespaces and templates, and
//! never a credential: no field could hold one. A full disk stops no login; the log says that lines are
//! missing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::server::RequestId;

/// Lines that may wait for the disk. Then who acts waits too: an action without its line is worse.
const WAITING: usize = 1024;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A login was finished, or not.
    Login,
    /// A session was ended.
    Logout,
    /// A request for something that needs a session.
    Read,
    /// A template was bound.
    Bind,
    /// A binding was carried to the consumer's cluster.
    ApplyBinding,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Done.
    Allowed,
    /// The user may not, or nobody knows who it is.
    Denied,
    /// It could have been done, but was not.
    Failed,
}

/// One line. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// The id in the answer and in the log.
    pub request_id: String,
    /// Where the request came from: a proxy, where there is one.
    pub client: IpAddr,
    /// What.
    pub action: Action,
    /// What became of it.
    pub decision: Decision,
    /// The status of the answer.
    pub status: u16,
    /// Who said who the user is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Who it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The logical cluster; missing for plain Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The identity of the consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Its contract namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Why not, in the words of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Entry {
    /// A line about a request, with nothing known about who and where yet.
    #[must_use]
    pub fn new(time: Timestamp, id: &RequestId, client: SocketAddr, action: Action) -> Self {
        Self {
            time,
            request_id: id.to_string(),
            client: client.ip().to_canonical(),
            action,
            decision: Decision::Allowed,
            status: 200,
            issuer: None,
            subject: None,
            cluster: None,
            identity: None,
            namespace: None,
            template: None,
            reason: None,
        }
    }
}

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error(
        "--audit-log: cannot append to {path:?}: {source}; name a file in a folder that this process may write to"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("--audit-log: cannot start its thread: {0}; check the limits of this process")]
    Thread(#[source] io::Error),
}

/// Where lines are handed in. Without a log they are dropped.
#[derive(Clone, Default)]
pub struct Audit(Option<mpsc::Sender<String>>);

/// Writes what was handed in until nobody is left who could hand in more.
pub struct Writer(JoinHandle<()>);

impl Audit {
    /// Appends to a file.
    pub fn to_file(path: &Path) -> Result<(Self, Writer), Error> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        // People and what they do: for the operator only.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened: io::Result<File> = options.open(path);
        let file = opened.map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Self::to(file)
    }

    /// Writes to standard output.
    pub fn to_stdout() -> Result<(Self, Writer), Error> {
        Self::to(io::stdout())
    }

    fn to(mut out: impl Write + Send + 'static) -> Result<(Self, Writer), Error> {
        let (sender, mut receiver) = mpsc::channel::<String>(WAITING);
        // A thread of its own: a slow disk holds nothing but the lines.
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let mut lost = 0_u64;
            while let Some(line) = receiver.blocking_recv() {
                let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                match written {
                    Ok(()) if lost > 0 => {
                        tracing::error!(lost, "the audit log is written again; lines are missing");
                        lost = 0;
                    }
                    Ok(()) => {}
                    Err(err) => {
                        if lost == 0 {
                            tracing::error!(%err, "the audit log cannot be written; make room on its disk");
                        }
                        lost += 1;
                    }
                }
            }
        });
        Ok((Self(Some(sender)), Writer(thread.map_err(Error::Thread)?)))
    }

    /// Hands in a line.
    pub async fn record(&self, entry: &Entry) {
        let Some(sender) = &self.0 else {
            return;
        };
        // Texts, numbers and enums: nothing in it can fail to be written.
        let mut line = serde_json::to_string(entry).unwrap_or_default();
        line.push('\n');
        // The writer ends after us.
        let _ = sender.send(line).await;
    }
}

impl Writer {
    /// Waits until everything is written, which is after the last [`Audit`] is gone.
    pub fn finish(self) {
        if self.0.join().is_err() {
            tracing::error!("the thread of the audit log failed; lines may be missing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: Action) -> Entry {
        let time = Timestamp::from_second(0).unwrap();
        let client = SocketAddr::from(([127, 0, 0, 1], 5));
        Entry::new(time, &RequestId::for_tests("7"), client, action)
    }

    #[tokio::test]
    async fn each_entry_is_one_line_behind_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        std::fs::write(&path, "before\n").unwrap();
        let (audit, writer) = Audit::to_file(&path).unwrap();
        let mut bind = entry(Action::Bind);
        bind.decision = Decision::Denied;
        bind.status = 403;
        bind.subject = Some("a\nb".to_owned());
        audit.record(&bind).await;
        audit.record(&entry(Action::Logout)).await;
        drop(audit);
        writer.finish();
        let expected = concat!(
            "before\n",
            r#"{"time":"1970-01-01T00:00:00Z","requestId":"7","client":"127.0.0.1","action":"bind","#,
            r#""decision":"denied","status":403,"subject":"a\nb"}"#,
            "\n",
            r#"{"time":"1970-01-01T00:00:00Z","requestId":"7","client":"127.0.0.1","action":"logout","#,
            r#""decision":"allowed","status":200}"#,
            "\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let err = Audit::to_file(Path::new("/nowhere/audit")).err().unwrap().to_string();
        assert!(err.starts_with("--audit-log: cannot append to \"/nowhere/audit\": "), "{err}");
    }
}
