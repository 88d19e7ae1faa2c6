//! The endpoints that were known last, in a file, for a start while the export's own shard is away.
//!
//! One small JSON file in the directory of `--state-dir`: the server of the kubeconfig, and of each slice the URLs
//! that it had last. A file of another server is ignored and replaced, and of one with other slices those are taken
//! that the flags name, so that no endpoint of another installation is ever used. Those of other slices stay in it: one
//! process per Partition may share the directory. What the file says is checked like what a slice says. It is replaced
//! as a whole, with mode 0600, when an endpoint comes or goes and at no other time.
//!
//! A slice without endpoints, or one that is gone, leaves the file as it is: that is a hiccup of a cache server more
//! often than the end of all shards. To know an endpoint too many costs a watch that fails; to know one too
//! few costs its workspaces the service.
//!
//! Nothing that goes wrong with the file ends a running process: it says so, and the endpoints are stored with the
//! next change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Name of the file.
const FILE: &str = "endpoints.json";

/// A larger file is none of ours: a thousand shards have 100 KB.
const LARGEST: u64 = 1 << 20;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// Where the slices are: the server of the kubeconfig, with the workspace in its path.
    server: String,
    /// The endpoints of each slice.
    slices: BTreeMap<String, BTreeSet<String>>,
}

/// The file, and what was in it last.
pub(super) struct Stored {
    path: PathBuf,
    /// Content of the file, as far as we wrote it or took it over.
    content: Mutex<Content>,
    /// What was found at the start.
    found: BTreeMap<String, BTreeSet<String>>,
}

impl Stored {
    /// Reads what an earlier process left for these slices of this server. Fails only where the directory
    /// cannot be written in.
    pub(super) fn open(dir: &Path, server: &str, slices: &[String]) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        // What cannot be written now cannot be written when it counts.
        let draft = draft(&path);
        write_new(&draft, b"")
            .and_then(|()| fs::remove_file(&draft))
            .map_err(|source| StateError { path: dir.to_owned(), source })?;
        let file = path.display();
        let found = match read(&path) {
            Ok(None) => BTreeMap::new(),
            Ok(Some(content)) if content.server == server => content.slices,
            Ok(Some(content)) => {
                tracing::warn!(
                    "{file} is ignored: it was made for {}, and the server of the kubeconfig is {server}; it is \
                     replaced as soon as an endpoint is known; give each installation a --state-dir of its own",
                    content.server
                );
                BTreeMap::new()
            }
            Err(err) => {
                tracing::warn!(
                    "{file} is ignored: {err}; it is replaced as soon as an endpoint is known; delete it if this is \
                     said again at the next start"
                );
                BTreeMap::new()
            }
        };
        let content = Content { server: server.to_owned(), slices: found.clone() };
        let found: BTreeMap<_, _> =
            found.into_iter().filter(|(name, _)| slices.contains(name)).collect();
        Ok(Self { path, content: Mutex::new(content), found })
    }

    /// The endpoints that an earlier process knew of a slice; none if it knew none.
    pub(super) fn of(&self, slice: &str) -> Option<&BTreeSet<String>> {
        self.found.get(slice)
    }

    /// The file, for people.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes the endpoints of a slice, and writes the file if they are others than before.
    pub(super) async fn note(self: &Arc<Self>, slice: &str, urls: &BTreeSet<String>) {
        let this = Arc::clone(self);
        let (slice, urls) = (slice.to_owned(), urls.clone());
        // A disk may hang. The lock lets one write after the other.
        let written = tokio::task::spawn_blocking(move || this.write(slice, urls)).await;
        if let Ok(Err(err)) = written {
            tracing::warn!(
                "cannot store the endpoints in {}: {err}; going on with those that are known; a restart while {} is \
                 away would not know them: make room in the directory and let this process write in it",
                self.path.display(),
                self.content.lock().unwrap_or_else(PoisonError::into_inner).server
            );
        }
    }

    fn write(&self, slice: String, urls: BTreeSet<String>) -> io::Result<()> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if urls.is_empty() || content.slices.get(&slice) == Some(&urls) {
            return Ok(());
        }
        let mut next = content.clone();
        // Another process may have written of its slices since.
        if let Ok(Some(now)) = read(&self.path)
            && now.server == next.server
        {
            next.slices.extend(now.slices);
        }
        next.slices.insert(slice, urls);
        let mut text = serde_json::to_vec_pretty(&next)?;
        text.push(b'\n');
        let draft = draft(&self.path);
        write_new(&draft, &text).and_then(|()| fs::rename(&draft, &self.path)).inspect_err(
            |_| {
                let _ = fs::remove_file(&draft);
            },
        )?;
        *content = next;
        Ok(())
    }
}

