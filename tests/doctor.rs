//! `docs/doctor.md` names each reason that `backend doctor` gives of its own, and no other, and each is provoked on real
//! servers.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, their helpers too")]

use std::collections::BTreeSet;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Words in quotes that are spelt like reasons.
fn words(code: &str) -> BTreeSet<String> {
    let is_reason = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphabetic())
            && word.chars().any(|c| c.is_ascii_lowercase())
    };
    code.split('"').skip(1).step_by(2).filter(is_reason).map(str::to_owned).collect()
}

/// Kinds that findings are about.
const KINDS: [&str; 9] = [
    "Endpoint",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "BoundSchema",
    "Namespace",
    "CustomResourceDefinition",
    "ApiServiceExportTemplate",
];

/// The reasons in the table of the page.
fn named() -> BTreeSet<String> {
    let page = std::fs::read_to_string(root().join("docs/doctor.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

#[test]
fn each_reason_is_provoked_by_a_test_on_real_servers() {
    let code = std::fs::read_to_string(root().join("e2e/tests/suite/doctor.rs")).unwrap();
    let provoked = words(&code);
    assert_eq!(named().difference(&provoked).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_page_has_each_reason_and_no_other() {
    let mut given = BTreeSet::new();
    for file in ["installation.rs", "services.rs", "leftovers.rs"] {
        let code = std::fs::read_to_string(root().join("src/doctor").join(file)).unwrap();
        let code = code.split("#[cfg(test)]").next().unwrap().to_owned();
        given.extend(words(&code));
    }
    given.retain(|word| !KINDS.contains(&word.as_str()) && !word.starts_with("API"));
    assert_eq!(named(), given);
}
