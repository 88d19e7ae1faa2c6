//! The APIBindings to our export: those that are not bound, not up to date, or do not grant what is needed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::conditions::false_ones;
use super::finding::{Finding, Object, Severity};
use super::lists;
use super::look::Look;
use super::reason::Reason;
use crate::api::claims::{API_BINDINGS, Claim, LOGICAL_CLUSTERS};
use crate::api::conditions::Condition;
use crate::api::kcp::{AcceptableClaim, ApiBinding, ApiExport, CLAIM_ACCEPTED};
use crate::api::keys;
use crate::providers::ExportRef;
use crate::runtime::cache::Scope;
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::fleet::Cluster;

/// A binding that is not as it should be.
pub(super) struct Stuck {
    pub(super) cluster: ClusterId,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) binding: Arc<ApiBinding>,
    pub(super) how: How,
}

/// What keeps a binding from serving us well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It is not bound, so the workspace is not served.
    NotBound,
    /// Of these resources it has none, or another schema than the export.
    Outdated(Vec<String>),
}

impl Stuck {
    /// The path of its workspace, where it is known.
    pub(super) fn path(&self) -> Option<&String> {
        self.binding.annotations().get(keys::KCP_PATH)
    }
}

/// The bindings to our export that are not as they should be.
pub(super) fn stuck(look: &Look) -> Vec<Stuck> {
    let mut all = Vec::new();
    for endpoint in &look.endpoints {
        let Some(served) = ExportRef::of_url(endpoint.uri()) else { continue };
        let export = look.exports.iter().find(|export| export.name == served.name);
        let export = export.and_then(|export| export.read.as_ref().ok());
        for cluster in look.kinds.api_bindings.clusters(endpoint.id()) {
            if cluster.as_str() == served.cluster && !look.config.serve_export_workspace {
                continue;
            }
            let scope = Scope { endpoint: endpoint.id(), cluster: cluster.clone() };
            for binding in look.kinds.api_bindings.list_in(&scope) {
                if let Some(how) = how(&binding, &served, export) {
                    let (cluster, endpoint) = (cluster.clone(), Arc::clone(endpoint));
                    all.push(Stuck { cluster, endpoint, binding, how });
                }
            }
        }
    }
    all
}

fn how(binding: &ApiBinding, served: &ExportRef, export: Option<&ApiExport>) -> Option<How> {
    let path = export.and_then(|export| export.annotations().get(keys::KCP_PATH));
    let reference = binding.spec.reference.export.as_ref()?;
    let found = binding.status.as_ref().and_then(|status| status.api_export_cluster_name.as_ref());
    let ours = match (found, &reference.path) {
        (Some(cluster), _) => *cluster == served.cluster,
        (None, Some(named)) => Some(named) == path || *named == served.cluster,
        (None, None) => false,
    };
    if !ours || reference.name != served.name || binding.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if !binding.is_bound() {
        return Some(How::NotBound);
    }
    let has = |group: &str, resource: &str, schema: &str| {
        binding.bound_resources().iter().any(|bound| {
            bound.group == group && bound.resource == resource && bound.schema.name == schema
        })
    };
    let wanted = export.map_or(&[][..], |export| &export.spec.resources);
    let differs = wanted.iter().filter(|of| !has(&of.group, &of.name, &of.schema));
    let differs: Vec<String> = differs.map(|of| format!("{}.{}", of.name, of.group)).collect();
    (!differs.is_empty()).then_some(How::Outdated(differs))
}

/// What is wrong with them. Their conditions are not cached, so they are listed where there is any.
pub(super) async fn findings(look: &mut Look) -> Vec<Finding> {
    let stuck = stuck(look);
    let mut endpoints: Vec<&Arc<Endpoint>> = stuck.iter().map(|one| &one.endpoint).collect();
    endpoints.sort_unstable_by_key(|endpoint| endpoint.id());
    endpoints.dedup_by_key(|endpoint| endpoint.id());
    let mut said: HashMap<(ClusterId, String), Vec<Condition>> = HashMap::new();
    for endpoint in endpoints {
        let failed = lists::objects("APIBinding", endpoint, |cluster, binding: ApiBinding| {
            let conditions = binding.status.clone().unwrap_or_default().conditions;
            said.insert((cluster, binding.name_any()), conditions);
        });
        look.not_ready.extend(failed.await);
    }
    let explained = stuck.iter().map(|one| {
        let key = (one.cluster.clone(), one.binding.name_any());
        explain(one, said.get(&key).map_or(&[][..], Vec::as_slice))
    });
    explained.collect()
}

