//! What is said on the objects themselves: by the backend, and by the konnectors of consumers.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::finding::{Finding, Object, Severity};
use super::look::Look;
use crate::api::conditions::{self, Condition, ConditionStatus, HEALTHY, READY};
use crate::api::v1alpha2::{ClusterBindingStatus, Phase};
use crate::consumer::heartbeat::healthy;
use crate::consumer::ours;
use crate::consumer::rights::ExportName;
use crate::runtime::fleet::Cluster;

/// What is wrong with the claims is found in the binding itself.
const CLAIMS: &str = "PermissionClaimsAccepted";

/// The objects of a cluster that say that something is wrong.
pub(super) fn findings(look: &Look, cluster: &Cluster) -> Vec<Finding> {
    let kinds = &look.kinds;
    let mut all = Vec::new();
    // Nothing is done there any more, so nothing is wrong with what is left.
    if cluster.info.leaving {
        return all;
    }
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
        let others: Vec<Condition> =
            status.conditions.iter().filter(|one| one.type_ != HEALTHY).cloned().collect();
        all.extend(false_ones(&others).map(|one| finding(look, cluster, of.clone(), one)));
        let is_contract = kinds.contract(cluster, &namespace).is_some();
        all.extend(silence(&status, Timestamp::now()).map(|silence| {
            let gone = is_contract && silence.for_good;
            let end = ("namespace", "", namespace.as_str());
            Finding {
                severity: silence.severity,
                reason: silence.reason,
                object: of,
                message: silence.message,
                repair: gone.then(|| look.kubectl(cluster, "delete", end, &[])).flatten(),
            }
        }));
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
            .then(|| delete(look, cluster, "bindableresourcesrequest", &of))
            .flatten();
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
    let severity = severity(condition);
    let message = condition.message.clone().unwrap_or_default();
    let repair = if object.kind == "APIServiceExportRequest" && is_final(look, cluster, &object) {
        delete(look, cluster, "apiserviceexportrequest", &object)
    } else {
        in_the_way(&message)
            .filter(|found| stands_in_the_way(look, cluster, &object, found))
            .and_then(|(kind, namespace, name)| {
                look.kubectl(cluster, "delete", (&kind, &namespace, &name), &[])
            })
    };
    let reason = condition.reason.clone().unwrap_or_else(|| condition.type_.clone());
    Finding { severity, reason, object, message, repair }
}

/// What is to be said of a consumer's heartbeat.
#[derive(Debug, PartialEq, Eq)]
struct Silence {
    severity: Severity,
    reason: String,
    message: String,
    /// The consumer has gone, as far as anybody can tell.
    for_good: bool,
}

/// Whoever is silent for so long is not down for maintenance.
const FOR_GOOD: SignedDuration = SignedDuration::from_hours(24);

/// No backend need be running, so what one would say of the heartbeat is found here. The clock of the consumer may be
/// wrong, and only who watched its heartbeats can tell: what a backend found alive is never more than a note, and
/// gone is only what a backend, too, found silent.
fn silence(status: &ClusterBindingStatus, now: Timestamp) -> Option<Silence> {
    let last = status.last_heartbeat_time.as_ref().map(|time| time.0.min(now));
    let (found, _) = healthy(status, last, now);
    if found.status != ConditionStatus::False {
        return None;
    }
    let stored = conditions::get(&status.conditions, HEALTHY);
    let was_alive = stored.is_some_and(Condition::is_true);
    let was_silent = stored.is_some_and(|stored| stored.reason == found.reason);
    let (severity, mut message) = (severity(&found), found.message.unwrap_or_default());
    let reason = found.reason.unwrap_or(found.type_);
    let timeout = reason == "HeartbeatTimeout";
    let for_good =
        timeout && was_silent && last.is_some_and(|last| now.duration_since(last) > FOR_GOOD);
    let severity = if timeout && was_alive { Severity::Info } else { severity };
    if timeout && was_alive {
        message.push_str("; the backend that looked last found it alive");
    }
    if for_good {
        message.push_str("; if this consumer is gone for good, end it with all that it has here");
    }
    Some(Silence { severity, reason, message, for_good })
}

