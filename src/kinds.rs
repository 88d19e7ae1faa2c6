//! Every kind that the backend watches in engaged clusters, and which part of it is cached.
//!
//! One list+watch per kind and endpoint serves all controllers. Kinds that belong to others
//! (Secrets, roles) are watched by our label only. Of Secrets no content is cached but the token of
//! a service account: for the rest a digest tells whether it is what we would write.

mod pool;
pub mod sources;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use secrecy::SecretString;

use crate::api::kcp::{AcceptableClaim, ApiBinding, BoundResource, PermissionClaim};
use crate::api::keys;
use crate::api::v1alpha2::{
    ApiServiceExport, ApiServiceExportRequest, ApiServiceExportTemplate, ApiServiceNamespace,
    BindableResourcesRequest, BoundSchema, Cluster, ClusterBinding, Collection,
};
use crate::consumer::contract::Contract;
use crate::runtime::error::CallError;
use crate::runtime::fleet::{Cluster as Engaged, Source};
use crate::runtime::kind::Kind;
use crate::runtime::metrics::Metrics;
use crate::runtime::watch::Watched;

use self::pool::Pool;
use self::sources::{SourceKind, Sources};

/// The label selector of everything that we made.
const OURS: &str = "backend.kube-bind.io/managed=true";

/// What is cached of a Secret of ours.
#[derive(Debug, Clone, Default)]
pub struct SecretView {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The token, where it is the Secret of a service account and has been filled.
    pub token: Option<SecretString>,
    /// SHA-256 of each value.
    pub digests: BTreeMap<String, Digest>,
}

/// A SHA-256.
pub type Digest = [u8; 32];

/// The digest under which [`SecretView`] knows a value.
#[must_use]
pub fn digest_of(value: &[u8]) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, value).as_ref());
    bytes
}

/// The token in a Secret, if it has been filled.
#[must_use]
pub fn token_of(secret: &Secret) -> Option<SecretString> {
    let token = secret.data.as_ref()?.get(keys::TOKEN_KEY)?;
    let token = std::str::from_utf8(&token.0).ok().filter(|token| !token.is_empty())?;
    Some(SecretString::from(token.to_owned()))
}

impl From<Secret> for SecretView {
    fn from(mut secret: Secret) -> Self {
        let is_token = secret.type_.as_deref() == Some(keys::SERVICE_ACCOUNT_TOKEN_TYPE);
        let token = if is_token { token_of(&secret) } else { None };
        let data = secret.data.unwrap_or_default();
        let digests = data.into_iter().map(|(key, value)| (key, digest_of(&value.0))).collect();
        bare(&mut secret.metadata);
        Self { metadata: secret.metadata, token, digests }
    }
}

impl Resource for SecretView {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(dt: &()) -> Cow<'_, str> {
        Secret::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        Secret::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        Secret::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        Secret::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Parameters and annotations are free-form, unused, and as large as a consumer likes.
fn bare_request(mut request: ApiServiceExportRequest) -> ApiServiceExportRequest {
    request.spec.parameters = None;
    bare(&mut request.metadata);
    request
}

static ACCEPTED: Pool<AcceptableClaim> = Pool::new();
static CLAIMED: Pool<PermissionClaim> = Pool::new();
static BOUND: Pool<BoundResource> = Pool::new();

/// Of what a workspace has bound, the observations of kcp are read by nobody, and the rest is mostly as in all others.
fn bare_api_binding(mut binding: ApiBinding) -> ApiBinding {
    let spec = &mut binding.spec;
    spec.permission_claims = ACCEPTED.share(take(&mut spec.permission_claims));
    if let Some(status) = &mut binding.status {
        status.export_permission_claims = CLAIMED.share(take(&mut status.export_permission_claims));
        status.bound_resources = BOUND.share(take(&mut status.bound_resources));
        status.applied_permission_claims = Vec::new();
        status.conditions = Vec::new();
    }
    binding
}

fn bare_service_namespace(mut object: ApiServiceNamespace) -> ApiServiceNamespace {
    bare(&mut object.metadata);
    object
}

fn bare_service_account(mut object: ServiceAccount) -> ServiceAccount {
    bare(&mut object.metadata);
    ServiceAccount { metadata: object.metadata, ..ServiceAccount::default() }
}

/// Keeps of the annotations of an object that consumers may write only the cluster that it is in.
fn bare(meta: &mut ObjectMeta) {
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| key == keys::KCP_CLUSTER);
    }
}