/// The file under another name, before it takes the place of the old one. In containers all processes have one id, so
/// the time tells them apart.
fn draft(path: &Path) -> PathBuf {
    let now = jiff::Timestamp::now().as_nanosecond();
    path.with_extension(format!("{}.{now}.new", std::process::id()))
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
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SERVER: &str = "https://kcp:6443/clusters/root:kube-bind";

    fn urls(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("https://{name}")).collect()
    }

    fn open(dir: &Path, server: &str, slices: &[&str]) -> Arc<Stored> {
        let slices: Vec<String> = slices.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(Stored::open(dir, server, &slices).unwrap())
    }

    /// All files of the directory, by name and with their content.
    fn files(dir: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }

    #[tokio::test]
    async fn what_was_noted_is_found_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), SERVER, &["east", "west"]);
        assert_eq!((first.of("east"), files(dir.path()).len()), (None, 0));
        first.note("east", &urls(&["a", "b"])).await;
        first.note("west", &urls(&["c"])).await;
        first.note("east", &urls(&["a"])).await;

        let next = open(dir.path(), SERVER, &["west", "east"]);
        assert_eq!((next.of("east"), next.of("west")), (Some(&urls(&["a"])), Some(&urls(&["c"]))));
        let file = next.path().metadata().unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let text = format!(
            "{{\n  \"server\": \"{SERVER}\",\n  \"slices\": {{\n    \"east\": [\n      \"https://a\"\n    ],\n    \
             \"west\": [\n      \"https://c\"\n    ]\n  }}\n}}\n"
        );
        assert_eq!(files(dir.path()), BTreeMap::from([(FILE.to_owned(), text)]));
    }

    #[tokio::test]
    async fn the_file_is_written_only_when_an_endpoint_comes_or_goes() {
        let dir = tempfile::tempdir().unwrap();
        let stored = open(dir.path(), SERVER, &["east"]);
        stored.note("east", &urls(&["a"])).await;
        let written = |stored: &Stored| {
            use std::os::unix::fs::MetadataExt as _;
            stored.path().metadata().unwrap().ino()
        };
        // Still open, so that the number of the old file is not given to a new one.
        let held = File::open(stored.path()).unwrap();
        let before = written(&stored);
        stored.note("east", &urls(&["a"])).await;
        stored.note("east", &urls(&[])).await;
        assert_eq!(written(&stored), before);
        stored.note("east", &urls(&["b"])).await;
        assert_ne!(written(&stored), before);
        drop(held);
        assert_eq!(open(dir.path(), SERVER, &["east"]).of("east"), Some(&urls(&["b"])));
    }

    #[tokio::test]
    async fn nothing_is_taken_from_another_installation() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), SERVER, &["east", "west"]).note("east", &urls(&["a"])).await;
        assert_eq!(open(dir.path(), SERVER, &["west"]).of("east"), None);
        let other = open(dir.path(), "https://other:6443/clusters/root:kube-bind", &["east"]);
        assert_eq!(other.of("east"), None);
        other.note("east", &urls(&["b"])).await;
        assert_eq!(open(dir.path(), SERVER, &["east"]).of("east"), None);
    }

    #[tokio::test]
    async fn a_broken_file_is_ignored_and_replaced() {
        for broken in ["", "{", "[]", r#"{"server": 1, "slices": {}}"#, r#"{"server": "x"}"#] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), broken).unwrap();
            let stored = open(dir.path(), SERVER, &["east"]);
            assert_eq!(stored.of("east"), None, "{broken}");
            stored.note("east", &urls(&["a"])).await;
            let next = open(dir.path(), SERVER, &["east"]);
            assert_eq!(next.of("east"), Some(&urls(&["a"])), "{broken}");
        }
    }

    #[tokio::test]
    async fn a_directory_that_goes_away_is_no_end_and_what_was_noted_is_written_later() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("state");
        fs::create_dir(&dir).unwrap();
        let stored = open(&dir, SERVER, &["east"]);
        fs::remove_dir(&dir).unwrap();
        stored.note("east", &urls(&["a"])).await;
        fs::create_dir(&dir).unwrap();
        stored.note("east", &urls(&["a"])).await;
        assert_eq!(open(&dir, SERVER, &["east"]).of("east"), Some(&urls(&["a"])));
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [dir.path().join("missing"), file] {
            let refused = Stored::open(&path, SERVER, &[]).err().unwrap().to_string();
            let named = format!("--state-dir: cannot write in {path:?}: ");
            assert!(refused.starts_with(&named), "{refused}");
            assert!(refused.ends_with("this process may write in"), "{refused}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(read(&path), Err("it is larger than 1048576 bytes".to_owned()));
    }
}
