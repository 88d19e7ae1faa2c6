//! All workspaces that bound an APIExport of kcp.
//!
//! Watches: the APIExportEndpointSlices in the export's workspace (`slices`), and through each endpoint the
//! APIBindings of the workspaces behind it. Writes: nothing but the file of the last known endpoints (`stored`). Promises: a workspace is engaged when
//! its APIBinding to our export is bound, with what it does not let us do; it is never taken for
//! deleted because a shard or an endpoint is away.

mod slices;
mod stored;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use kube::{Config, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use self::slices::Slices;
pub use self::stored::{StateError, Stored};
use super::{Provider, ProviderError};
use crate::api::claims::Claim;
use crate::api::kcp::ApiBinding;
use crate::api::keys;
use crate::runtime::cache::Delta;
use crate::runtime::fleet::{ClusterInfo, Fleet, Source};
use crate::runtime::kind::Kind;
use crate::runtime::metrics::Metrics;
use crate::runtime::watch::Watched;

/// The export that an endpoint serves, as its URL says: `…/services/apiexport/<cluster>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRef {
    /// The logical cluster of the export.
    pub cluster: String,
    /// Its name.
    pub name: String,
}

impl ExportRef {
    /// Reads it off the URL of a virtual workspace.
    #[must_use]
    pub fn of_url(url: &Uri) -> Option<Self> {
        let mut segments = url.path().trim_matches('/').split('/');
        let found = (segments.next(), segments.next(), segments.next(), segments.next());
        match found {
            (Some("services"), Some("apiexport"), Some(cluster), Some(name)) => {
                Some(Self { cluster: cluster.to_owned(), name: name.to_owned() })
            }
            _ => None,
        }
    }

    fn is_bound_by(&self, binding: &ApiBinding) -> bool {
        let export = binding.spec.reference.export.as_ref();
        let status = binding.status.as_ref();
        export.is_some_and(|export| export.name == self.name)
            && status.and_then(|status| status.api_export_cluster_name.as_deref())
                == Some(self.cluster.as_str())
    }
}

/// What a workspace's APIBindings mean for us: none if it is not to be served.
#[must_use]
pub fn engagement(
    export: &ExportRef,
    claims: &[Claim],
    bindings: &[Arc<ApiBinding>],
) -> Option<ClusterInfo> {
    // Several APIBindings to one export cannot be bound at once: the second conflicts.
    let binding =
        bindings.iter().find(|binding| export.is_bound_by(binding) && binding.is_bound())?;
    let required = claims.iter().filter(|claim| !claim.optional && !binding.grants(claim));
    let (missing, unasked): (Vec<&Claim>, Vec<&Claim>) =
        required.partition(|claim| binding.is_asked(claim));
    let names = |claims: Vec<&Claim>| {
        let mut names: Vec<String> = claims.into_iter().map(Claim::display).collect();
        names.sort();
        names
    };
    Some(ClusterInfo {
        path: binding.annotations().get(keys::KCP_PATH).cloned(),
        leaving: binding.metadata.deletion_timestamp.is_some(),
        missing: names(missing),
        unasked: names(unasked),
        binding: binding.name_any(),
    })
}

pub(super) struct Kcp {
    fixed: Option<Uri>,
    slices: Slices,
    bindings: Arc<Kind<ApiBinding>>,
}

impl Kcp {
    pub(super) fn new(
        config: Config,
        fixed: Option<Uri>,
        slices: Vec<String>,
        state_dir: Option<&Path>,
        claims: Vec<Claim>,
        serve_export: bool,
        bindings: Arc<Kind<ApiBinding>>,
    ) -> Result<Self, StateError> {
        let said = Mutex::default();
        let engage = Engage { bindings: Arc::downgrade(&bindings), claims, serve_export, said };
        bindings.subscribe(move |fleet, delta| engage.changed(fleet, delta));
        // With a fixed endpoint no slice is read, and nothing is stored.
        let state_dir = state_dir.filter(|_| fixed.is_none());
        Ok(Self { fixed, slices: Slices::new(config, slices, state_dir)?, bindings })
    }
}

impl Provider for Kcp {
    fn sources(&self, metrics: &Arc<Metrics>) -> Vec<Arc<dyn Source>> {
        vec![Watched::new(Arc::clone(&self.bindings), Arc::clone(metrics))]
    }

    fn stored(&self) -> Option<Arc<Stored>> {
        self.slices.stored().cloned()
    }