/// The kinds.
pub struct Kinds {
    /// The provider's own object in each cluster.
    pub clusters: Arc<Kind<Cluster>>,
    /// One per consumer.
    pub cluster_bindings: Arc<Kind<ClusterBinding>>,
    /// Binds as objects.
    pub requests: Arc<Kind<BindableResourcesRequest>>,
    /// What consumers ask for, without the parameters, which nobody reads.
    pub export_requests: Arc<Kind<ApiServiceExportRequest>>,
    /// What they may use.
    pub exports: Arc<Kind<ApiServiceExport>>,
    /// The schemas they get, without their bodies.
    pub bound_schemas: Arc<Kind<BoundSchema, PartialObjectMeta<BoundSchema>>>,
    /// Their namespaces.
    pub service_namespaces: Arc<Kind<ApiServiceNamespace>>,
    /// In kcp, what each workspace has bound; the provider watches it.
    pub api_bindings: Arc<Kind<ApiBinding>>,
    /// The schemas that a provider offers.
    pub sources: Sources,
    /// What is offered.
    pub templates: Arc<Kind<ApiServiceExportTemplate>>,
    /// Templates that belong together, for presentation over HTTP.
    pub collections: Arc<Kind<Collection>>,
    /// All namespaces: contract namespaces are found by annotation.
    pub namespaces: Arc<Kind<Namespace, PartialObjectMeta<Namespace>>>,
    /// Ours only.
    pub service_accounts: Arc<Kind<ServiceAccount>>,
    /// Ours only.
    pub secrets: Arc<Kind<Secret, SecretView>>,
    /// Ours only, whole: drift must be seen.
    pub cluster_roles: Arc<Kind<ClusterRole>>,
    /// Ours only.
    pub cluster_role_bindings: Arc<Kind<ClusterRoleBinding>>,
    /// Ours only.
    pub roles: Arc<Kind<Role>>,
    /// Ours only.
    pub role_bindings: Arc<Kind<RoleBinding>>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self::new(SourceKind::default())
    }
}

impl Kinds {
    /// All kinds, with schemas from there.
    #[must_use]
    pub fn new(sources: SourceKind) -> Self {
        let ours = Some(OURS);
        let api_bindings = Arc::new(Kind::projected("APIBinding", None, bare_api_binding));
        Self {
            clusters: Arc::new(Kind::whole("Cluster", None)),
            cluster_bindings: Arc::new(Kind::whole("ClusterBinding", None)),
            requests: Arc::new(Kind::whole("BindableResourcesRequest", None)),
            export_requests: Arc::new(Kind::projected(
                "APIServiceExportRequest",
                None,
                bare_request,
            )),
            exports: Arc::new(Kind::whole("APIServiceExport", None)),
            bound_schemas: Arc::new(Kind::metadata("BoundSchema", None)),
            service_namespaces: Arc::new(Kind::projected(
                "APIServiceNamespace",
                None,
                bare_service_namespace,
            )),
            sources: Sources::new(sources, Arc::clone(&api_bindings)),
            api_bindings,
            templates: Arc::new(Kind::whole("APIServiceExportTemplate", None)),
            collections: Arc::new(Kind::whole("Collection", None)),
            namespaces: Arc::new(Kind::metadata("Namespace", None)),
            service_accounts: Arc::new(Kind::projected(
                "ServiceAccount",
                ours,
                bare_service_account,
            )),
            secrets: Arc::new(Kind::projected("Secret", ours, SecretView::from)),
            cluster_roles: Arc::new(Kind::whole("ClusterRole", ours)),
            cluster_role_bindings: Arc::new(Kind::whole("ClusterRoleBinding", ours)),
            roles: Arc::new(Kind::whole("Role", ours)),
            role_bindings: Arc::new(Kind::whole("RoleBinding", ours)),
        }
    }

