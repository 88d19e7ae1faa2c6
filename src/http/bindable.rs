//! `GET /api/bindable-resources`: what permission claims may name (contract http.md 7). No client
//! reads it; the shape is that of the Go type, field names included.

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use serde_json::{Value, json};

/// The claimable APIs, as JSON.
#[must_use]
pub fn bindable_resources() -> Value {
    json!([of::<ConfigMap>(), of::<Secret>(), of::<ServiceAccount>()])
}

fn of<K: Resource>() -> Value {
    json!({
        "Names": {
            "plural": K::URL_PATH_SEGMENT,
            "singular": K::KIND.to_ascii_lowercase(),
            "kind": K::KIND,
        },
        "GroupVersionResource": {
            "Group": K::GROUP,
            "Version": K::VERSION,
            "Resource": K::URL_PATH_SEGMENT,
        },
        "Instance": { "metadata": {} },
        "ResourceScope": "Namespaced",
        "HasStatus": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::rights::CLAIMABLE;

    #[test]
    fn the_list_names_what_claims_may_name_in_the_words_of_the_go_backend() {
        let of = |plural: &str, singular: &str, kind: &str| {
            json!({
                "Names": { "plural": plural, "singular": singular, "kind": kind },
                "GroupVersionResource": { "Group": "", "Version": "v1", "Resource": plural },
                "Instance": { "metadata": {} },
                "ResourceScope": "Namespaced",
                "HasStatus": false,
            })
        };
        let expected = [
            of("configmaps", "configmap", "ConfigMap"),
            of("secrets", "secret", "Secret"),
            of("serviceaccounts", "serviceaccount", "ServiceAccount"),
        ];
        assert_eq!(bindable_resources(), Value::from(expected.to_vec()));
        let plurals = expected.map(|api| api["Names"]["plural"].as_str().unwrap().to_owned());
        assert_eq!(plurals, CLAIMABLE);
    }
}