fn severity(condition: &Condition) -> Severity {
    use crate::api::conditions::Severity as Said;
    match condition.severity {
        Some(Said::Info) => Severity::Info,
        Some(Said::Warning) => Severity::Warning,
        _ => Severity::Error,
    }
}

fn is_final(look: &Look, cluster: &Cluster, object: &Object) -> bool {
    let request = look.kinds.export_requests.get(cluster, &object.namespace, &object.name);
    request
        .and_then(|request| request.status.clone())
        .is_some_and(|status| status.phase == Phase::Failed)
}

fn delete(look: &Look, cluster: &Cluster, kind: &str, object: &Object) -> Option<String> {
    look.kubectl(cluster, "delete", (kind, &object.namespace, &object.name), &[])
}

/// Whether something is in our way as a condition has it. Consumers write conditions, too, so of what they can be about
/// only an object counts that is there, is not ours, and has a name that we want for one of this consumer's exports.
fn stands_in_the_way(look: &Look, cluster: &Cluster, on: &Object, found: &InTheWay) -> bool {
    let (kind, namespace, name) = found;
    if on.kind == "Cluster" {
        // Only the people of the workspace write there besides us.
        return true;
    }
    let is_there = look.rights_in(cluster).any(|listed| {
        let meta = &listed.metadata;
        listed.kind.to_lowercase() == *kind
            && meta.namespace.as_deref().unwrap_or_default() == namespace
            && meta.name.as_deref() == Some(name)
            && !ours::is_labelled(meta)
    });
    let exports = look.kinds.exports.list_namespace(cluster, &on.namespace);
    let requests = look.kinds.export_requests.list_namespace(cluster, &on.namespace);
    let names = exports.iter().map(|one| one.name_any());
    let mut names = names.chain(requests.iter().map(|one| one.name_any()));
    is_there
        && names.any(|export| {
            let export = ExportName::new(&on.namespace, &export);
            match namespace.as_str() {
                "" => *name == export.cluster_role(),
                _ => *name == export.role(),
            }
        })
}

/// Kind, namespace and name of an object.
type InTheWay = (String, String, String);

/// The object of somebody else that is in our way, as our messages begin: `<kind> [<namespace>/]<name> exists`.
fn in_the_way(message: &str) -> Option<InTheWay> {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_consumer_is_gone_only_where_a_backend_found_it_silent_and_for_a_day() {
        let now: Timestamp = "2026-06-10T12:00:00Z".parse().unwrap();
        let silence = |last: &str, healthy: &str, reason: Option<&str>| {
            let status = json!({
                "lastHeartbeatTime": last, "heartbeatInterval": "5m",
                "conditions": [{ "type": "Healthy", "status": healthy, "reason": reason,
                    "lastTransitionTime": last }],
            });
            let status: ClusterBindingStatus = serde_json::from_value(status).unwrap();
            silence(&status, now).map(|silence| (silence.severity, silence.for_good))
        };
        let timeout = Some("HeartbeatTimeout");
        for (last, healthy, reason, expected) in [
            ("2026-06-10T11:58:00Z", "True", None, None),
            ("2026-06-10T11:40:00Z", "True", None, Some((Severity::Info, false))),
            ("2026-06-01T00:00:00Z", "True", None, Some((Severity::Info, false))),
            ("2026-06-10T11:40:00Z", "False", timeout, Some((Severity::Error, false))),
            ("2026-06-01T00:00:00Z", "False", timeout, Some((Severity::Error, true))),
            ("2026-06-01T00:00:00Z", "Unknown", None, Some((Severity::Error, false))),
        ] {
            assert_eq!(silence(last, healthy, reason), expected, "{last} {healthy}");
        }
    }

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
