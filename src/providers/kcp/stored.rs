//! What was known last, in a file, for a start while the export's own shard is away.
//!
//! One small JSON file in the directory of `--state-dir`: the server of the kubeconfig, of each slice the URLs that it
//! had last, and the user that other workspaces know us as, which is no secret. A file of another server is ignored
//! and replaced, and of one with other slices those are taken that the flags name, so that no endpoint of another
//! installation is ever used. Those of other slices stay in it: one process per Partition may share the directory, and
//! a lock on a file beside it lets one write after the other. What the file says is checked like what a slice says. It
//! is replaced as a whole, with mode 0600, when it would hold something else and at no other time.
//!
//! A URL that a slice no longer has stays as long as the fleet holds its endpoint, and a slice without endpoints, or
//! one that is gone, leaves the file as it is: that is a hiccup of a cache server more often than the end of a
//! shard. To know an endpoint too many costs a watch that fails; to know one too few costs its workspaces the service.
//!
//! Nothing that goes wrong with the file ends a running process: it says so, and tries again until it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Name of the file.
const FILE: &str = "endpoints.json";
/// The file before it takes the place of the old one. Whoever has the lock may replace what another one left.
const DRAFT: &str = "endpoints.json.new";
/// Who has a lock on this one may write.
const LOCK: &str = "endpoints.lock";

/// A larger file is none of ours: a thousand shards have 100 KB.
const LARGEST: u64 = 1 << 20;

/// The URLs of each slice.
pub(super) type Urls = BTreeMap<String, BTreeSet<String>>;

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "--state-dir: cannot write in {path:?}: {source}; name a directory that exists and that this process may write in"
)]
pub struct StateError {
    /// The directory as given.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// Where the slices are: the server of the kubeconfig, with the workspace in its path.
    server: String,
    /// The endpoints of each slice.
    slices: Urls,
    /// Who we are in workspaces other than our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// The file, and what was in it at the start.
pub struct Stored {
    dir: PathBuf,
    path: PathBuf,
    server: String,
    found: Content,
    /// Our user, as soon as we know it better than the file.
    user: Mutex<Option<String>>,
    changed: Notify,
    /// Why it could not be written; said once.
    failed: Mutex<Option<String>>,
}

impl Stored {
    /// Reads what an earlier process left of this server. Fails only where the directory cannot be written in, and there
    /// is nothing in it that could be used without.
    pub(super) fn open(dir: &Path, server: &str, slices: &[String]) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        // What cannot be written now cannot be written when it counts.
        let draft = dir.join(DRAFT);
        let writable = lock(dir)
            .and_then(|_lock| write_new(&draft, b"").and_then(|()| fs::remove_file(&draft)));
        let (file, read) = (path.display(), read(&path));
        if let Err(source) = writable {
            if !matches!(read, Ok(Some(_))) {
                return Err(StateError { path: dir.to_owned(), source });
            }
            tracing::warn!(
                "{file} cannot be replaced: {source}; going on with what it says; make room in the directory and let this \
                 process write in it"
            );
        }
        let mut found = match read {
            Ok(Some(content)) if content.server == server => content,
            Ok(None) => Content::default(),
            Ok(Some(content)) => {
                tracing::warn!(
                    "{file} is ignored: it was made for {}, and the server of the kubeconfig is {server}; it is \
                     replaced as soon as an endpoint is known; give each installation a --state-dir of its own",
                    content.server
                );
                Content::default()
            }
            Err(err) => {
                tracing::warn!(
                    "{file} is ignored: {err}; it is replaced as soon as an endpoint is known; delete it if this is \
                     said again at the next start"
                );
                Content::default()
            }
        };
        found.slices.retain(|name, _| slices.contains(name));
        let (dir, server) = (dir.to_owned(), server.to_owned());
        let (user, changed, failed) = (Mutex::default(), Notify::new(), Mutex::default());
        Ok(Self { dir, path, server, found, user, changed, failed })
    }

    /// The endpoints that an earlier process knew of a slice; none if it knew none.
    pub(super) fn of(&self, slice: &str) -> Option<&BTreeSet<String>> {
        self.found.slices.get(slice)
    }

    /// The user that an earlier process was; none if it did not know.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.found.user.as_deref()
    }

    /// Lets the user be stored.
    pub fn keep_user(&self, user: String) {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(user);
        self.touch();
    }

    /// The file, for people.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Says that there may be something to store.
    pub(super) fn touch(&self) {
        self.changed.notify_one();
    }

    /// Waits until there may be.
    pub(super) async fn touched(&self) {
        self.changed.notified().await;
    }

    /// Makes the file say what is known now; `held` are endpoints that slices no longer have. Whether it does.
    pub(super) async fn store(self: &Arc<Self>, slices: Urls, held: BTreeSet<String>) -> bool {
        let this = Arc::clone(self);
        // A disk may hang.
        let written = tokio::task::spawn_blocking(move || this.write(slices, &held)).await;
        let err = match written {
            Ok(written) => written.err().map(|err| err.to_string()),
            Err(err) => Some(err.to_string()),
        };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(err) = &err
            && failed.as_ref() != Some(err)
        {
            tracing::warn!(
                "cannot store the endpoints in {}: {err}; going on with those that are known, and trying again; a restart \
                 while {} is away would not know them: make room in the directory and let this process write in it",
                self.path.display(),
                self.server
            );
        }
        *failed = err;
        failed.is_none()
    }

    fn write(&self, slices: Urls, held: &BTreeSet<String>) -> io::Result<()> {
        let _lock = lock(&self.dir)?;
        // Another process may have written of its slices since.
        let before = read(&self.path).ok().flatten().filter(|now| now.server == self.server);
        let mut next = before.clone().unwrap_or_default();
        next.server.clone_from(&self.server);
        for (name, mut urls) in slices.into_iter().filter(|(_, urls)| !urls.is_empty()) {
            let known = next.slices.remove(&name).unwrap_or_default();
            urls.extend(known.into_iter().filter(|url| held.contains(url)));
            next.slices.insert(name, urls);
        }
        if let Some(user) = &*self.user.lock().unwrap_or_else(PoisonError::into_inner) {
            next.user = Some(user.clone());
        }
        let nothing = next.slices.is_empty() && next.user.is_none();
        if nothing || before.as_ref() == Some(&next) {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(&next)?;
        text.push(b'\n');
        let draft = self.dir.join(DRAFT);
        write_new(&draft, &text).and_then(|()| fs::rename(&draft, &self.path)).inspect_err(
            |_| {
                let _ = fs::remove_file(&draft);
            },
        )?;
        File::open(&self.dir)?.sync_all()
    }
}

/// Waits until nobody else writes in the directory; it ends with the file.
fn lock(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK))?;
    match file.lock() {
        // Some file systems have no locks; two processes that share such a one have to be lucky.
        Err(err) if err.kind() != io::ErrorKind::Unsupported => Err(err),
        _ => Ok(file),
    }
}

/// Writes a new file that only we may read, and waits until the disk has it.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// What the file holds; none where there is no file.
fn read(path: &Path) -> Result<Option<Content>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(format!("cannot open it: {err}")),
    };
    let mut text = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(|err| format!("cannot read it: {err}"))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST) {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|err| format!("it is not what this backend writes: {err}"))
}

#[cfg(test)]
mod tests;
