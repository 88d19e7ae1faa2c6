//! Whether the konnector of a consumer is alive (contract objects.md section 2).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::conditions::{Condition, HEALTHY, Severity};
use crate::api::duration::GoDuration;
use crate::api::v1alpha2::ClusterBindingStatus;

/// A heartbeat this far in the future tells that the consumer's clock is off.
const DRIFT: SignedDuration = SignedDuration::from_secs(10);

/// The condition, and when it changes by itself: the table of contract objects.md section 2, with drift meaning the
/// future. `alive_since` is since when, by our own clock, the heartbeat has been the same.
#[must_use]
pub fn healthy(
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
}