fn explain(stuck: &Stuck, said: &[Condition]) -> Finding {
    let mut why = String::new();
    for condition in false_ones(said) {
        let message = condition.message.as_deref().unwrap_or_default();
        let _ = write!(why, "; {} is False: {message}", condition.type_);
    }
    let object = Object {
        path: stuck.path().cloned(),
        cluster: stuck.cluster.to_string(),
        ..Object::installed("APIBinding", &stuck.binding.name_any())
    };
    let status = stuck.binding.status.as_ref();
    match &stuck.how {
        How::NotBound => {
            let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("none");
            let message = format!(
                "it is not Bound (its phase: {phase}), so this workspace is not served{why}; remove what is in its way there, or \
                 delete it where it is not meant"
            );
            Finding::new(Severity::Error, Reason::NotBound, object, message)
        }
        How::Outdated(resources) => {
            let message = format!(
                "this workspace does not have the schemas of the APIExport for {}{why}; if this lasts, remove what is \
                 in the way there",
                resources.join(", ")
            );
            Finding::new(Severity::Warning, Reason::BindingOutdated, object, message)
        }
    }
}

/// What a workspace that is served does not grant.
pub(super) fn claims(look: &Look, cluster: &Cluster) -> Option<Finding> {
    let name = &cluster.info.binding;
    let object = Object::of(cluster, "APIBinding", "", name);
    if cluster.info.leaving {
        let message = "the workspace is letting go of this backend; nothing is done there any more";
        return Some(Finding::new(Severity::Info, Reason::Leaving, object, message));
    }
    let binding = look.kinds.api_bindings.get(cluster, "", name)?;
    let needed = look.config.claims();
    let missing = needed.iter().filter(|claim| binding.is_asked(claim) && !binding.grants(claim));
    let (optional, required): (Vec<&Claim>, Vec<&Claim>) =
        missing.partition(|claim| claim.optional);
    let (severity, message, missing) = if !required.is_empty() {
        let names: Vec<String> = required.iter().map(|claim| claim.display()).collect();
        let message = format!("the workspace does not grant {}", names.join(", "));
        (Severity::Error, message, required)
    } else if !optional.is_empty() {
        let without: Vec<String> = optional.iter().map(|claim| without(claim)).collect();
        let message = format!("the workspace does not grant {}", without.join(", nor "));
        (severity(&binding, &optional, look.endpoints.len()), message, optional)
    } else {
        return None;
    };
    let command = |patch: Vec<Value>| {
        let patch = format!("--patch={}", Value::Array(patch));
        let object_of_it = ("apibindings.apis.kcp.io", "", name.as_str());
        look.kubectl(&cluster.id, "patch", object_of_it, &["--type=json", &patch])
    };
    let commands: Option<Vec<String>> =
        accept(&binding, &missing).into_iter().map(command).collect();
    let repair = commands.map(|commands| commands.join(" && "));
    let reason = Reason::PermissionClaimsMissing;
    Some(Finding::new(severity, reason, object, message).repaired_by(repair))
}

/// A claim that can be done without, and what is lost then.
fn without(claim: &Claim) -> String {
    let lost = match *claim {
        API_BINDINGS => "what it binds is not offered by itself",
        LOGICAL_CLUSTERS => "its consumers are sent to its shard, not to the front proxy",
        _ => "nothing is said there in Events",
    };
    format!("{} ({lost})", claim.display())
}

