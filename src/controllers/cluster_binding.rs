//! `ClusterBinding`: whether a consumer's konnector is alive.
//!
//! Watches: ClusterBindings. Writes: the condition `Healthy` and the summary `Ready` in their
//! status, beside those of the konnector, by a merge patch with resourceVersion. Promises: `Healthy`
//! turns False at the deadline without any event; texts do not change while their cause does not,
//! so that the two writers never answer each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::api::conditions::{self, Condition, HEALTHY, Severity};
use crate::api::duration::GoDuration;
use crate::api::v1alpha2::{ClusterBinding, ClusterBindingStatus};
use crate::kinds::Kinds;
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{CallError, Retry};
use crate::runtime::fleet::Cluster;

/// A heartbeat this far in the future tells that the consumer's clock is off.
const DRIFT: SignedDuration = SignedDuration::from_secs(10);

/// No heartbeat interval is this long.
const STALE: SignedDuration = SignedDuration::from_hours(24);

/// A heartbeat that we saw change, and when. A consumer whose clock is wrong is alive all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sighting {
    heartbeat: Timestamp,
    seen: Timestamp,
}

/// Reconciles ClusterBindings.
pub(super) struct Controller {
    kinds: Arc<Kinds>,
    sightings: Mutex<HashMap<ObjKey, Sighting>>,
}

impl Controller {
    pub(super) fn new(kinds: Arc<Kinds>) -> Self {
        Self { kinds, sightings: Mutex::default() }
    }

    /// Notes the heartbeat of a binding; returns since when, by our own clock, it has been the same.
    fn sight(
        &self,
        key: &ObjKey,
        heartbeat: Timestamp,
        was_healthy: bool,
        now: Timestamp,
    ) -> Timestamp {
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        match sightings.get_mut(key) {
            Some(known) if known.heartbeat == heartbeat => known.seen,
            Some(known) => {
                *known = Sighting { heartbeat, seen: now };
                now
            }
            None => {
                // The first look after a start. One that was alive gets the benefit of the doubt: its
                // clock may be off, and its heartbeats were not seen while we were away.
                let seen = if was_healthy { now } else { heartbeat.min(now) };
                // Bindings of workspaces that are gone are never reconciled again, so nobody else drops
                // their entries; one that is dropped too early is only looked at as after a start.
                if sightings.len() == sightings.capacity() {
                    sightings.retain(|_, known| now.duration_since(known.seen) < STALE);
                }
                sightings.insert(key.clone(), Sighting { heartbeat, seen });
                seen
            }
        }
    }

