//! What is said on the objects themselves: by the backend, and by the konnectors of consumers.

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::finding::{Finding, Object, Severity};
use super::look::Look;
use crate::api::conditions::{Condition, ConditionStatus, HEALTHY, READY};
use crate::api::v1alpha2::Phase;
use crate::consumer::heartbeat::healthy;
use crate::runtime::fleet::Cluster;

/// What is wrong with the claims is found in the binding itself.
const CLAIMS: &str = "PermissionClaimsAccepted";

/// The objects of a cluster that say that something is wrong.
pub(super) fn findings(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let kinds = &look.kinds;
    let mut all = Vec::new();
    for object in kinds.clusters.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let of = Object::of(cluster, "Cluster", "", &object.name_any());
        let wrong = false_ones(said).filter(|condition| condition.type_ != CLAIMS);
        all.extend(wrong.map(|condition| finding(look, cluster, of.clone(), condition)));
    }
    for object in kinds.cluster_bindings.list(cluster) {
        let status = object.status.clone().unwrap_or_default();
        let namespace = object.namespace().unwrap_or_default();
        let of = Object::of(cluster, "ClusterBinding", &namespace, &object.name_any());
        // No backend need be running, so what it would say of the heartbeat is found here.
        let now = Timestamp::now();
        let since = status.last_heartbeat_time.as_ref().map(|time| time.0.min(now));
        let (healthy, _) = healthy(&status, since, now);
        let others = status.conditions.iter().filter(|one| one.type_ != HEALTHY);
        let all_said: Vec<Condition> = others.cloned().chain([healthy]).collect();
        all.extend(false_ones(&all_said).map(|one| finding(look, cluster, of.clone(), one)));
    }
    for object in kinds.exports.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let namespace = object.namespace().unwrap_or_default();
        let of = Object::of(cluster, "APIServiceExport", &namespace, &object.name_any());
        all.extend(false_ones(said).map(|one| finding(look, cluster, of.clone(), one)));
    }
    for object in kinds.export_requests.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let namespace = object.namespace().unwrap_or_default();
        let of = Object::of(cluster, "APIServiceExportRequest", &namespace, &object.name_any());
        all.extend(false_ones(said).map(|one| finding(look, cluster, of.clone(), one)));
    }
    for object in kinds.service_namespaces.list(cluster) {
        let said = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let namespace = object.namespace().unwrap_or_default();
        let of = Object::of(cluster, "APIServiceNamespace", &namespace, &object.name_any());
        all.extend(false_ones(said).map(|one| finding(look, cluster, of.clone(), one)));
    }
    for object in kinds.requests.list(cluster) {
        let Some(status) = &object.status else { continue };
        let Some(said) = status.conditions.iter().find(|one| one.type_ == READY) else { continue };
        if said.status != "False" {
            continue;
        }
        let namespace = object.namespace().unwrap_or_default();
        let of = Object::of(cluster, "BindableResourcesRequest", &namespace, &object.name_any());
        let repair = (status.phase == Phase::Failed)
            .then(|| delete(look, cluster, "bindableresourcesrequest", &of));
        all.push(Finding {
            severity: Severity::Error,
            reason: said.reason.clone(),
            object: of,
            message: said.message.clone(),
            repair,
        });
    }
    all
}

/// What is wrong, without the summary of it.
fn false_ones(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    let wrong = |one: &&Condition| one.status == ConditionStatus::False && one.type_ != READY;
    conditions.iter().filter(wrong)
}

fn finding(look: &Look, cluster: &Cluster, object: Object, condition: &Condition) -> Finding {
    use crate::api::conditions::Severity as Said;
    let severity = match condition.severity {
        Some(Said::Info) => Severity::Info,
        Some(Said::Warning) => Severity::Warning,
        _ => Severity::Error,
    };
    let message = condition.message.clone().unwrap_or_default();
    let repair = match (object.kind.as_str(), condition.reason.as_deref()) {
        // Whoever is silent for good has gone; what it left goes with its namespace.
        ("ClusterBinding", Some("HeartbeatTimeout")) if condition.type_ == HEALTHY => {
            Some(format!("{} delete namespace {}", look.kubectl(cluster), object.namespace))
        }
        ("APIServiceExportRequest", _) if is_final(look, cluster, &object) => {
            Some(delete(look, cluster, "apiserviceexportrequest", &object))
        }
        _ => in_the_way(&message).map(|(kind, namespace, name)| {
            let of = Object { namespace, name, ..object.clone() };
            delete(look, cluster, &kind, &of)
        }),
    };
    let reason = condition.reason.clone().unwrap_or_else(|| condition.type_.clone());
    Finding { severity, reason, object, message, repair }
}

fn is_final(look: &Look, cluster: &Cluster, object: &Object) -> bool {
    let request = look.kinds.export_requests.get(cluster, &object.namespace, &object.name);
    request
        .and_then(|request| request.status.clone())
        .is_some_and(|status| status.phase == Phase::Failed)
}

fn delete(look: &Look, cluster: &Cluster, kind: &str, object: &Object) -> String {
    let namespace = match object.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" --namespace={namespace}"),
    };
    format!("{}{namespace} delete {kind} {}", look.kubectl(cluster), object.name)
}

/// The object of somebody else that is in our way, as our messages begin: `<kind> [<namespace>/]<name> exists`.
fn in_the_way(message: &str) -> Option<(String, String, String)> {
    let mut words = message.split(' ');
    let (kind, name, exists) = (words.next()?, words.next()?, words.next()?);
    if exists.trim_end_matches(',') != "exists" || !KINDS.contains(&kind) {
        return None;
    }
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Some((kind.to_owned(), namespace.to_owned(), name.to_owned()))
}

/// Kinds that can be in our way, as kubectl takes them. What holds data of others is not among them.
const KINDS: [&str; 6] = [
    "apiserviceexporttemplate",
    "apiresourceschema",
    "clusterrole",
    "clusterrolebinding",
    "role",
    "rolebinding",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_our_way_is_read_off_our_own_messages_and_nobody_elses() {
        let found = |kind: &str, namespace: &str, name: &str| {
            Some((kind.to_owned(), namespace.to_owned(), name.to_owned()))
        };
        for (message, expected) in [
            (
                "apiserviceexporttemplate a-cluster exists and was not made by this backend",
                found("apiserviceexporttemplate", "", "a-cluster"),
            ),
            (
                "apiresourceschema today.cowboys exists, was not made",
                found("apiresourceschema", "", "today.cowboys"),
            ),
            ("role wild-west/star exists and was", found("role", "wild-west", "star")),
            ("secret wild-west/star exists and was", None),
            ("it exists already", None),
            ("", None),
        ] {
            assert_eq!(in_the_way(message), expected, "{message}");
        }
    }
}
