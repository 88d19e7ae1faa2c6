//! Conditions in the form that kube-bind uses, and the rules for changing them.
//!
//! Contract objects.md section 0: True conditions carry no reason, message or severity; the list is
//! sorted with `Ready` first; `lastTransitionTime` changes only with status, reason, severity or
//! message. Two programs write these lists, so an entry of the other writer is never touched, and
//! an unchanged list must come out byte for byte as it went in.
//!
//! `BindableResourcesRequest` uses the standard Kubernetes condition instead: [`set_standard`].

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as StandardCondition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::wire::open_string_enum;

/// Type of the summary over all other conditions.
pub const READY: &str = "Ready";
/// `ClusterBinding`: the konnector's heartbeat is fresh.
pub const HEALTHY: &str = "Healthy";
/// `APIServiceExportRequest`: the requested schemas are exported.
pub const EXPORTS_READY: &str = "ExportsReady";
/// `APIServiceExportRequest`: the permission claims are acceptable.
pub const PERMISSION_CLAIM: &str = "PermissionClaim";
/// `APIServiceExport`: the `BoundSchema`s exist and are those the export was made from.
pub const PROVIDER_IN_SYNC: &str = "ProviderInSync";
/// `APIServiceExport`: the consumer's rights are in place. Written only when they were not.
pub const RIGHTS_GRANTED: &str = "RightsGranted";
/// `APIServiceExport`: the `BoundSchema`s may follow their sources. Written only when they may not.
pub const SOURCE_IN_SYNC: &str = "SourceInSync";
/// `APIServiceExport`: the consumer reaches nothing of others. Written only where it does.
pub const ISOLATED: &str = "Isolated";
/// `APIServiceNamespace`: the service namespace can be used. Written only when it cannot.
pub const NAMESPACE_READY: &str = "NamespaceReady";

open_string_enum! {
    /// Whether the condition holds.
    pub enum ConditionStatus {
        /// It holds.
        True = "True",
        /// It does not hold.
        False = "False",
        /// Nobody could tell yet.
        Unknown = "Unknown",
    }
    schema = string
}

open_string_enum! {
    /// How bad a False condition is.
    pub enum Severity {
        /// Somebody has to act.
        Error = "Error",
        /// It may heal by itself.
        Warning = "Warning",
        /// Nothing is wrong.
        Info = "Info",
    }
    schema = string
}

/// One observation about an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, unique in its list.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// How bad it is; only when False.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// When status, reason, severity or message last changed, in whole seconds UTC.
    #[serde(deserialize_with = "crate::api::wire::time_or_epoch")]
    pub last_transition_time: Time,
    /// Why, as one word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Condition {
    fn new(type_: &str, status: ConditionStatus) -> Self {
        Self {
            type_: type_.to_owned(),
            status,
            severity: None,
            // Replaced by `set`, the only way into a list.
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            reason: None,
            message: None,
        }
    }

    /// The condition holds.
    #[must_use]
    pub fn ok(type_: &str) -> Self {
        Self::new(type_, ConditionStatus::True)
    }

    /// The condition does not hold.
    #[must_use]
    pub fn failed(
        type_: &str,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity: Some(severity),
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            ..Self::new(type_, ConditionStatus::False)
        }
    }

    /// Whether the condition holds cannot be told.
    #[must_use]
    pub fn unknown(type_: &str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            ..Self::new(type_, ConditionStatus::Unknown)
        }
    }

    /// True if the condition holds.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// Equal apart from the time. An empty text counts as none, as in Go.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        fn text(text: Option<&String>) -> &str {
            text.map_or("", String::as_str)
        }
        fn severity(severity: Option<&Severity>) -> &str {
            severity.map_or("", Severity::as_str)
        }
        self.type_ == other.type_
            && self.status == other.status
            && severity(self.severity.as_ref()) == severity(other.severity.as_ref())
            && text(self.reason.as_ref()) == text(other.reason.as_ref())
            && text(self.message.as_ref()) == text(other.message.as_ref())
    }
}

/// The condition of that type, if the list has one.
#[must_use]
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// True if the list has a condition of that type and it holds.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(Condition::is_true)
}

/// The time without its fraction: what the wire keeps. Comparing finer times would find a
/// difference in every object just read back.
#[must_use]
pub fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Puts `condition` into the list, replacing the one of its type. Returns whether that changed
/// anything but the order; if not, the old entry stays with its time.
pub fn set(conditions: &mut Vec<Condition>, condition: Condition, now: Timestamp) -> bool {
    let stamped = Condition { last_transition_time: whole_seconds(now), ..condition };
    let changed = match conditions.iter_mut().find(|c| c.type_ == stamped.type_) {
        Some(old) if old.says_the_same(&stamped) => false,
        Some(old) => {
            *old = stamped;
            true
        }
        None => {
            conditions.push(stamped);
            true
        }
    };
    sort(conditions);
    changed
}

/// Takes the condition of that type out. Returns whether there was one.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_);
    conditions.len() != before
}

/// `Ready` first, then by type; equal types keep their order.
fn sort(conditions: &mut [Condition]) {
    conditions.sort_by(|a, b| {
        (a.type_ != READY, a.type_.as_str()).cmp(&(b.type_ != READY, b.type_.as_str()))
    });
}

/// Rank of a condition for the summary, the most telling first. A False one without a known
/// severity counts as an error: better a false alarm than a hidden one.
fn rank(condition: &Condition) -> u8 {
    match (&condition.status, &condition.severity) {
        (ConditionStatus::False, Some(Severity::Warning)) => 1,
        (ConditionStatus::False, Some(Severity::Info)) => 2,
        (ConditionStatus::False, _) => 0,
        (ConditionStatus::True, _) => 3,
        (ConditionStatus::Unknown | ConditionStatus::Other(_), _) => 4,
    }
}

/// Writes the summary `Ready` from all other conditions. Returns whether it changed; without other
/// conditions nothing is written (objects.md section 0).
pub fn summarize(conditions: &mut Vec<Condition>, now: Timestamp) -> bool {
    let others = conditions.iter().filter(|c| c.type_ != READY);
    let Some(worst) = others.min_by_key(|c| (rank(c), c.type_.as_str())) else {
        return false;
    };
    let ready = if worst.is_true() {
        Condition::ok(READY)
    } else {
        Condition { type_: READY.to_owned(), ..worst.clone() }
    };
    set(conditions, ready, now)
}

/// Puts a standard Kubernetes condition into the list. Its `lastTransitionTime` changes with the
/// status only, as the Kubernetes conventions say. Returns whether anything changed.
pub fn set_standard(
    conditions: &mut Vec<StandardCondition>,
    type_: &str,
    status: &ConditionStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let mut new = StandardCondition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: whole_seconds(now),
        observed_generation: None,
    };
    let Some(old) = conditions.iter_mut().find(|c| c.type_ == type_) else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    new.observed_generation = old.observed_generation;
    let changed = *old != new;
    *old = new;
    changed
}

#[cfg(test)]
mod tests;
