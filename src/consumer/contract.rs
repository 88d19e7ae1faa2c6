//! Contract namespaces: which namespace is one, whose it is, and which consumer came first.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::ours;
use crate::api::keys;
use crate::api::v1alpha2::ClusterBinding;

/// The contract namespace of one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Its name.
    pub namespace: String,
    /// Its UID: one of the same name that is made later is another consumer's.
    pub uid: String,
    /// UID of the `ClusterBinding` in it, if that is there.
    pub binding: Option<String>,
    /// It is being deleted, and everything in it; nothing new is made there.
    pub deleting: bool,
}

impl Contract {
    /// Reads a namespace as a contract namespace; none where it is something else.
    #[must_use]
    pub fn of(meta: &ObjectMeta, binding: Option<&ClusterBinding>) -> Option<Self> {
        (identity_of(meta).is_some() && is_ours(meta, binding)).then(|| Self {
            namespace: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            binding: binding.and_then(|binding| binding.metadata.uid.clone()),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }
}

/// An annotation of an object.
#[must_use]
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The identity that a namespace is for, under the present or the v0.5 key.
#[must_use]
pub fn identity_of(meta: &ObjectMeta) -> Option<&str> {
    annotation(meta, keys::ANNOTATION_IDENTITY)
        .or_else(|| annotation(meta, keys::ANNOTATION_IDENTITY_LEGACY))
}

/// Whether a namespace is a contract namespace of ours: by our label and the record of who bound it,
/// or, where v0.8.1 made it and set neither, by a `ClusterBinding` in it that carries the same
/// identity. An identity annotation alone is no proof.
///
/// Whoever may create namespaces with our label can still claim an identity before its owner does;
/// those are the provider's own people, never consumers.
#[must_use]
pub fn is_ours(meta: &ObjectMeta, binding: Option<&ClusterBinding>) -> bool {
    (ours::is_labelled(meta) && annotation(meta, keys::ANNOTATION_BOUND_BY).is_some())
        || binding.is_some_and(|binding| {
            let theirs = annotation(&binding.metadata, keys::ANNOTATION_IDENTITY);
            theirs.is_some() && theirs == identity_of(meta)
        })
}

/// Whether a contract namespace is the oldest of its cluster, where those are all. One that is being
/// deleted counts until it is gone: its credential still works. Of the same second the lower name is
/// the older.
#[must_use]
pub fn is_first(namespace: &str, contracts: &[&ObjectMeta]) -> bool {
    let age = |meta: &&&ObjectMeta| {
        let created = meta.creation_timestamp.as_ref().map(|at| at.0);
        (created, meta.name.clone())
    };
    let first = contracts.iter().min_by_key(age);
    first.is_some_and(|meta| meta.name.as_deref() == Some(namespace))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn meta(name: &str, second: i64) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            creation_timestamp: Some(Time(jiff::Timestamp::from_second(second).unwrap())),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn the_oldest_contract_is_the_first_and_names_decide_within_a_second() {
        let (a, b, c) = (meta("a", 2), meta("b", 1), meta("c", 1));
        let all = [&a, &b, &c];
        let first: Vec<_> = ["a", "b", "c"].map(|name| is_first(name, &all)).into();
        assert_eq!(first, [false, true, false]);
    }

    #[test]
    fn a_namespace_is_a_contract_by_its_label_or_by_a_cluster_binding_of_the_same_identity() {
        let mut namespace = meta("ns", 1);
        let annotations = namespace.annotations.get_or_insert_default();
        annotations.insert(keys::ANNOTATION_IDENTITY.into(), "me".into());
        assert_eq!(Contract::of(&namespace, None), None);
        let mut binding = ClusterBinding::default();
        let theirs = binding.metadata.annotations.get_or_insert_default();
        theirs.insert(keys::ANNOTATION_IDENTITY.into(), "me".into());
        let contract =
            Contract { namespace: "ns".into(), uid: String::new(), binding: None, deleting: false };
        assert_eq!(Contract::of(&namespace, Some(&binding)), Some(contract.clone()));
        let annotations = namespace.annotations.get_or_insert_default();
        annotations.insert(keys::ANNOTATION_BOUND_BY.into(), "namespace:team".into());
        namespace.labels = Some(ours::labels());
        assert_eq!(Contract::of(&namespace, None), Some(contract));
    }
}
