//! Kubernetes Events, only for what someone has to act on.
//!
//! An Event is created once per object and reason; its name says so, and an Event that exists is not
//! written again. Where a workspace does not let us write Events (the claim is optional), that is
//! said once, and conditions remain.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::conditions::whole_seconds;
use crate::kinds::{Kinds, digest_of};
use crate::runtime::cluster::ClusterId;
use crate::runtime::error::Cause;
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::create_unwatched;

/// Writes Events.
pub(super) struct Events {
    /// Goes with the workspace.
    refused: Arc<Mutex<HashSet<ClusterId>>>,
}

impl Events {
    /// Nobody has refused any. Call it before the kinds are handed to a fleet.
    pub(super) fn new(kinds: &Kinds) -> Self {
        let refused = Arc::<Mutex<HashSet<ClusterId>>>::default();
        let known = Arc::clone(&refused);
        kinds.clusters.subscribe(move |_, delta| {
            if delta.new.is_none() {
                known.lock().unwrap_or_else(PoisonError::into_inner).remove(&delta.scope.cluster);
            }
        });
        Self { refused }
    }

    /// Writes a warning about an object. Never an error: the condition says the same.
    pub(super) async fn warn(
        &self,
        cluster: &Cluster,
        about: &ObjectReference,
        reason: &str,
        message: &str,
    ) {
        let event = event(about, reason, message, Timestamp::now());
        match create_unwatched(cluster, &event).await {
            Ok(_) => {}
            Err(err) => match err.cause {
                Cause::Exists => {}
                Cause::Forbidden(_) => {
                    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    if refused.insert(cluster.id.clone()) {
                        tracing::info!(cluster = %cluster.id, path = cluster.display(),
                            "this cluster does not let us write Events; conditions say the same");
                    }
                }
                _ => tracing::debug!(%err, "an Event could not be written"),
            },
        }
    }
}

fn event(about: &ObjectReference, reason: &str, message: &str, now: Timestamp) -> Event {
    let uid = about.uid.as_deref().unwrap_or_default();
    let digest = digest_of(format!("{uid} {reason}").as_bytes());
    let mut suffix = String::new();
    for byte in digest.iter().take(8) {
        let _ = write!(suffix, "{byte:02x}");
    }
    let name = about.name.as_deref().unwrap_or_default();
    // Names of Events have at most 253 characters.
    let name: String = name.chars().take(230).collect();
    let now = whole_seconds(now);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{suffix}")),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: about.clone(),
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource { component: Some("kube-bind-backend".to_owned()), host: None }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_about_the_same_object_is_one_event() {
        let about = ObjectReference {
            name: Some("bind".into()),
            namespace: Some("team".into()),
            uid: Some("u1".into()),
            ..ObjectReference::default()
        };
        let name = |about: &ObjectReference, reason: &str, second| {
            let now = Timestamp::from_second(second).unwrap();
            event(about, reason, "text", now).metadata.name.unwrap()
        };
        assert_eq!(name(&about, "A", 1), name(&about, "A", 2));
        assert_ne!(name(&about, "A", 1), name(&about, "B", 1));
        let other = ObjectReference { uid: Some("u2".into()), ..about.clone() };
        assert_ne!(name(&about, "A", 1), name(&other, "A", 1));
    }
}
