//! Compares our CRDs with the reference CRDs of v0.8.1 by structure.
//!
//! Prose and key order do not count; everything else that differs must be on the reviewed list.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{crds, plural};

/// A difference that was looked at and kept.
struct Reviewed {
    /// Plural names of the kinds, empty for all.
    kinds: &'static [&'static str],
    /// End of the path.
    path: &'static str,
    /// Why it is right.
    reason: &'static str,
}

impl Reviewed {
    fn covers(&self, plural: &str, path: &str) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&plural))
            && (path.ends_with(self.path) || path.contains(&format!("{}/", self.path)))
    }
}

const REVIEWED: &[Reviewed] = &[
    Reviewed {
        kinds: &["apiservicenamespaces"],
        path: "/properties/status/properties/conditions",
        reason: "a refused namespace says why; v0.8.1 has no place for it and stays silent",
    },
    Reviewed {
        kinds: &["apiserviceexporttemplates"],
        path: "/properties/spec/properties/scope",
        reason: "the reference repeats the same two values in an allOf; one enum means the same",
    },
    Reviewed {
        kinds: &["boundschemas"],
        path: "/properties/spec/properties/informerScope",
        reason: "the reference repeats the same two values in an allOf; one enum means the same",
    },
    Reviewed {
        kinds: &[],
        path: "/spec/conversion",
        reason: "strategy None is what the API server fills in where the reference is silent",
    },
];

/// Why the comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Our own side failed.
    #[error(transparent)]
    Generate(#[from] super::Error),
    /// A reference file cannot be read.
    #[error("reading the reference CRD {} failed; set CONTRACT_DIR to the contract's directory", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A reference file is no YAML.
    #[error("parsing the reference CRD {} failed", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The differences from the reference CRDs in `<contract>/crds` that nobody reviewed, and reviewed
/// ones that no longer exist, one line each.
pub fn with_reference(contract: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut seen = [false; REVIEWED.len()];
    for ours in crds::all()? {
        let plural = plural(&ours).to_owned();
        let path = contract.join("crds").join(format!("kube-bind.io_{plural}.yaml"));
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let theirs: Value = serde_saphyr::from_str(&text)
            .map_err(|source| Error::Parse { path, source: Box::new(source) })?;
        let mut differences = Vec::new();
        compare("", &normal(&ours), &normal(&theirs), &mut differences);
        differences.retain(|difference| {
            let reviewed = REVIEWED.iter().position(|r| r.covers(&plural, &difference.path));
            reviewed.inspect(|i| seen[*i] = true).is_none()
        });
        found.extend(differences.into_iter().map(|d| format!("{plural}: {d}")));
    }
    let unseen = REVIEWED.iter().zip(seen).filter(|(_, seen)| !seen);
    found.extend(unseen.map(|(r, _)| {
        format!("{}: no longer differs; take it off the list ({})", r.path, r.reason)
    }));
    Ok(found)
}

/// One place where two values differ.
struct Difference {
    path: String,
    ours: Option<Value>,
    theirs: Option<Value>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text =
            |value: &Option<Value>| value.as_ref().map_or("nothing".into(), Value::to_string);
        write!(f, "{}: ours {}, reference {}", self.path, text(&self.ours), text(&self.theirs))
    }
}

/// The value without prose, and with lists that are sets in order.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.iter().filter_map(normal_entry).collect()),
        Value::Array(items) => items.iter().map(normal).collect(),
        other => other.clone(),
    }
}

fn normal_entry((key, value): (&String, &Value)) -> Option<(String, Value)> {
    match (key.as_str(), value) {
        // A property may be called description; prose is text.
        ("description", Value::String(_)) => None,
        ("required" | "enum", Value::Array(items)) => {
            let mut items = items.clone();
            items.sort_by_key(Value::to_string);
            Some((key.clone(), Value::Array(items)))
        }
        _ => Some((key.clone(), normal(value))),
    }
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => compare_maps(path, a, b, found),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}/{i}"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(Difference {
            path: path.to_owned(),
            ours: Some(a.clone()),
            theirs: Some(b.clone()),
        }),
    }
}

fn compare_maps(
    path: &str,
    ours: &Map<String, Value>,
    theirs: &Map<String, Value>,
    found: &mut Vec<Difference>,
) {
    for (key, value) in ours {
        let path = format!("{path}/{key}");
        match theirs.get(key) {
            Some(other) => compare(&path, value, other, found),
            None => found.push(Difference { path, ours: Some(value.clone()), theirs: None }),
        }
    }
    for (key, value) in theirs.iter().filter(|(key, _)| !ours.contains_key(*key)) {
        let path = format!("{path}/{key}");
        found.push(Difference { path, ours: None, theirs: Some(value.clone()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(ours: &Value, theirs: &Value) -> Vec<String> {
        let mut found = Vec::new();
        compare("", &normal(ours), &normal(theirs), &mut found);
        found.into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn prose_and_the_order_of_sets_do_not_count() {
        let ours = json!({ "description": "ours", "enum": ["a", "b"], "x": { "y": 1 } });
        let theirs = json!({ "x": { "y": 1 }, "enum": ["b", "a"], "description": "theirs" });
        assert_eq!(paths(&ours, &theirs), Vec::<String>::new());
    }

    #[test]
    fn a_property_named_description_counts() {
        let ours = json!({ "properties": { "description": { "type": "string" } } });
        assert_eq!(paths(&ours, &json!({ "properties": {} })), ["/properties/description"]);
    }

    #[test]
    fn every_difference_is_named_by_its_path() {
        let ours = json!({ "a": 1, "only ours": 1, "list": [1, 2], "long": [1] });
        let theirs = json!({ "a": 2, "only theirs": 1, "list": [1, 3], "long": [1, 2] });
        assert_eq!(paths(&ours, &theirs), ["/a", "/list/1", "/long", "/only ours", "/only theirs"]);
    }

    #[test]
    fn the_crds_have_the_structure_of_the_reference() {
        let Some(contract) = std::env::var_os("CONTRACT_DIR") else {
            println!("skipped: CONTRACT_DIR is not set");
            return;
        };
        let differences = with_reference(Path::new(&contract)).unwrap();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}