    /// The contract namespace of this name, if it is one.
    #[must_use]
    pub fn contract(&self, cluster: &Engaged, namespace: &str) -> Option<Contract> {
        let object = self.namespaces.get(cluster, "", namespace)?;
        let binding = self.cluster_bindings.get(cluster, namespace, keys::CLUSTER_BINDING);
        Contract::of(&object.metadata, binding.as_deref())
    }

    /// Likewise from the server, for whoever would tell somebody that there is none. The kinds of a workspace that comes,
    /// or comes by another endpoint, are seen one after the other.
    pub async fn contract_live(
        &self,
        cluster: &Engaged,
        namespace: &str,
    ) -> Result<Option<Contract>, CallError> {
        let Some(object) = self.namespaces.get_live(cluster, "", namespace).await? else {
            return Ok(None);
        };
        let binding =
            self.cluster_bindings.get_live(cluster, namespace, keys::CLUSTER_BINDING).await?;
        Ok(Contract::of(&object.metadata, binding.as_ref()))
    }

    /// Whether a contract namespace is there without its `ClusterBinding`: all of our objects in it may
    /// have been lost at once, so nothing can be said of one that is missing until that is back.
    #[must_use]
    pub fn is_unbound(&self, cluster: &Engaged, namespace: &str) -> bool {
        let stays = |meta: &ObjectMeta| meta.deletion_timestamp.is_none();
        self.namespaces.get(cluster, "", namespace).is_some_and(|object| stays(&object.metadata))
            && !self.cluster_bindings.is_known(cluster, namespace, keys::CLUSTER_BINDING)
    }

    /// What a fleet runs; what only the HTTP API reads where there is one.
    #[must_use]
    pub fn watches(&self, metrics: &Arc<Metrics>, http: bool) -> Vec<Arc<dyn Source>> {
        let m = || Arc::clone(metrics);
        let mut watches: Vec<Arc<dyn Source>> = vec![
            Watched::new(Arc::clone(&self.clusters), m()),
            Watched::new(Arc::clone(&self.cluster_bindings), m()),
            Watched::new(Arc::clone(&self.requests), m()),
            Watched::new(Arc::clone(&self.export_requests), m()),
            Watched::new(Arc::clone(&self.exports), m()),
            Watched::new(Arc::clone(&self.bound_schemas), m()),
            Watched::new(Arc::clone(&self.service_namespaces), m()),
            self.sources.watch(metrics),
            Watched::new(Arc::clone(&self.templates), m()),
            Watched::new(Arc::clone(&self.namespaces), m()),
            Watched::new(Arc::clone(&self.service_accounts), m()),
            Watched::new(Arc::clone(&self.secrets), m()),
            Watched::new(Arc::clone(&self.cluster_roles), m()),
            Watched::new(Arc::clone(&self.cluster_role_bindings), m()),
            Watched::new(Arc::clone(&self.roles), m()),
            Watched::new(Arc::clone(&self.role_bindings), m()),
        ];
        if http {
            watches.push(Watched::new(Arc::clone(&self.collections), m()));
        }
        watches
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn the_selector_names_the_label_that_we_set() {
        assert_eq!(OURS, format!("{}={}", keys::LABEL_MANAGED, keys::TRUE));
    }

    #[test]
    fn only_the_token_of_a_service_account_is_kept_of_a_secret() {
        let data = BTreeMap::from([(keys::TOKEN_KEY.to_owned(), ByteString(b"t0k".to_vec()))]);
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        let digests = BTreeMap::from([(keys::TOKEN_KEY.to_owned(), digest_of(b"t0k"))]);
        let opaque = SecretView::from(secret.clone());
        assert_eq!((opaque.token.is_none(), &opaque.digests), (true, &digests));
        secret.type_ = Some(keys::SERVICE_ACCOUNT_TOKEN_TYPE.to_owned());
        let view = SecretView::from(secret);
        assert!(view.token.is_some());
        assert!(!format!("{view:?}").contains("t0k"));
    }
}
