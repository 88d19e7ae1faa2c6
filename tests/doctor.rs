//! `docs/doctor.md` names each reason that `backend doctor` gives of its own, and no other, and each is provoked on real
//! servers.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, their helpers too")]

use std::collections::BTreeSet;
use std::path::Path;

use kube_bind_backend::doctor::Reason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The reasons that the tests on real servers look for, as they are given to those who look.
fn provoked() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(root().join("e2e/tests/suite/doctor")).unwrap() {
        let code = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for call in [".heals(", ".tells("] {
            let arguments = code.split(call).skip(1).map(str::trim_start);
            let texts = arguments.filter_map(|text| text.strip_prefix('"')?.split('"').next());
            found.extend(texts.map(str::to_owned));
        }
    }
    found
}

/// The reasons in the table of the page.
fn named() -> BTreeSet<String> {
    let page = std::fs::read_to_string(root().join("docs/doctor.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

fn given() -> BTreeSet<String> {
    Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect()
}

#[test]
fn each_reason_is_provoked_by_a_test_on_real_servers() {
    let provoked = provoked();
    assert_eq!(given().difference(&provoked).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_page_has_each_reason_and_no_other() {
    assert_eq!(named(), given());
}
