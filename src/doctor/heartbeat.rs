//! Whether a consumer reports, as far as that can be told without having watched it.

use jiff::{SignedDuration, Timestamp};

use super::finding::Severity;
use crate::api::conditions::{self, Condition, ConditionStatus, HEALTHY};
use crate::api::v1alpha2::{ClusterBinding, ClusterBindingStatus};
use crate::consumer::heartbeat::healthy;

/// What is to be said of a consumer's heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) severity: Severity,
    pub(super) reason: String,
    pub(super) message: String,
    /// The consumer has gone, as far as anybody can tell.
    pub(super) for_good: bool,
}

/// Whoever is silent for so long is not down for maintenance.
const FOR_GOOD: SignedDuration = SignedDuration::from_hours(24);

/// No backend need be running, so what one would say of the heartbeat is found here; none where all is well. The clock of
/// the consumer may be wrong, and only who watched its heartbeats can tell: what a backend found alive is never more than
/// a note, and gone is only what a backend, too, found silent.
pub(super) fn silence(binding: &ClusterBinding, now: Timestamp) -> Option<Silence> {
    let none = ClusterBindingStatus::default();
    let status = binding.status.as_ref().unwrap_or(&none);
    let last = status.last_heartbeat_time.as_ref().map(|time| time.0.min(now));
    let (found, _) = healthy(status, last, now);
    if found.status != ConditionStatus::False {
        return None;
    }
    let stored = conditions::get(&status.conditions, HEALTHY);
    let was_alive = stored.is_some_and(Condition::is_true);
    let was_silent = stored.is_some_and(|stored| stored.reason == found.reason);
    let severity = Severity::of(&found);
    let (reason, mut message) =
        (found.reason.unwrap_or(found.type_), found.message.unwrap_or_default());
    let is_long = |since: Timestamp| now.duration_since(since) > FOR_GOOD;
    if last.is_none() {
        let bound = binding.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let Some(bound) = bound.filter(|bound| is_long(*bound)) else {
            return Some(Silence { severity, reason, message, for_good: false });
        };
        let message = format!(
            "no konnector has reported since the consumer bound at {bound}; look for it in the consumer's cluster, or end the \
             consumer by deleting the namespace of this object"
        );
        return Some(Silence { severity: Severity::Warning, reason, message, for_good: false });
    }
    let timeout = reason == "HeartbeatTimeout";
    let for_good = timeout && was_silent && last.is_some_and(is_long);
    let severity = if timeout && was_alive { Severity::Info } else { severity };
    if timeout && was_alive {
        message.push_str("; the backend that looked last found it alive");
    }
    if for_good {
        message.push_str("; if this consumer is gone for good, end it with all that it has here");
    }
    Some(Silence { severity, reason, message, for_good })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(status: &Value) -> Option<(Severity, bool)> {
        let now: Timestamp = "2026-06-10T12:00:00Z".parse().unwrap();
        let binding = json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "ClusterBinding",
            "metadata": { "name": "cluster", "creationTimestamp": status["bound"] },
            "spec": {
                "kubeconfigSecretRef": { "name": "kubeconfig", "key": "kubeconfig" },
                "providerPrettyName": "the provider",
            },
            "status": status,
        });
        let binding: ClusterBinding = serde_json::from_value(binding).unwrap();
        silence(&binding, now).map(|silence| (silence.severity, silence.for_good))
    }

    #[test]
    fn a_consumer_is_gone_only_where_a_backend_found_it_silent_and_for_a_day() {
        let timeout = Some("HeartbeatTimeout");
        for (last, healthy, reason, expected) in [
            ("2026-06-10T11:58:00Z", "True", None, None),
            ("2026-06-10T11:40:00Z", "True", None, Some((Severity::Info, false))),
            ("2026-06-01T00:00:00Z", "True", None, Some((Severity::Info, false))),
            ("2026-06-10T11:40:00Z", "False", timeout, Some((Severity::Error, false))),
            ("2026-06-01T00:00:00Z", "False", timeout, Some((Severity::Error, true))),
            ("2026-06-01T00:00:00Z", "Unknown", None, Some((Severity::Error, false))),
        ] {
            let status = json!({
                "bound": "2026-06-01T00:00:00Z",
                "lastHeartbeatTime": last, "heartbeatInterval": "5m",
                "conditions": [{ "type": "Healthy", "status": healthy, "reason": reason,
                    "lastTransitionTime": last }],
            });
            assert_eq!(found(&status), expected, "{last} {healthy}");
        }
    }

    #[test]
    fn a_consumer_that_never_reported_is_a_note_for_a_day_and_then_a_warning() {
        for (bound, expected) in
            [("2026-06-10T11:00:00Z", Severity::Info), ("2026-06-09T11:00:00Z", Severity::Warning)]
        {
            assert_eq!(found(&json!({ "bound": bound })), Some((expected, false)), "{bound}");
        }
    }
}
