//! Brings a live object to what is wanted without touching what others put there.

use serde_json::Value;

/// Lists that belong to several writers: their items are matched by these fields, where both sides
/// are lists of objects. All other lists are wanted as they are.
const KEYED_LISTS: [(&str, &[&str]); 2] = [
    ("resources", &["group", "name"]),
    ("permissionClaims", &["group", "resource", "identityHash"]),
];

/// `live` with every field of `wanted` set to its value there. Fields and keyed list items that
/// only `live` has stay.
pub(crate) fn merge(live: &Value, wanted: &Value) -> Value {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else {
        return wanted.clone();
    };
    let mut merged = live.clone();
    for (field, value) in wanted {
        let value = match merged.get(field) {
            None => value.clone(),
            Some(old) => match (keys_of(field), old, value) {
                (Some(keys), Value::Array(old), Value::Array(new))
                    if old.iter().chain(new).all(Value::is_object) =>
                {
                    Value::Array(merge_list(keys, old, new))
                }
                (None, Value::Array(old), Value::Array(new)) if field == "rules" => {
                    Value::Array(new.iter().map(|rule| with_names(rule, old)).collect())
                }
                _ => merge(old, value),
            },
        };
        merged.insert(field.clone(), value);
    }
    Value::Object(merged)
}

/// A rule for objects of some names, with those for which another run wrote the same rule: an export of another name in
/// the same workspace keeps its rights.
fn with_names(rule: &Value, live: &[Value]) -> Value {
    let without = |rule: &Value| {
        let mut rule = rule.clone();
        let names = rule.as_object_mut().and_then(|fields| fields.remove("resourceNames"));
        (rule, names)
    };
    let (same, names) = without(rule);
    let Some(Value::Array(names)) = names else { return rule.clone() };
    let known = live.iter().map(without).find(|(other, _)| *other == same);
    let Some((_, Some(Value::Array(mut all)))) = known else { return rule.clone() };
    all.extend(names.into_iter().filter(|name| !all.contains(name)).collect::<Vec<_>>());
    let mut rule = rule.clone();
    rule["resourceNames"] = Value::Array(all);
    rule
}

fn keys_of(field: &str) -> Option<&'static [&'static str]> {
    KEYED_LISTS.iter().find(|(name, _)| *name == field).map(|(_, keys)| *keys)
}

/// Items in the order of `live`, new ones at the end.
fn merge_list(keys: &[&str], live: &[Value], wanted: &[Value]) -> Vec<Value> {
    // An absent group is the core group.
    let key = |item: &Value| -> Vec<String> {
        let text = |field: &&str| item[*field].as_str().unwrap_or_default().to_owned();
        keys.iter().map(text).collect()
    };
    let mut merged = live.to_vec();
    for item in wanted {
        match merged.iter_mut().find(|old| key(old) == key(item)) {
            Some(old) => *old = merge(old, item),
            None => merged.push(item.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_upgraded_export_is_repointed_and_keeps_what_others_added() {
        let live = json!({
            "metadata": {"name": "kube-bind.io", "resourceVersion": "7", "labels": {"team": "a"}},
            "spec": {
                "maximalPermissionPolicy": {"local": {}},
                "resources": [
                    {"group": "kube-bind.io", "name": "clusters", "schema": "v1.clusters", "storage": {"crd": {}}},
                    {"group": "other.io", "name": "clusters", "schema": "v1.other", "storage": {"crd": {}}},
                ],
                "permissionClaims": [
                    {"resource": "secrets", "verbs": ["*"]},
                    {"group": "other.io", "resource": "secrets", "identityHash": "h", "verbs": ["get"]},
                ],
            },
            "status": {"identityHash": "x"},
        });
        let wanted = json!({
            "metadata": {"name": "kube-bind.io"},
            "spec": {
                "resources": [
                    {"group": "kube-bind.io", "name": "clusters", "schema": "v2.clusters", "storage": {"crd": {}}},
                    {"group": "kube-bind.io", "name": "new", "schema": "v2.new", "storage": {"crd": {}}},
                ],
                "permissionClaims": [{"resource": "secrets", "verbs": ["*", "get"]}],
            },
        });
        let mut expected = live.clone();
        expected["spec"]["resources"][0]["schema"] = json!("v2.clusters");
        expected["spec"]["resources"]
            .as_array_mut()
            .unwrap()
            .push(wanted["spec"]["resources"][1].clone());
        expected["spec"]["permissionClaims"][0]["verbs"] = json!(["*", "get"]);
        assert_eq!(merge(&live, &wanted), expected);
        assert_eq!(merge(&expected, &wanted), expected);
    }

    #[test]
    fn rules_and_subjects_are_wanted_as_they_are() {
        let live = json!({"rules": [{"resources": ["a"], "verbs": ["*"]}, {"resources": ["b"]}]});
        let wanted = json!({"rules": [{"resources": ["a"], "verbs": ["get"]}]});
        assert_eq!(merge(&live, &wanted), wanted);
    }

    #[test]
    fn a_rule_for_names_keeps_those_of_other_exports_and_gets_no_wider() {
        let rule = |names: &[&str], verbs: &[&str]| json!({"resources": ["apiexports/content"], "verbs": verbs, "resourceNames": names});
        let (all, get) = (&["*"], &["get"]);
        let merged = |live: Value, wanted: Value| {
            merge(&json!({"rules": [live]}), &json!({"rules": [wanted]}))["rules"][0].take()
        };
        assert_eq!(merged(rule(&["a"], all), rule(&["b"], all)), rule(&["a", "b"], all));
        assert_eq!(merged(rule(&["a", "b"], all), rule(&["b"], all)), rule(&["a", "b"], all));
        assert_eq!(merged(rule(&["a"], all), rule(&["b"], get)), rule(&["b"], get));
        let for_all = json!({"resources": ["apiexports/content"], "verbs": ["*"]});
        assert_eq!(merged(for_all.clone(), rule(&["b"], all)), rule(&["b"], all));
        assert_eq!(merged(rule(&["a"], all), for_all.clone()), for_all);
    }

    #[test]
    fn the_token_in_a_secret_stays() {
        let live = json!({"data": {"token": "eA=="}, "type": "t", "metadata": {"uid": "u"}});
        let wanted = json!({"type": "t"});
        assert_eq!(merge(&live, &wanted), live);
    }
}
