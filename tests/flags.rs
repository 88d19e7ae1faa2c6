//! `docs/flags.md` has every flag of the backend with its default, and `deploy/` gives no other.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, their helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Flags of `--help` with their defaults; empty where there is none.
fn helped() -> BTreeMap<String, String> {
    let help = Command::new(env!("CARGO_BIN_EXE_backend")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut flags = BTreeMap::new();
    let mut last = None;
    for line in help.lines().map(str::trim) {
        let is_flag = line.starts_with("--") || line.starts_with("-v, --");
        if is_flag && let Some((_, rest)) = line.split_once("--") {
            let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
            let name = rest.split(ends).next().unwrap_or_default().to_owned();
            flags.insert(name.clone(), String::new());
            last = Some(name);
        }
        if let (Some(name), Some((_, rest))) = (&last, line.split_once("[default: ")) {
            let default = rest.trim_end_matches(']').to_owned();
            flags.insert(name.clone(), default);
        }
    }
    flags
}

/// Rows `| `--flag` | default | … |` of the page.
fn documented() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(root().join("docs/flags.md")).unwrap();
    page.lines()
        .filter_map(|line| line.strip_prefix("| `--"))
        .map(|row| {
            let mut cells = row.split(" | ");
            let name = cells.next().unwrap().trim_end_matches('`').to_owned();
            let default = cells.next().unwrap().trim_matches('`').to_owned();
            (name, default)
        })
        .collect()
}

#[test]
fn the_page_has_every_flag_with_its_default_and_no_other() {
    let mut helped = helped();
    assert!(helped.len() > 40, "{helped:?}");
    helped.remove("help");
    helped.remove("version");
    assert_eq!(documented(), helped);
}

#[test]
fn the_deployment_gives_flags_that_there_are() {
    let deployment = std::fs::read_to_string(root().join("deploy/deployment.yaml")).unwrap();
    let given: BTreeSet<&str> = deployment
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- --"))
        .map(|flag| flag.split('=').next().unwrap())
        .collect();
    assert!(given.contains("oidc-issuer-url"), "{given:?}");
    let known = helped();
    let unknown: Vec<_> = given.into_iter().filter(|flag| !known.contains_key(*flag)).collect();
    assert_eq!(unknown, Vec::<&str>::new());
}

#[test]
fn the_kustomization_takes_every_generated_file_but_the_other_deployment() {
    let taken = std::fs::read_to_string(root().join("kustomization.yaml")).unwrap();
    let taken: BTreeSet<String> = taken
        .lines()
        .filter_map(|line| line.strip_prefix("- manifests/"))
        .map(str::to_owned)
        .collect();
    let mut generated: BTreeSet<String> = std::fs::read_dir(root().join("manifests"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(generated.remove("deployment.yaml"));
    assert_eq!(taken, generated);
}
