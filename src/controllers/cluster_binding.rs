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

use crate::api::conditions::{self, Condition, HEALTHY};
use crate::api::v1alpha2::{ClusterBinding, ClusterBindingStatus};
use crate::consumer::heartbeat::healthy;
use crate::kinds::Kinds;
use crate::runtime::cluster::ObjKey;
use crate::runtime::controller::Reconciler;
use crate::runtime::error::{CallError, Retry};
use crate::runtime::fleet::Cluster;

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
