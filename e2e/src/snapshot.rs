//! The state of a cluster in a form in which two runs of the same scenario are equal.
//!
//! Left out: what differs from run to run by nature, that is versions, generations, who wrote a field, the times and
//! the bytes of Secrets. UIDs are replaced by the name of the object they belong to, so that a reference to an object
//! that is gone stays visible.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use kube::api::{ApiResource, DynamicObject};
use kube::{Client, discovery};
use serde_json::{Map, Value};

use crate::object::{api, core, crd, list, resource};

/// Fields of `metadata` that two equal objects need not share.
const VOLATILE: [&str; 5] =
    ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"];

/// Labels by which kcp marks what an `APIExport` may claim; their keys are hashes of the export.
const CLAIMED: &str = "claimed.internal.apis.kcp.io/";
/// Annotation with a digest over what other annotations say and the logical cluster.
const DIGEST: &str = "backend.kube-bind.io/marks-digest";
/// Label with the day on which the token in a Secret was used last.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";

/// Objects by `<Kind> <namespace>/<name>`.
pub type Snapshot = BTreeMap<String, Value>;

/// The kinds that the backend deals with: all of kube-bind, the core and RBAC kinds that a consumer consists of, and
/// what is exported.
pub async fn kinds(client: &Client) -> Result<Vec<ApiResource>> {
    let group = discovery::group(client, "kube-bind.io").await.context("the kinds of kube-bind")?;
    let ours = group.versioned_resources("v1alpha2").into_iter().map(|(resource, _)| resource);
    let rbac = |kind: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        resource("rbac.authorization.k8s.io", "v1", kind, &plural)
    };
    let others = [
        core("Namespace"),
        core("ServiceAccount"),
        core("Secret"),
        rbac("Role"),
        rbac("RoleBinding"),
        rbac("ClusterRole"),
        rbac("ClusterRoleBinding"),
        crd(),
    ];
    Ok(ours.chain(others).collect())
}

/// Every object of these kinds. Each of `masks` is a text that differs from run to run, and what stands for it.
pub async fn take(
    client: &Client,
    kinds: &[ApiResource],
    masks: &[(&str, &str)],
) -> Result<Snapshot> {
    let mut found = Vec::new();
    for kind in kinds {
        let listed = list(&api(client, kind, None)).await;
        let listed = listed.with_context(|| format!("listing {}", kind.plural))?;
        found.extend(listed.into_iter().map(|object| (key(&kind.kind, &object), object)));
    }
    let uids: Vec<(String, String)> = found
        .iter()
        .filter_map(|(key, object)| Some((object.metadata.uid.clone()?, format!("<uid of {key}>"))))
        .collect();
    let uids = uids.iter().map(|(uid, name)| (uid.as_str(), name.as_str()));
    // The names that stand for UIDs may hold what is masked.
    let masks: Vec<(&str, &str)> = uids.chain(masks.iter().copied()).collect();
    let masked = |text: String| {
        masks.iter().fold(
            text,
            |text, (from, to)| {
                if text.contains(from) { text.replace(from, to) } else { text }
            },
        )
    };
    let normal = |(key, object): (String, DynamicObject)| {
        let text = serde_json::to_string(&normalised(serde_json::to_value(object)?))?;
        Ok((masked(key), serde_json::from_str(&masked(text))?))
    };
    found.into_iter().map(normal).collect()
}

/// One object as it is, but for what changes when kcp marks it as claimed: to show that nobody touched it.
pub async fn exact(
    client: &Client,
    kind: &ApiResource,
    namespace: Option<&str>,
    name: &str,
) -> Result<Value> {
    let object = api(client, kind, namespace).get(name).await;
    let mut object =
        serde_json::to_value(object.with_context(|| format!("{} {name}", kind.kind))?)?;
    let metadata = object["metadata"].as_object_mut().context("no metadata")?;
    without_claims(metadata);
    metadata.retain(|field, _| !matches!(field.as_str(), "resourceVersion" | "managedFields"));
    Ok(object)
}

