//! `docs/conditions.md` names each reason that the backend can give, and no other.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, their helpers too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which files of `src/` say what is wrong with a kind, and what else says so: the konnector (konnector.md 2.1 and 2.4).
const KINDS: [(&str, &[&str], &[&str]); 6] = [
    (
        "BindableResourcesRequest",
        &[
            "controllers/bindable_resources_request.rs",
            "controllers/bindable_resources_request/plan.rs",
            "onboarding.rs",
            "consumer/onboarding.rs",
        ],
        &[],
    ),
    (
        "ClusterBinding",
        &["consumer/heartbeat.rs"],
        &["ProviderSecretNotFound", "ProviderSecretInvalid", "ParseError"],
    ),
    (
        "APIServiceExportRequest",
        &[
            "controllers/export_request.rs",
            "controllers/export_request/outcome.rs",
            "rights.rs",
            "consumer/schema.rs",
        ],
        &[],
    ),
    (
        "APIServiceExport",
        &[
            "controllers/export/status.rs",
            "controllers/export/schemas.rs",
            "rights.rs",
            "consumer/schema.rs",
        ],
        &["BoundSchemasNotValid", "APIServiceBindingNotFound", "Unknown", "NA"],
    ),
    (
        "APIServiceNamespace",
        &[
            "controllers/service_namespace.rs",
            "controllers/service_namespace/plan.rs",
            "consumer/service_namespace.rs",
            "rights.rs",
        ],
        &[],
    ),
    (
        "Cluster",
        &[
            "controllers/cluster.rs",
            "controllers/api_binding/error.rs",
            "controllers/api_binding/status.rs",
            "rights.rs",
        ],
        &[],
    ),
];

/// Reasons that a file has but that do not occur with the kind: an export is there before a change to its schema, and only
/// exports and their requests are for the first consumer of a cluster.
const NEVER: [(&str, &str); 5] = [
    ("APIServiceExportRequest", "StoredVersionDropped"),
    ("APIServiceExportRequest", "FirstServedVersionDropped"),
    ("APIServiceExportRequest", "ScopeChanged"),
    ("APIServiceNamespace", "SharedClusterScope"),
    ("Cluster", "SharedClusterScope"),
];

/// Words in those files that look like reasons: types of conditions, a policy and a type of Secrets.
const OTHER_WORDS: [&str; 5] =
    ["PermissionClaimsAccepted", "UsersAllowed", "ServicesOffered", "Always", "Opaque"];

fn read(path: impl AsRef<Path>) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The code of a file of `src/`, without its tests and comments.
fn code(path: &str) -> String {
    let text = read(Path::new("src").join(path));
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The string literals that are one capitalised word.
fn words(code: &str) -> BTreeSet<String> {
    let word = |after: &str| {
        let (word, _) = after.split_once('"')?;
        let letters = word.chars().all(|c| c.is_ascii_alphabetic());
        (letters && word.starts_with(|c: char| c.is_ascii_uppercase())).then(|| word.to_owned())
    };
    code.match_indices('"').filter_map(|(at, _)| word(&code[at + 1..])).collect()
}

/// The cells of the tables under a heading.
fn rows<'a>(docs: &'a str, kind: &str) -> Vec<Vec<&'a str>> {
    let section = docs.split("\n## ").find(|section| section.lines().next() == Some(kind)).unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// All files with code, relative to `src/`.
fn sources(folder: &Path, all: &mut Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.file_name().unwrap() != "tests.rs" {
            all.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn the_tables_name_each_reason_and_no_other() {
    let docs = read("docs/conditions.md");
    for (kind, files, konnector) in KINDS {
        let mut expected: BTreeSet<String> = files.iter().flat_map(|f| words(&code(f))).collect();
        expected.extend(konnector.iter().map(|reason| (*reason).to_owned()));
        expected.retain(|word| {
            !OTHER_WORDS.contains(&word.as_str()) && !NEVER.contains(&(kind, word.as_str()))
        });
        let named = rows(&docs, kind).into_iter().map(|row| row[1].trim_matches('`').to_owned());
        let named: BTreeSet<String> = named.filter(|reason| !reason.is_empty()).collect();
        assert_eq!(named, expected, "{kind}");
    }
}

#[test]
fn each_row_has_a_condition_a_meaning_and_either_a_reason_or_true() {
    let docs = read("docs/conditions.md");
    for (kind, ..) in KINDS {
        for row in rows(&docs, kind) {
            assert_eq!(row.len(), 4, "{kind}: {row:?}");
            let complete = !row[2].is_empty() && (!row[3].is_empty() || row[0].ends_with(" True"));
            assert!(complete, "{kind}: {row:?}");
            assert!(!row[1].is_empty() || row[0].ends_with(" True"), "{kind}: {row:?}");
        }
    }
}

#[test]
fn each_type_of_condition_is_explained() {
    let docs = read("docs/conditions.md");
    let types = code("api/conditions.rs");
    let types = types.lines().filter(|line| line.starts_with("pub const ")).flat_map(words);
    let types: BTreeSet<String> = types.collect();
    assert!(types.contains("ExportsReady"), "{types:?}");
    let named = KINDS.iter().flat_map(|(kind, ..)| rows(&docs, kind));
    let named: BTreeSet<String> =
        named.map(|row| row[0].trim_end_matches(" True").trim_matches('`').to_owned()).collect();
    assert_eq!(types.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn no_file_gives_reasons_without_being_checked_here() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    let listed: Vec<&str> = KINDS.iter().flat_map(|(_, files, _)| files.iter().copied()).collect();
    let gives = |path: &String| {
        let code = code(path);
        ["fn reason(", "fn row(", "Condition::failed(", " set_standard(", "Condition::unknown("]
            .iter()
            .any(|sign| code.contains(sign))
    };
    all.retain(|path| path != "api/conditions.rs" && !listed.contains(&path.as_str()));
    all.retain(gives);
    assert_eq!(all, Vec::<String>::new());
}
