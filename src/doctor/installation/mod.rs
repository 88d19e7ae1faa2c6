//! What is wrong with the installation as a whole.

mod export;
mod kubernetes;
mod rights;

use super::finding::{Finding, Object, Severity};
use super::look::{Error, Look};
use super::reason::Reason;
use crate::cli::ProviderKind;

/// What is wrong with the export, or on Kubernetes with the definitions and rights; and whether anybody answered.
pub(super) async fn findings(look: &mut Look) -> Result<(Vec<Finding>, bool), Error> {
    match look.config.provider {
        ProviderKind::Kubernetes => kubernetes::findings(look).await,
        ProviderKind::Kcp => {
            let found = export::findings(look).await?;
            let answered = look.exports.iter().any(|export| is_answer(&export.read));
            Ok((found, answered || !look.clusters.is_empty()))
        }
    }
}

/// Whether a server said so, be it that it refused.
fn is_answer<T>(read: &Result<T, kube::Error>) -> bool {
    matches!(read, Ok(_) | Err(kube::Error::Api(_)))
}

/// What could not be read.
pub(super) fn unread(look: &Look) -> Vec<Finding> {
    let mut all = Vec::new();
    for why in &look.not_ready {
        let object = Object::installed("Endpoint", why.split(": ").next().unwrap_or_default());
        all.push(Finding::new(Severity::Error, Reason::NotReady, object, why.as_str()));
    }
    for (source, endpoint) in look
        .sources
        .iter()
        .flat_map(|source| look.endpoints.iter().map(move |endpoint| (source, endpoint)))
    {
        for key in source.unreadable(endpoint.id()) {
            let known = look.clusters.iter().find(|cluster| cluster.id == key.cluster);
            let Some(cluster) = known else { continue };
            let object = Object::of(cluster, source.name(), &key.namespace, &key.name);
            let message = "it cannot be decoded, so it is left out of everything; what is wrong with it is in the log of this \
                           command and of the backend: correct or delete it";
            all.push(Finding::new(Severity::Error, Reason::ObjectUnreadable, object, message));
        }
    }
    all
}
