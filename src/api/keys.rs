//! Every label, annotation, finalizer, fixed name and constant that appears on the wire.
//!
//! Sources: contract objects.md section 0 for the vocabulary shared with the konnector and the CLI;
//! the keys under "ours" are this backend's own and mean nothing to clients.

/// API group of all kinds in [`crate::api::v1alpha2`].
pub const GROUP: &str = "kube-bind.io";
/// Storage version, the only one that v0.8.1 clients use.
pub const VERSION: &str = "v1alpha2";
/// `apiVersion` of our objects and of the HTTP payloads.
pub const API_VERSION: &str = "kube-bind.io/v1alpha2";

// --- labels and annotations of the contract ---

/// Label (`"true"`) on a CRD or `APIResourceSchema` that may be exported.
pub const LABEL_EXPORTED: &str = "kube-bind.io/exported";
/// Annotation on `BoundSchema` and `APIServiceExport`: hash of the source schema.
pub const ANNOTATION_SOURCE_SPEC_HASH: &str = "kube-bind.io/source-spec-hash";
/// Label on `APIServiceNamespace`s, claimed objects and namespaces the konnector makes:
/// [`OWNER_PROVIDER`] or [`OWNER_CONSUMER`].
pub const LABEL_OWNER: &str = "kube-bind.io/owner";
/// Value of [`LABEL_OWNER`]: the object originates on the provider side.
pub const OWNER_PROVIDER: &str = "provider";
/// Value of [`LABEL_OWNER`]: the object originates on the consumer side.
pub const OWNER_CONSUMER: &str = "consumer";
/// Annotation on a provisioned service namespace: `<contract namespace>/<name>`.
pub const ANNOTATION_SERVICE_NAMESPACE: &str = "kube-bind.io/api-service-namespace";
/// Annotation on contract namespaces and `ClusterBinding`s: the consumer's identity.
pub const ANNOTATION_IDENTITY: &str = "backend.kube-bind.io/identity";
/// What [`ANNOTATION_IDENTITY`] was called in v0.5; replaced when seen.
pub const ANNOTATION_IDENTITY_LEGACY: &str = "example-backend.kube-bind.io/identity";
/// Annotation on contract namespaces and `ClusterBinding`s: who asked for the binding.
pub const ANNOTATION_AUTHOR: &str = "backend.kube-bind.io/author";
/// Annotation on `ClusterBinding`s: name of the consumer cluster for people.
pub const ANNOTATION_CLUSTER_PRETTY_NAME: &str = "backend.kube-bind.io/cluster-pretty-name";
/// Label of export `ClusterRole`s that v0.8.1 aggregates over all consumers. We never set it
/// (design: own roles per consumer); `doctor` looks for leftovers.
pub const LABEL_AGGREGATE_TO_PARENT: &str = "rbac.kube-bind.io/aggregate-to-parent";
/// Annotation on generated templates, and on the schemas of what they offer: name of the `APIBinding` they come from.
pub const ANNOTATION_TEMPLATE_OWNER_BINDING: &str = "apibindingtemplate.kube-bind.io/owner-binding";
/// Label (`"true"`) on consumer-side kubeconfig Secrets that the CLI makes.
pub const LABEL_PROVIDER_KUBECONFIG: &str = "kube-bind.io/provider-kubeconfig";
/// Set by the konnector on provider objects: the contract namespace they belong to.
pub const CLUSTER_NAMESPACE: &str = "kube-bind.io/cluster-namespace";
/// Set by the konnector on provider objects: the namespace on the consumer side.
pub const CONSUMER_NAMESPACE: &str = "kube-bind.io/consumer-namespace";
/// Set by the konnector on provider objects: the UID on the consumer side.
pub const CONSUMER_UID: &str = "kube-bind.io/consumer-uid";
/// Set by the konnector on consumer objects: the namespace on the provider side.
pub const PROVIDER_NAMESPACE: &str = "kube-bind.io/provider-namespace";
/// Set by the konnector on consumer objects: the UID on the provider side.
pub const PROVIDER_UID: &str = "kube-bind.io/provider-uid";
/// Finalizer the konnector puts on synced objects of the consumer. We set no finalizers.
pub const FINALIZER_KONNECTOR: &str = "kubebind.io/syncer";
/// Value of the labels that are switches.
pub const TRUE: &str = "true";

