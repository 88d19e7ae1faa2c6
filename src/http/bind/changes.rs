//! Wakes binds that wait for an object: a token that is filled, a request that is decided.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use crate::kinds::Kinds;
use crate::runtime::cache::Scope;
use crate::runtime::cluster::ClusterId;

/// Changes that one who waits may be behind. More, and it looks for itself.
const BEHIND: usize = 1024;

/// A cluster and a namespace in it.
type Place = (ClusterId, String);

/// What changed.
#[derive(Clone)]
pub struct Changes(broadcast::Sender<Arc<Place>>);

/// Somebody who waits. It misses nothing from when it was made.
pub(super) struct Waiting(broadcast::Receiver<Arc<Place>>);

impl Changes {
    /// Listens to the kinds; before these are handed to a fleet.
    #[must_use]
    pub fn of(kinds: &Kinds) -> Self {
        let (sender, _) = broadcast::channel(BEHIND);
        let tell =
            |sender: &broadcast::Sender<Arc<Place>>, scope: &Scope, namespace: Option<&str>| {
                if sender.receiver_count() > 0 {
                    let place = (scope.cluster.clone(), namespace.unwrap_or_default().to_owned());
                    // It fails where the last one has gone meanwhile.
                    let _ = sender.send(Arc::new(place));
                }
            };
        let sending = sender.clone();
        kinds.secrets.subscribe(move |_, delta| {
            let meta = delta.object().map(|object| &object.metadata);
            tell(&sending, &delta.scope, meta.and_then(|meta| meta.namespace.as_deref()));
        });
        let sending = sender.clone();
        kinds.export_requests.subscribe(move |_, delta| {
            let meta = delta.object().map(|object| &object.metadata);
            tell(&sending, &delta.scope, meta.and_then(|meta| meta.namespace.as_deref()));
        });
        Self(sender)
    }

    pub(super) fn wait(&self) -> Waiting {
        Waiting(self.0.subscribe())
    }
}

impl Waiting {
    /// Waits for a change in a namespace, until then at most.
    pub(super) async fn change(&mut self, cluster: &ClusterId, namespace: &str, until: Instant) {
        let changed = async {
            loop {
                match self.0.recv().await {
                    Ok(place) if place.0 == *cluster && place.1 == namespace => return,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => return,
                    // Nobody is left to tell anything.
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        // Being late is an answer too: the caller looks again.
        let _ = timeout_at(until, changed).await;
    }
}
