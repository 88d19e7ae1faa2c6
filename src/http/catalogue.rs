//! What is on offer: `GET /api/templates` and `/api/collections` (contract http.md 7), out of the cache.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::server::RequestId;
use crate::kinds::Kinds;
use crate::runtime::fleet::Cluster;

/// All templates of a cluster, as the contract's list. Who may see one may see all, as in v0.8.1:
/// what is bound is decided when it is bound.
pub fn templates(kinds: &Kinds, cluster: &Cluster, id: &RequestId) -> Result<Value, ApiError> {
    list(kinds.templates.list(cluster))
        .map_err(|err| ApiError::internal("Failed to retrieve templates", id, &err))
}

/// All collections of a cluster.
pub fn collections(kinds: &Kinds, cluster: &Cluster, id: &RequestId) -> Result<Value, ApiError> {
    list(kinds.collections.list(cluster))
        .map_err(|err| ApiError::internal("Failed to retrieve collections", id, &err))
}

fn list<K: Serialize>(objects: Vec<Arc<K>>) -> Result<Value, serde_json::Error> {
    let mut items = objects
        .into_iter()
        .map(|object| {
            let mut item = serde_json::to_value(&*object)?;
            // A Go client of v0.8.1 always saw the empty struct.
            if item["status"].is_null() {
                item["status"] = json!({});
            }
            Ok(item)
        })
        .collect::<Result<Vec<Value>, serde_json::Error>>()?;
    items.sort_by(|a, b| a["metadata"]["name"].as_str().cmp(&b["metadata"]["name"].as_str()));
    Ok(json!({ "metadata": {}, "items": items }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha2::{Collection, CollectionSpec};

    #[test]
    fn a_list_is_that_of_the_contract_in_the_order_of_names() {
        let collection = |name: &str| {
            let spec = CollectionSpec { description: None, templates: vec!["t".into()] };
            Arc::new(Collection::new(name, spec))
        };
        let item = |name: &str| {
            json!({
                "apiVersion": "kube-bind.io/v1alpha2", "kind": "Collection",
                "metadata": { "name": name }, "spec": { "templates": [{ "name": "t" }] }, "status": {},
            })
        };
        assert_eq!(
            list(vec![collection("b"), collection("a")]).unwrap(),
            json!({ "metadata": {}, "items": [item("a"), item("b")] })
        );
    }
}
