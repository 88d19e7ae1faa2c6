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

/// All files of the directory but the lock, by name and with their content.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .filter(|(name, _)| name != LOCK)
        .collect()
}

/// Stores that a slice has these endpoints, and that none is held; whether that worked.
async fn store(stored: &Arc<Stored>, slice: &str, names: &[&str]) -> bool {
    stored.store([(slice.to_owned(), urls(names))].into(), BTreeSet::new()).await
}

#[tokio::test]
async fn what_was_stored_is_found_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), SERVER, &["east", "west"]);
    assert_eq!((first.of("east"), files(dir.path()).len()), (None, 0));
    assert!(store(&first, "east", &["a", "b"]).await);
    assert!(store(&first, "west", &["c"]).await);
    assert!(store(&first, "east", &["a"]).await);

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
    assert!(store(&stored, "east", &["a"]).await);
    let written = |stored: &Stored| {
        use std::os::unix::fs::MetadataExt as _;
        stored.path().metadata().unwrap().ino()
    };
    // Still open, so that the number of the old file is not given to a new one.
    let held = File::open(stored.path()).unwrap();
    let before = written(&stored);
    assert!(store(&stored, "east", &["a"]).await);
    assert!(store(&stored, "east", &[]).await);
    assert_eq!(written(&stored), before);
    assert!(store(&stored, "east", &["b"]).await);
    assert_ne!(written(&stored), before);
    drop(held);
    assert_eq!(open(dir.path(), SERVER, &["east"]).of("east"), Some(&urls(&["b"])));
}

#[tokio::test]
async fn nothing_is_taken_from_another_installation() {
    let dir = tempfile::tempdir().unwrap();
    assert!(store(&open(dir.path(), SERVER, &["east", "west"]), "east", &["a"]).await);
    assert_eq!(open(dir.path(), SERVER, &["west"]).of("east"), None);
    let other = open(dir.path(), "https://other:6443/clusters/root:kube-bind", &["east"]);
    assert_eq!(other.of("east"), None);
    assert!(store(&other, "east", &["b"]).await);
    assert_eq!(open(dir.path(), SERVER, &["east"]).of("east"), None);
}

#[tokio::test]
async fn a_broken_file_is_ignored_and_replaced() {
    for broken in ["", "{", "[]", r#"{"server": 1, "slices": {}}"#, r#"{"server": "x"}"#] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), broken).unwrap();
        let stored = open(dir.path(), SERVER, &["east"]);
        assert_eq!(stored.of("east"), None, "{broken}");
        assert!(store(&stored, "east", &["a"]).await);
        let next = open(dir.path(), SERVER, &["east"]);
        assert_eq!(next.of("east"), Some(&urls(&["a"])), "{broken}");
    }
}

#[tokio::test]
async fn a_directory_that_goes_away_is_no_end_and_what_is_known_is_written_later() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    fs::create_dir(&dir).unwrap();
    let stored = open(&dir, SERVER, &["east"]);
    fs::remove_dir_all(&dir).unwrap();
    assert!(!store(&stored, "east", &["a"]).await);
    fs::create_dir(&dir).unwrap();
    assert!(store(&stored, "east", &["a"]).await);
    assert_eq!(open(&dir, SERVER, &["east"]).of("east"), Some(&urls(&["a"])));
}

#[tokio::test]
async fn a_url_stays_until_its_endpoint_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let stored = open(dir.path(), SERVER, &["east"]);
    assert!(store(&stored, "east", &["a", "b"]).await);
    let now = || Urls::from([("east".to_owned(), urls(&["a"]))]);
    assert!(stored.store(now(), urls(&["b", "c"])).await);
    let kept = open(dir.path(), SERVER, &["east"]);
    assert_eq!(kept.of("east"), Some(&urls(&["a", "b"])), "and nothing that it never had");
    assert!(stored.store(now(), BTreeSet::new()).await);
    assert_eq!(open(dir.path(), SERVER, &["east"]).of("east"), Some(&urls(&["a"])));
}

#[tokio::test]
async fn processes_with_other_slices_lose_nothing_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let slices: Vec<String> = (0..8).map(|number| format!("slice-{number}")).collect();
    // Each a process of its own, as far as the file is concerned.
    let each = slices.iter().map(|slice| open(dir.path(), SERVER, &[slice]));
    let each: Vec<_> = each.collect();
    let stores = each.iter().zip(&slices).map(|(stored, slice)| store(stored, slice, &["a"]));
    assert_eq!(futures::future::join_all(stores).await, [true; 8]);
    let names: Vec<&str> = slices.iter().map(String::as_str).collect();
    let all = open(dir.path(), SERVER, &names);
    let lost: Vec<_> = names.iter().filter(|name| all.of(name).is_none()).collect();
    assert_eq!(lost, Vec::<&&str>::new());

    fs::remove_file(all.path()).unwrap();
    assert!(store(&each[0], "slice-0", &["a"]).await, "what is lost is written again");
    assert_eq!(open(dir.path(), SERVER, &names).of("slice-0"), Some(&urls(&["a"])));
}

#[tokio::test]
async fn the_user_is_stored_too() {
    let dir = tempfile::tempdir().unwrap();
    let stored = open(dir.path(), SERVER, &["east"]);
    assert!(store(&stored, "east", &["a"]).await);
    stored.keep_user("ann".to_owned());
    stored.touched().await;
    assert!(stored.store(Urls::new(), BTreeSet::new()).await);
    let next = open(dir.path(), SERVER, &["east"]);
    assert_eq!((next.user(), next.of("east")), (Some("ann"), Some(&urls(&["a"]))));
    let other = open(dir.path(), "https://other:6443/clusters/root:kube-bind", &["east"]);
    assert_eq!(other.user(), None);
}

#[test]
fn a_file_that_cannot_be_replaced_is_better_than_none() {
    let dir = tempfile::tempdir().unwrap();
    let content = json(&[("east", &["a"])]);
    fs::write(dir.path().join(FILE), content).unwrap();
    // Nobody can write into a folder of that name, whatever rights it has.
    fs::create_dir(dir.path().join(LOCK)).unwrap();
    assert_eq!(open(dir.path(), SERVER, &["east"]).of("east"), Some(&urls(&["a"])));
    fs::write(dir.path().join(FILE), "broken").unwrap();
    let refused = Stored::open(dir.path(), SERVER, &[]).err().unwrap().to_string();
    assert!(refused.starts_with("--state-dir: cannot write in "), "{refused}");
}

/// A file of [`SERVER`].
fn json(slices: &[(&str, &[&str])]) -> String {
    let slices = slices.iter().map(|(name, names)| ((*name).to_owned(), urls(names))).collect();
    let content = Content { server: SERVER.to_owned(), slices, user: None };
    serde_json::to_string(&content).unwrap()
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