/// A claim that nobody has answered, as after a new one was made, is lost by oversight; one that is rejected is not
/// wanted.
fn severity(binding: &ApiBinding, missing: &[&Claim], endpoints: usize) -> Severity {
    let is_answered =
        |claim: &Claim| binding.spec.permission_claims.iter().any(|known| is_about(known, claim));
    let counts =
        |claim: &Claim| *claim == API_BINDINGS || (*claim == LOGICAL_CLUSTERS && endpoints > 1);
    let lost = missing.iter().any(|claim| counts(claim) && !is_answered(claim));
    if lost { Severity::Warning } else { Severity::Info }
}

fn is_about(known: &AcceptableClaim, claim: &Claim) -> bool {
    let known = &known.claim.claim;
    known.group == claim.group && known.resource == claim.resource
}

/// The JSON patches that make a binding accept claims, one after the other. They count on the places in its list, so the
/// first fails where the binding has changed since.
fn accept(binding: &ApiBinding, claims: &[&Claim]) -> Vec<Vec<Value>> {
    let known = &binding.spec.permission_claims;
    let place = |at: usize| format!("/spec/permissionClaims/{at}");
    // kcp lets nobody change a selector, so that a claim accepted for some objects is taken out first, and added after that.
    let mut removals = Vec::new();
    let mut operations = Vec::new();
    for claim in claims {
        let value = json!({
            "group": claim.group, "resource": claim.resource, "verbs": ["*"],
            "selector": { "matchAll": true }, "state": CLAIM_ACCEPTED,
        });
        let at = known.iter().position(|one| is_about(one, claim));
        operations.push(match at {
            Some(at) if known[at].claim.selector.match_all => {
                json!({ "op": "replace", "path": place(at), "value": value })
            }
            Some(at) => {
                removals.push(at);
                json!({ "op": "add", "path": "/spec/permissionClaims/-", "value": value })
            }
            None if known.is_empty() && operations.is_empty() => {
                json!({ "op": "add", "path": "/spec/permissionClaims", "value": [value] })
            }
            None => json!({ "op": "add", "path": "/spec/permissionClaims/-", "value": value }),
        });
    }
    let unchanged = binding.metadata.generation.into_iter().map(
        |generation| json!({ "op": "test", "path": "/metadata/generation", "value": generation }),
    );
    if removals.is_empty() {
        return vec![unchanged.chain(operations).collect()];
    }
    // Replacements come before what they would be moved by; of removals the last place comes first.
    let (replace, add): (Vec<Value>, Vec<Value>) =
        operations.into_iter().partition(|operation| operation["op"] == "replace");
    removals.sort_unstable_by(|a, b| b.cmp(a));
    let remove = removals.into_iter().map(|at| json!({ "op": "remove", "path": place(at) }));
    vec![unchanged.chain(replace).chain(remove).collect(), add]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::claims::CLAIMS;

    fn binding(spec: &Value, status: &Value) -> ApiBinding {
        serde_json::from_value(json!({
            "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
            "metadata": { "name": "kube-bind.io", "generation": 3 }, "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn of(resources: &[&str]) -> Vec<&'static Claim> {
        CLAIMS.iter().filter(|claim| resources.contains(&claim.resource)).collect()
    }

    #[test]
    fn a_patch_accepts_what_is_rejected_adds_what_is_not_there_and_fails_where_that_changed() {
        let binding = binding(
            &json!({ "permissionClaims": [
                { "resource": "secrets", "verbs": ["*"], "state": "Rejected",
                  "selector": { "matchAll": true } },
            ]}),
            &json!({}),
        );
        let value = |resource: &str| {
            json!({ "group": "", "resource": resource, "verbs": ["*"],
                    "selector": { "matchAll": true }, "state": "Accepted" })
        };
        assert_eq!(
            accept(&binding, &of(&["secrets", "namespaces"])),
            [[
                json!({ "op": "test", "path": "/metadata/generation", "value": 3 }),
                json!({ "op": "add", "path": "/spec/permissionClaims/-", "value": value("namespaces") }),
                json!({ "op": "replace", "path": "/spec/permissionClaims/0", "value": value("secrets") }),
            ]]
        );
    }

    #[test]
    fn a_claim_accepted_for_some_objects_is_taken_out_and_added_by_a_second_patch() {
        let some = |resource: &str, selector: Value| json!({ "resource": resource, "verbs": ["*"], "state": "Accepted", "selector": selector });
        let labels = json!({ "matchLabels": { "team": "a" } });
        let binding = binding(
            &json!({ "permissionClaims": [
                some("secrets", labels.clone()),
                some("events", json!({ "matchAll": true })),
                some("namespaces", labels),
            ]}),
            &json!({}),
        );
        let value = |resource: &str| {
            json!({ "group": "", "resource": resource, "verbs": ["*"],
                    "selector": { "matchAll": true }, "state": "Accepted" })
        };
        let add = |resource: &str| json!({ "op": "add", "path": "/spec/permissionClaims/-", "value": value(resource) });
        let mut patches = accept(&binding, &of(&["secrets", "namespaces", "events"]));
        let added = patches.pop();
        assert_eq!(added, Some(vec![add("namespaces"), add("secrets")]));
        assert_eq!(
            patches,
            [[
                json!({ "op": "test", "path": "/metadata/generation", "value": 3 }),
                json!({ "op": "replace", "path": "/spec/permissionClaims/1", "value": value("events") }),
                json!({ "op": "remove", "path": "/spec/permissionClaims/2" }),
                json!({ "op": "remove", "path": "/spec/permissionClaims/0" }),
            ]]
        );
    }

    #[test]
    fn what_can_be_done_without_is_a_note_unless_nobody_answered_and_something_is_lost() {
        let rejected = |resource: &str| {
            let claim = of(&[resource])[0];
            json!({ "permissionClaims": [{
                "group": claim.group, "resource": resource, "verbs": ["*"], "state": "Rejected",
                "selector": { "matchAll": true },
            }]})
        };
        let nothing = json!({});
        for (spec, claim, endpoints, expected) in [
            (nothing.clone(), "apibindings", 1, Severity::Warning),
            (rejected("apibindings"), "apibindings", 1, Severity::Info),
            (nothing.clone(), "logicalclusters", 1, Severity::Info),
            (nothing.clone(), "logicalclusters", 2, Severity::Warning),
            (rejected("logicalclusters"), "logicalclusters", 2, Severity::Info),
            (nothing.clone(), "events", 2, Severity::Info),
        ] {
            let binding = binding(&spec, &json!({}));
            assert_eq!(severity(&binding, &of(&[claim]), endpoints), expected, "{claim} {spec}");
        }
    }

    #[test]
    fn a_binding_is_stuck_where_it_is_ours_and_not_bound_or_has_other_schemas() {
        let served = ExportRef { cluster: "exp0rt".into(), name: "kube-bind.io".into() };
        let export: ApiExport = serde_json::from_value(json!({
            "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIExport",
            "metadata": { "name": "kube-bind.io", "annotations": { "kcp.io/path": "root:kube-bind" } },
            "spec": { "resources": [{
                "group": "kube-bind.io", "name": "clusters", "schema": "v2.clusters.kube-bind.io",
                "storage": { "crd": {} },
            }]},
        }))
        .unwrap();
        let found = |path: &str, cluster: Option<&str>, phase: &str, schema: &str| {
            let spec =
                json!({ "reference": { "export": { "path": path, "name": "kube-bind.io" } } });
            let status = json!({ "phase": phase, "apiExportClusterName": cluster, "boundResources": [{
                "group": "kube-bind.io", "resource": "clusters", "schema": { "name": schema },
            }]});
            how(&binding(&spec, &status), &served, Some(&export))
        };
        let (path, new, old) = ("root:kube-bind", "v2.clusters.kube-bind.io", "v1.clusters");
        let outdated = || Some(How::Outdated(vec!["clusters.kube-bind.io".to_owned()]));
        assert_eq!(found(path, Some("exp0rt"), "Bound", new), None);
        assert_eq!(found(path, Some("exp0rt"), "Bound", old), outdated());
        assert_eq!(found(path, Some("exp0rt"), "Binding", old), Some(How::NotBound));
        assert_eq!(found(path, None, "Binding", old), Some(How::NotBound));
        assert_eq!(found("root:other", None, "Binding", old), None);
        assert_eq!(found("root:other", Some("other"), "Binding", old), None);
    }
}