    fn forget(&self, key: &ObjKey) {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Reconciler for Controller {
    type Error = CallError;

    const NAME: &'static str = "clusterbinding";

    async fn reconcile(
        &self,
        cluster: &Cluster,
        key: &ObjKey,
    ) -> Result<Option<Duration>, CallError> {
        let Some(object) = self.kinds.cluster_bindings.get(cluster, &key.namespace, &key.name)
        else {
            self.forget(key);
            return Ok(None);
        };
        if cluster.info.leaving {
            return Ok(None);
        }
        let now = Timestamp::now();
        let heartbeat = object.status.as_ref().and_then(|s| s.last_heartbeat_time.as_ref());
        let was_healthy = object
            .status
            .as_ref()
            .is_some_and(|status| conditions::is_true(&status.conditions, HEALTHY));
        let alive_since = heartbeat.map(|time| self.sight(key, time.0, was_healthy, now));
        let plan = plan(&object, alive_since, now);
        if let Some(conditions) = plan.conditions {
            let status = json!({ "conditions": conditions });
            self.kinds.cluster_bindings.patch_status(cluster, &object.metadata, status).await?;
        }
        Ok(plan.again)
    }

    fn retry(error: &CallError) -> Retry {
        error.retry()
    }
}

struct Plan {
    /// The whole list to write; none if it says so already.
    conditions: Option<Vec<Condition>>,
    /// When the answer changes by itself.
    again: Option<Duration>,
}

fn plan(object: &ClusterBinding, alive_since: Option<Timestamp>, now: Timestamp) -> Plan {
    let empty = ClusterBindingStatus::default();
    let status = object.status.as_ref().unwrap_or(&empty);
    let (healthy, again) = healthy(status, alive_since, now);
    let mut conditions = status.conditions.clone();
    let mut changed = conditions::set(&mut conditions, healthy, now);
    changed |= conditions::summarize(&mut conditions, now);
    Plan { conditions: changed.then_some(conditions), again }
}

/// The table of contract objects.md section 2, with drift meaning the future.
fn healthy(
    status: &ClusterBindingStatus,
    alive_since: Option<Timestamp>,
    now: Timestamp,
) -> (Condition, Option<Duration>) {
    let pending =
        |reason, message: &str| (Condition::failed(HEALTHY, Severity::Info, reason, message), None);
    let (Some(heartbeat), Some(alive_since)) = (&status.last_heartbeat_time, alive_since) else {
        return pending("FirstHeartbeatPending", "Waiting for first heartbeat");
    };
    let interval = status.heartbeat_interval.as_deref().unwrap_or_default();
    let parsed = GoDuration::parse_non_negative(interval);
    let interval_length = match parsed.as_ref().map(|interval| interval.to_std()) {
        Ok(length) if !length.is_zero() => length,
        _ => {
            return pending(
                "HeartbeatIntervalMissing",
                "Waiting for consumer cluster reporting its heartbeat interval",
            );
        }
    };
    let limit = interval_length.saturating_mul(2);
    let age = Duration::try_from(now.duration_since(alive_since)).unwrap_or_default();
    let Some(left) = limit.checked_sub(age).filter(|left| !left.is_zero()) else {
        let message = format!(
            "Heartbeat timeout: expected heartbeat within {}, but last one has been at {}",
            parsed.unwrap_or(GoDuration::ZERO),
            heartbeat.0
        );
        let timeout = Condition::failed(HEALTHY, Severity::Error, "HeartbeatTimeout", message);
        return (timeout, None);
    };
    // A moment past the deadline, so that one look is enough.
    let deadline = left + Duration::from_millis(50);
    let ahead = heartbeat.0.duration_since(now);
    if ahead > DRIFT {
        let drift = Condition::failed(
            HEALTHY,
            Severity::Warning,
            "HeartbeatTimeDrift",
            "Clocks of consumer cluster and service account cluster seem to be off by more than 10s",
        );
        let back = Duration::try_from(ahead.saturating_sub(DRIFT)).unwrap_or_default();
        return (drift, Some(deadline.min(back.max(Duration::from_secs(1)))));
    }
    (Condition::ok(HEALTHY), Some(deadline))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status(heartbeat: Option<i64>, interval: Option<&str>) -> ClusterBindingStatus {
        ClusterBindingStatus {
            last_heartbeat_time: heartbeat.map(|second| Time(at(second))),
            heartbeat_interval: interval.map(str::to_owned),
            ..ClusterBindingStatus::default()
        }
    }

    #[test]
    fn health_follows_the_table_of_the_contract() {
        let reason = |status: &ClusterBindingStatus, since: i64, now: i64| {
            let seen = status.last_heartbeat_time.as_ref().map(|_| at(since));
            let (condition, again) = healthy(status, seen, at(now));
            let severity = condition.severity.map(|s| s.to_string());
            (condition.reason, severity, again.map(|d| d.as_millis()))
        };
        let text = |text: &str| Some(text.to_owned());
        let hour = 3600;
        for (heartbeat, interval, since, now, expected) in [
            (None, Some("5m0s"), 0, hour, (text("FirstHeartbeatPending"), text("Info"), None)),
            (Some(hour), None, hour, hour, (text("HeartbeatIntervalMissing"), text("Info"), None)),
            (
                Some(hour),
                Some("0s"),
                hour,
                hour,
                (text("HeartbeatIntervalMissing"), text("Info"), None),
            ),
            (
                Some(hour),
                Some("soon"),
                hour,
                hour,
                (text("HeartbeatIntervalMissing"), text("Info"), None),
            ),
            (Some(hour), Some("5m0s"), hour, hour, (None, None, Some(600_050))),
            (Some(hour), Some("5m0s"), hour, hour + 599, (None, None, Some(1_050))),
            (
                Some(hour),
                Some("5m0s"),
                hour,
                hour + 600,
                (text("HeartbeatTimeout"), text("Error"), None),
            ),
            (Some(hour + 9), Some("5m0s"), hour, hour, (None, None, Some(600_050))),
            (
                Some(hour + 60),
                Some("5m0s"),
                hour,
                hour,
                (text("HeartbeatTimeDrift"), text("Warning"), Some(50_000)),
            ),
            // A consumer that lives in 1970 is alive if its heartbeat moved under our eyes.
            (Some(0), Some("5m0s"), hour, hour + 1, (None, None, Some(599_050))),
        ] {
            let status = status(heartbeat, interval);
            assert_eq!(reason(&status, since, now), expected, "{status:?} at {now}");
        }
    }

    #[test]
    fn the_text_of_a_timeout_names_interval_and_time_as_the_contract_does() {
        let (condition, _) = healthy(&status(Some(0), Some("5m0s")), Some(at(0)), at(601));
        assert_eq!(
            condition.message.as_deref(),
            Some(
                "Heartbeat timeout: expected heartbeat within 5m0s, but last one has been at \
                 1970-01-01T00:00:00Z"
            )
        );
    }

    #[test]
    fn the_konnectors_conditions_stay_and_a_second_look_writes_nothing() {
        let mut object = ClusterBinding::default();
        let mut before = status(Some(100), Some("5m0s"));
        conditions::set(&mut before.conditions, Condition::ok("SecretValid"), at(100));
        conditions::set(&mut before.conditions, Condition::ok("Ready"), at(100));
        object.status = Some(before);
        let written = plan(&object, Some(at(100)), at(101)).conditions.unwrap();
        let types: Vec<_> = written.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "Healthy", "SecretValid"]);
        object.status.as_mut().unwrap().conditions = written;
        assert_eq!(plan(&object, Some(at(100)), at(102)).conditions, None);
    }

    #[test]
    fn a_heartbeat_counts_from_when_we_saw_it_change() {
        let controller = Controller::new(Arc::default());
        let key = ObjKey::new(&crate::runtime::cluster::ClusterId::local(), "ns", "cluster");
        assert_eq!(controller.sight(&key, at(50), false, at(1000)), at(50));
        assert_eq!(controller.sight(&key, at(51), false, at(1001)), at(1001));
        assert_eq!(controller.sight(&key, at(51), false, at(1002)), at(1001));
        assert_eq!(controller.sight(&key, at(99_999), false, at(1003)), at(1003));
        let other = ObjKey { name: "other".into(), ..key };
        assert_eq!(controller.sight(&other, at(50), true, at(1000)), at(1000));
    }
}