// --- labels and annotations of ours ---

/// Label (`"true"`) on everything this backend creates on the provider side. Nothing without it
/// (or the annotations of v0.8.1) is ever changed or deleted.
pub const LABEL_MANAGED: &str = "backend.kube-bind.io/managed";
/// Annotation: UID of the object that a managed object was made for, where an owner reference is
/// not possible (another namespace, or cluster scope). Checked before deletion.
pub const ANNOTATION_OWNER_UID: &str = "backend.kube-bind.io/owner-uid";
/// Annotation on service namespaces: UID of the contract namespace that they belong to. One of the
/// same name that was made later is another consumer's.
pub const ANNOTATION_CONTRACT_UID: &str = "backend.kube-bind.io/contract-uid";
/// Annotation on service namespaces: UID of the `ClusterBinding` at the time. With another one, all of
/// our objects of that consumer were lost at once since, which nobody meant as a wish to delete.
pub const ANNOTATION_BINDING_UID: &str = "backend.kube-bind.io/binding-uid";
/// Annotation on roles, bindings and `BoundSchema`s: `<contract namespace>/<export>` that they were
/// made for.
pub const ANNOTATION_EXPORT: &str = "backend.kube-bind.io/export";
/// Annotation on `APIServiceExport`s: the `schemaUpdatePolicy` of the request, which is pruned.
pub const ANNOTATION_SCHEMA_UPDATE_POLICY: &str = "backend.kube-bind.io/schema-update-policy";
/// Annotation on `APIServiceExport`s of several resources: digest over the hashes of their
/// `BoundSchema`s, by which a change is seen without reading their bodies.
pub const ANNOTATION_SCHEMAS_DIGEST: &str = "backend.kube-bind.io/schemas-digest";
/// Annotation on `BoundSchema`s: `<UID>/<generation>` of the source schema that they equal; on source schemas that are
/// offered because of an `APIBinding`: UID of the schema that is bound.
pub const ANNOTATION_SOURCE: &str = "backend.kube-bind.io/source";
/// Annotation on `BoundSchema`s and on source schemas that are offered because of an `APIBinding`: `spec.scope`, for
/// those who see metadata only.
pub const ANNOTATION_SCOPE: &str = "backend.kube-bind.io/scope";
/// Annotation on source schemas that are offered because of an `APIBinding`: the served versions in their order,
/// separated by commas.
pub const ANNOTATION_SERVED_VERSIONS: &str = "backend.kube-bind.io/served-versions";
/// Annotation on source schemas that are offered because of an `APIBinding`: digest over [`ANNOTATION_SOURCE`],
/// [`ANNOTATION_SCOPE`], [`ANNOTATION_SERVED_VERSIONS`] and the logical cluster, by which it is seen that somebody edited
/// these, or carried them to another workspace.
pub const ANNOTATION_MARKS_DIGEST: &str = "backend.kube-bind.io/marks-digest";
/// Annotation on `BoundSchema`s: the first served version, which the konnector syncs for as long as
/// it runs.
pub const ANNOTATION_SYNCED_VERSION: &str = "backend.kube-bind.io/synced-version";
/// Annotation on contract namespaces: who bound the identity first. `<issuer>#<subject>` for HTTP
/// users, `namespace:<ns>` for a `BindableResourcesRequest`.
pub const ANNOTATION_BOUND_BY: &str = "backend.kube-bind.io/bound-by";
/// Annotation on contract namespaces that an admin sets to hand the identity over to the named
/// binder, in the format of [`ANNOTATION_BOUND_BY`].
pub const ANNOTATION_TRANSFER_TO: &str = "backend.kube-bind.io/transfer-to";
/// Annotation on contract namespaces: comma-separated names of the templates bound there.
pub const ANNOTATION_TEMPLATES: &str = "backend.kube-bind.io/templates";
/// Annotation on contract namespaces: [`ALLOW_REQUESTS_ANY`] lifts the template check there.
pub const ANNOTATION_ALLOW_REQUESTS: &str = "backend.kube-bind.io/allow-requests";
/// Value of [`ANNOTATION_ALLOW_REQUESTS`]: any exported resource may be requested.
pub const ALLOW_REQUESTS_ANY: &str = "any";