    fn run(
        self: Arc<Self>,
        fleet: Arc<Fleet>,
        metrics: Arc<Metrics>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Result<(), ProviderError>> {
        async move {
            if let Some(url) = &self.fixed {
                fleet.set_endpoints(vec![self.slices.endpoint(url)]).await?;
                fleet.discovered();
                cancel.cancelled().await;
                return Ok(());
            }
            tokio::select! {
                () = cancel.cancelled() => Ok(()),
                ended = self.slices.follow(&fleet, &metrics) => ended,
            }
        }
        .boxed()
    }
}

/// Turns changes of APIBindings into engaged clusters.
struct Engage {
    bindings: std::sync::Weak<Kind<ApiBinding>>,
    claims: Vec<Claim>,
    serve_export: bool,
    /// Claims of which it was said that the export does not make them.
    said: Mutex<BTreeSet<String>>,
}

impl Engage {
    /// Says once what the export would have to claim for what the flags ask for and can be done without.
    fn say_unasked(&self, info: &ClusterInfo, bindings: &[Arc<ApiBinding>]) {
        let own = bindings.iter().find(|binding| binding.name_any() == info.binding);
        let Some(own) = own else { return };
        let unasked = self.claims.iter().filter(|claim| claim.optional && !own.is_asked(claim));
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in unasked.map(Claim::display) {
            if said.insert(claim.clone()) {
                tracing::info!(
                    claim,
                    "the APIExport does not claim this, so what needs it is left out; to have it, run `backend init` with \
                     the flags of this backend, then accept the claim in the workspaces"
                );
            }
        }
    }

    fn changed(&self, fleet: &Arc<Fleet>, delta: &Delta<ApiBinding>) {
        let Some(kind) = self.bindings.upgrade() else {
            return;
        };
        let Some(endpoint) = fleet.endpoint(delta.scope.endpoint) else {
            return;
        };
        let Some(export) = ExportRef::of_url(endpoint.uri()) else {
            return;
        };
        let cluster = &delta.scope.cluster;
        if cluster.as_str() == export.cluster && !self.serve_export {
            return;
        }
        let bindings = kind.list_in(&delta.scope);
        if let Some(info) = engagement(&export, &self.claims, &bindings) {
            self.say_unasked(&info, &bindings);
            fleet.engage(endpoint.id(), cluster, info);
            return;
        }
        let served = fleet.engaged(endpoint.id(), cluster);
        // What cannot be read is not known to be gone.
        if !served.is_some_and(|was| kind.is_unreadable(&delta.scope, "", &was.binding)) {
            fleet.disengage(endpoint.id(), cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CLAIMS: &[Claim] = &[
        Claim {
            group: "",
            resource: "secrets",
            verbs: &["get", "create"],
            optional: false,
            kcp_only: false,
        },
        Claim {
            group: "",
            resource: "events",
            verbs: &["create"],
            optional: true,
            kcp_only: false,
        },
    ];

    fn export() -> ExportRef {
        ExportRef { cluster: "exp0rt".into(), name: "kube-bind.io".into() }
    }

    fn binding(phase: &str, export_cluster: &str, verbs: &Value, state: &str) -> Arc<ApiBinding> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "apis.kcp.io/v1alpha2",
                "kind": "APIBinding",
                "metadata": { "name": "kube-bind.io", "annotations": { "kcp.io/path": "root:a" } },
                "spec": {
                    "reference": { "export": { "path": "root:kube-bind", "name": "kube-bind.io" } },
                    "permissionClaims": [{
                        "group": "", "resource": "secrets", "verbs": verbs, "state": state,
                        "selector": { "matchAll": true },
                    }],
                },
                "status": {
                    "phase": phase,
                    "apiExportClusterName": export_cluster,
                    "exportPermissionClaims": [{
                        "group": "", "resource": "secrets", "verbs": ["*", "get", "create"],
                    }],
                },
            }))
            .unwrap(),
        )
    }

    fn info(missing: &[&str]) -> ClusterInfo {
        ClusterInfo {
            path: Some("root:a".into()),
            leaving: false,
            unasked: vec![],
            missing: missing.iter().map(|m| (*m).to_owned()).collect(),
            binding: "kube-bind.io".into(),
        }
    }

    #[test]
    fn the_url_of_an_endpoint_names_its_export() {
        let url = |text: &str| ExportRef::of_url(&text.parse().unwrap());
        assert_eq!(url("https://h:6443/services/apiexport/exp0rt/kube-bind.io"), Some(export()));
        assert_eq!(url("https://h:6443/clusters/root"), None);
    }

    #[test]
    fn a_workspace_is_engaged_by_its_bound_binding_to_our_export_only() {
        let any = json!(["*"]);
        for (bindings, expected) in [
            (vec![binding("Bound", "exp0rt", &any, "Accepted")], Some(info(&[]))),
            (vec![binding("Binding", "exp0rt", &any, "Accepted")], None),
            (vec![binding("Bound", "other", &any, "Accepted")], None),
            (vec![], None),
        ] {
            assert_eq!(engagement(&export(), CLAIMS, &bindings), expected);
        }
    }

    #[test]
    fn a_claim_is_granted_by_the_star_or_by_every_verb_that_we_use() {
        let missing = |verbs: Value, state: &str| {
            engagement(&export(), CLAIMS, &[binding("Bound", "exp0rt", &verbs, state)])
                .unwrap()
                .missing
        };
        assert_eq!(missing(json!(["*"]), "Accepted"), Vec::<String>::new());
        assert_eq!(missing(json!(["get", "create", "list"]), "Accepted"), Vec::<String>::new());
        assert_eq!(missing(json!(["get"]), "Accepted"), ["secrets.core"]);
        assert_eq!(missing(json!(["*"]), "Rejected"), ["secrets.core"]);
    }
}
