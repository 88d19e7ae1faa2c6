//! What the status and the owners of an `APIServiceNamespace` become, without any I/O.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;

use crate::api::conditions::{self, Condition, NAMESPACE_READY, Severity};
use crate::api::v1alpha2::{ApiServiceExport, ApiServiceNamespace, ApiServiceNamespaceStatus};
use crate::runtime::error::shortened;

/// The owners with the exports that are not among them yet; none where nothing is missing. The further
/// ones are no controllers: there can be one only, and the konnector sets it.
pub(super) fn further_owners(
    meta: &ObjectMeta,
    exports: &[Arc<ApiServiceExport>],
) -> Option<Vec<OwnerReference>> {
    let known = meta.owner_references.as_deref().unwrap_or_default();
    let missing: Vec<OwnerReference> = exports
        .iter()
        .filter_map(|export| export.owner_ref(&()))
        .filter(|owner| known.iter().all(|known| known.uid != owner.uid))
        .collect();
    (!missing.is_empty()).then(|| [known, &missing].concat())
}

/// The status once the namespace is there; none if it says so already.
pub(super) fn provided(
    object: &ApiServiceNamespace,
    name: &str,
    now: Timestamp,
) -> Option<ApiServiceNamespaceStatus> {
    let known = object.status.clone().unwrap_or_default();
    let mut status =
        ApiServiceNamespaceStatus { namespace: Some(name.to_owned()), ..known.clone() };
    if conditions::get(&status.conditions, NAMESPACE_READY).is_some() {
        conditions::set(&mut status.conditions, Condition::ok(NAMESPACE_READY), now);
        conditions::summarize(&mut status.conditions, now);
    }
    (status != known).then_some(status)
}

/// The status while there is none; none if it says so already. A name that was given out stays.
pub(super) fn refused(
    object: &ApiServiceNamespace,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Option<ApiServiceNamespaceStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    let message = shortened(message.to_owned());
    let condition = Condition::failed(NAMESPACE_READY, Severity::Error, reason, message);
    let mut changed = conditions::set(&mut status.conditions, condition, now);
    changed |= conditions::summarize(&mut status.conditions, now);
    changed.then_some(status)
}

/// Whether the status says that there is no namespace.
pub(super) fn is_refused(status: &ApiServiceNamespaceStatus) -> bool {
    conditions::get(&status.conditions, NAMESPACE_READY).is_some()
        && !conditions::is_true(&status.conditions, NAMESPACE_READY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn export(uid: &str) -> Arc<ApiServiceExport> {
        let mut export = ApiServiceExport::default();
        export.metadata.name = Some(format!("export-{uid}"));
        export.metadata.uid = Some(uid.to_owned());
        Arc::new(export)
    }

    #[test]
    fn every_export_of_the_consumer_becomes_an_owner_once() {
        let controller =
            OwnerReference { uid: "a".into(), controller: Some(true), ..OwnerReference::default() };
        let meta = ObjectMeta {
            owner_references: Some(vec![controller.clone()]),
            ..ObjectMeta::default()
        };
        assert_eq!(further_owners(&meta, &[export("a")]), None);
        let owners = further_owners(&meta, &[export("a"), export("b")]).unwrap();
        assert_eq!(owners, [controller, export("b").owner_ref(&()).unwrap()]);
        assert_eq!(owners[1].controller, None);
    }

    #[test]
    fn a_namespace_that_is_there_is_told_in_one_field_and_once() {
        let mut object = ApiServiceNamespace::default();
        let status = provided(&object, "cluster-a-west", NOW).unwrap();
        let expected = ApiServiceNamespaceStatus {
            namespace: Some("cluster-a-west".into()),
            conditions: Vec::new(),
        };
        assert_eq!(status, expected);
        object.status = Some(status);
        assert_eq!(provided(&object, "cluster-a-west", NOW), None);
    }

    #[test]
    fn a_refusal_is_told_once_and_taken_back_when_it_heals() {
        let mut object = ApiServiceNamespace::default();
        object.status = refused(&object, "NamespaceTaken", "it is taken", NOW);
        assert_eq!(refused(&object, "NamespaceTaken", "it is taken", NOW), None);
        assert!(object.status.as_ref().is_some_and(is_refused));
        let healed = provided(&object, "west", NOW).unwrap();
        assert!(!is_refused(&healed));
        let types: Vec<_> =
            healed.conditions.iter().map(|c| (c.type_.as_str(), c.is_true())).collect();
        assert_eq!(types, [("Ready", true), (NAMESPACE_READY, true)]);
    }
}