// --- kcp and Kubernetes keys ---

/// Annotation with the logical cluster name on every object that kcp serves.
pub const KCP_CLUSTER: &str = "kcp.io/cluster";
/// Annotation with the workspace path (`root:org:ws`), for people only.
pub const KCP_PATH: &str = "kcp.io/path";
/// Prefix of the labels kcp puts on claimed objects.
pub const KCP_CLAIMED_LABEL_PREFIX: &str = "claimed.internal.apis.kcp.io/";
/// Key in `userInfo.extra` with the cluster of a kcp service account.
pub const KCP_USER_CLUSTER_NAME: &str = "authentication.kcp.io/cluster-name";
/// Prefix of the user name of a service account, which its namespace and name follow.
pub const SERVICE_ACCOUNT_USER: &str = "system:serviceaccount:";
/// Group of whoever has logged in.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Annotation that ties a token Secret to its `ServiceAccount`.
pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// Type of a token Secret.
pub const SERVICE_ACCOUNT_TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
/// Key of the token in a token Secret.
pub const TOKEN_KEY: &str = "token";
/// Key of the CA in a token Secret.
pub const TOKEN_CA_KEY: &str = "ca.crt";
/// API group of RBAC.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

// --- names of contract objects (objects.md sections 1, 2, 4, 7, 9, 10, 11) ---

/// The consumer's `ServiceAccount` in its contract namespace.
pub const SERVICE_ACCOUNT: &str = "kube-binder";
/// `ClusterRole` with the konnector's rights in a contract namespace.
pub const CLUSTER_ROLE: &str = "kube-binder";
/// `RoleBinding` of [`CLUSTER_ROLE`] in a contract namespace.
pub const ROLE_BINDING: &str = "kube-binder";
/// Secret with the service account token.
pub const TOKEN_SECRET: &str = "kube-binder";
/// Secret with the kubeconfig handed to the consumer.
pub const KUBECONFIG_SECRET: &str = "kubeconfig";
/// The key in [`KUBECONFIG_SECRET`], always.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
/// Prefix of the roles and bindings of an export: `<prefix><export>` in a namespace,
/// `<prefix><contract namespace>-<export>` in the cluster.
pub const EXPORT_ROLE_PREFIX: &str = "kube-binder-claims-";
/// Name of the only `ClusterBinding` of a contract namespace.
pub const CLUSTER_BINDING: &str = "cluster";
/// Name of the only `Cluster` of a provider cluster.
pub const CLUSTER: &str = "default";
/// `ClusterRole` and `ClusterRoleBinding` of HTTP users.
pub const OIDC_USER_ROLE: &str = "kube-bind-oidc-user";
/// Shared `ClusterRole(Binding)` of v0.8.1, not created by us; `doctor` reports it.
pub const LEGACY_EXPORTS_ROLE: &str = "kube-binder-exports";
/// `ClusterRole(Binding)` through which kcp's schema virtual workspace admits us.
pub const SCHEMA_READER_ROLE: &str = "kube-bind-vw-apibinding-reader";
/// Suffix of the default response Secret of a `BindableResourcesRequest`.
pub const BINDING_RESPONSE_SUFFIX: &str = "-binding-response";
/// Key of the response in that Secret.
pub const BINDING_RESPONSE_KEY: &str = "binding-response";
/// Namespace of the konnector and its Secrets on the consumer side, and of the backend itself.
pub const KUBE_BIND_NAMESPACE: &str = "kube-bind";
/// Name of the `APIExport` and, by default, of its endpoint slice.
pub const EXPORT: &str = "kube-bind.io";
/// `ServiceAccount` of the backend in [`KUBE_BIND_NAMESPACE`].
pub const BACKEND_SERVICE_ACCOUNT: &str = "backend";
/// `ClusterRole`, `Role`, bindings and `Deployment` of the backend itself.
pub const BACKEND_NAME: &str = "kube-bind-backend";
