//! The konnector's rules for conditions (contract objects.md 0): order, summary, transition times.

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

/// The conditions of an object.
pub(super) fn existing(object: &DynamicObject) -> Vec<Value> {
    object.data["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

/// A time as conditions and heartbeats have it: UTC in whole seconds.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Sets a true condition, which carries neither reason nor message, and keeps its transition time if it was true.
pub(super) fn set_true(conditions: &mut Vec<Value>, kind: &str, now: &str) {
    put(conditions, json!({"type": kind, "status": "True"}), now);
}

/// Recomputes `Ready` from all others, and sorts.
pub(super) fn summarise(conditions: &mut Vec<Value>, now: &str) {
    if let Some(ready) = summary(conditions) {
        put(conditions, ready, now);
    }
    sort(conditions);
}

/// `Ready` first, then by type.
pub(super) fn sort(conditions: &mut [Value]) {
    conditions.sort_by_key(|condition| {
        (condition["type"] != "Ready", text(condition, "type").to_owned())
    });
}

/// What `Ready` must be, without its time; nothing where there are no other conditions.
pub(super) fn summary(conditions: &[Value]) -> Option<Value> {
    let others = conditions.iter().filter(|condition| condition["type"] != "Ready");
    let first = others.min_by_key(|condition| (priority(condition), text(condition, "type")))?;
    let mut ready = json!({"type": "Ready", "status": first["status"]});
    for field in ["severity", "reason", "message"] {
        if !text(first, field).is_empty() {
            ready[field] = first[field].clone();
        }
    }
    Some(ready)
}

/// A condition without its transition time.
pub(super) fn timeless(condition: &Value) -> Map<String, Value> {
    let mut fields = condition.as_object().cloned().unwrap_or_default();
    fields.remove("lastTransitionTime");
    fields
}

fn put(conditions: &mut Vec<Value>, mut new: Value, now: &str) {
    let old = conditions.iter().position(|condition| condition["type"] == new["type"]);
    let old = old.map(|index| conditions.remove(index));
    let since = match old {
        Some(old) if timeless(&old) == timeless(&new) => old["lastTransitionTime"].clone(),
        _ => json!(now),
    };
    new["lastTransitionTime"] = since;
    conditions.push(new);
}

/// False/Error, False/Warning, False/Info, True, Unknown: the first decides.
fn priority(condition: &Value) -> u8 {
    match (text(condition, "status"), text(condition, "severity")) {
        ("False", "Error") => 0,
        ("False", "Warning") => 1,
        ("False", _) => 2,
        ("True", _) => 3,
        _ => 4,
    }
}

fn text<'a>(condition: &'a Value, field: &str) -> &'a str {
    condition[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_condition_decides_and_ready_comes_first() {
        let mut conditions = vec![
            json!({"type": "Healthy", "status": "False", "severity": "Info", "reason": "FirstHeartbeatPending",
                "message": "Waiting for first heartbeat", "lastTransitionTime": "t0"}),
            json!({"type": "SecretValid", "status": "True", "lastTransitionTime": "t0"}),
        ];
        set_true(&mut conditions, "ValidVersion", "t1");
        set_true(&mut conditions, "SecretValid", "t1");
        summarise(&mut conditions, "t1");
        assert_eq!(
            conditions,
            [
                json!({"type": "Ready", "status": "False", "severity": "Info", "reason": "FirstHeartbeatPending",
                    "message": "Waiting for first heartbeat", "lastTransitionTime": "t1"}),
                json!({"type": "Healthy", "status": "False", "severity": "Info", "reason": "FirstHeartbeatPending",
                    "message": "Waiting for first heartbeat", "lastTransitionTime": "t0"}),
                json!({"type": "SecretValid", "status": "True", "lastTransitionTime": "t0"}),
                json!({"type": "ValidVersion", "status": "True", "lastTransitionTime": "t1"}),
            ]
        );
    }

    #[test]
    fn there_is_no_summary_of_nothing() {
        assert_eq!(summary(&[json!({"type": "Ready", "status": "True"})]), None);
    }
}