/// What is missing, what should not be there, and which fields differ; none if the two are equal.
#[must_use]
pub fn difference(expected: &Snapshot, seen: &Snapshot) -> Option<String> {
    let mut text = String::new();
    for (key, object) in expected {
        match seen.get(key) {
            None => _ = writeln!(text, "  missing: {key}"),
            Some(other) => fields(key, object, other, &mut text),
        }
    }
    for key in seen.keys().filter(|key| !expected.contains_key(*key)) {
        _ = writeln!(text, "  not expected: {key}");
    }
    (!text.is_empty()).then_some(text)
}

fn fields(path: &str, expected: &Value, seen: &Value, text: &mut String) {
    if let (Value::Object(expected), Value::Object(seen)) = (expected, seen) {
        let all = expected.keys().chain(seen.keys().filter(|key| !expected.contains_key(*key)));
        for key in all {
            let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
            fields(&format!("{path} .{key}"), &of(expected), &of(seen), text);
        }
    } else if expected != seen {
        _ = writeln!(text, "  {path}: {seen} instead of {expected}");
    }
}

fn key(kind: &str, object: &DynamicObject) -> String {
    let metadata = &object.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{kind} {}/{}", text(&metadata.namespace), text(&metadata.name))
}

fn normalised(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !VOLATILE.contains(&field.as_str()));
        without_claims(metadata);
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        if let Some(digest) = annotations.and_then(|all| all.get_mut(DIGEST)) {
            *digest = Value::from("<digest>");
        }
    }
    // Only Secrets have text under `data` among the kinds that are listed.
    if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
        data.values_mut().for_each(|value| *value = Value::from("<bytes>"));
    }
    without_times(&mut object);
    object
}

/// Removes what kcp adds to an object: the day on which a token was used, and labels when somebody binds an export that claims it.
fn without_claims(metadata: &mut Map<String, Value>) {
    let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) else { return };
    labels.retain(|label, _| !label.starts_with(CLAIMED) && label != LAST_USED);
    if labels.is_empty() {
        metadata.remove("labels");
    }
}

fn without_times(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("observedGeneration");
            for (field, value) in map {
                if value.is_string() && (field.ends_with("Time") || field.ends_with("Timestamp")) {
                    *value = Value::from("<time>");
                } else {
                    without_times(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(without_times),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_times_and_bytes_do_not_count() {
        let secret = json!({
            "metadata": {
                "name": "s", "uid": "1", "resourceVersion": "2", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}],
                "deletionTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"claimed.internal.apis.kcp.io/x": "y"},
                "annotations": {"backend.kube-bind.io/marks-digest": "0123456789abcdef"},
            },
            "data": {"token": "YQ=="},
            "status": {"conditions": [{"lastTransitionTime": "t", "observedGeneration": 1, "reason": "R"}]},
        });
        let expected = json!({
            "metadata": {
                "name": "s", "deletionTimestamp": "<time>",
                "annotations": {"backend.kube-bind.io/marks-digest": "<digest>"},
            },
            "data": {"token": "<bytes>"},
            "status": {"conditions": [{"lastTransitionTime": "<time>", "reason": "R"}]},
        });
        assert_eq!(normalised(secret), expected);
    }

    #[test]
    fn a_difference_names_objects_and_fields() {
        let snapshot = |objects: &[(&str, Value)]| -> Snapshot {
            objects.iter().map(|(key, object)| ((*key).to_owned(), object.clone())).collect()
        };
        let expected = snapshot(&[("A /gone", json!({})), ("A /b", json!({"c": {"d": 1}}))]);
        let seen = snapshot(&[("A /b", json!({"c": {"d": 2}, "e": 3})), ("A /new", json!({}))]);
        assert_eq!(difference(&expected, &expected), None);
        assert_eq!(
            difference(&expected, &seen).unwrap(),
            "  A /b .c .d: 2 instead of 1\n  A /b .e: 3 instead of null\n  missing: A /gone\n  not expected: A /new\n"
        );
    }
}
