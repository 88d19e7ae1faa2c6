//! How objects of ours are marked: by a label, so that nothing else is ever changed or deleted.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::keys;

/// The labels of what we make.
#[must_use]
pub fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([(keys::LABEL_MANAGED.to_owned(), keys::TRUE.to_owned())])
}

/// Metadata of what we make; without a namespace for cluster-scoped objects.
#[must_use]
pub fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}

/// Whether an object carries the label of what we made.
#[must_use]
pub fn is_labelled(meta: &ObjectMeta) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(keys::LABEL_MANAGED));
    label.is_some_and(|value| value == keys::TRUE)
}
