//! `docs/doctor.md` names each reason that `backend doctor` gives of its own, and no other.

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

#[test]
fn the_page_has_each_reason_and_no_other() {
    let mut given = BTreeSet::new();
    for file in ["installation.rs", "services.rs", "leftovers.rs"] {
        let code = std::fs::read_to_string(root().join("src/doctor").join(file)).unwrap();
        let code = code.split("#[cfg(test)]").next().unwrap().to_owned();
        given.extend(words(&code));
    }
    given.retain(|word| !KINDS.contains(&word.as_str()) && !word.starts_with("API"));
    let page = std::fs::read_to_string(root().join("docs/doctor.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: BTreeSet<String> =
        rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect();
    assert_eq!(named, given);
}
