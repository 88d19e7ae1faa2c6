//! The kube-bind backend. This page is the map.
//!
//! ```text
//!  main ─ cli ─► app (wiring) ─► providers ─► runtime::fleet ─► one list+watch per endpoint and kind
//!            ├─► doctor (a look at the same)
//!            └─► init                                               │ deltas
//!                                                                   ▼
//!             onboarding, rights, gone ◄─ controllers ◄────────── fair queues
//!                      ▲
//!                      └─ http ◄─ browsers, `kubectl bind`
//! ```
//!
//! Who watches what, in every engaged cluster ([`kinds`] holds the watches):
//!
//! | controller | watches | writes |
//! |---|---|---|
//! | `cluster` | Cluster, our ClusterRoles and ClusterRoleBindings, what the provider knows | Cluster `default` and its status, `kube-bind-oidc-user` |
//! | `api_binding` | APIBindings, templates, labelled schemas, Clusters, our role for reading schemas | templates and labelled schema copies, that role, the condition `ServicesOffered` of the Cluster |
//! | `cluster_binding` | ClusterBinding | its conditions `Healthy` and `Ready` |
//! | `bindable_resources_request` | BindableResourcesRequest, Namespaces, our Secrets | the response Secret, the request's status, and through [`onboarding`] the contract namespace |
//! | `export_request` | APIServiceExportRequest, source schemas, exports, BoundSchemas, contract namespaces | BoundSchemas, through [`rights`] the roles, APIServiceExports, APIServiceNamespaces, the request's status |
//! | `export` | APIServiceExport, BoundSchemas, source schemas, our roles and bindings, requests, APIServiceNamespaces, ClusterBindings, contract namespaces | BoundSchemas that follow their source, roles and bindings, the export's annotation and conditions; takes away what is left of one that is gone |
//! | `service_namespace` | APIServiceNamespace, service and contract namespaces, exports, ClusterBindings | service namespaces, the roles in them, `status.namespace`, further owners; deletes service namespaces of which the APIServiceNamespace or the contract is gone |
//!
//! Dependencies point one way (`scripts/check-layers` holds the table and fails on others):
//! [`api`] and [`runtime`] stand alone; [`consumer`] uses `api`; [`kinds`], [`onboarding`], [`rights`]
//! and [`gone`] use those; [`controllers`] use all of these; [`http`] reads the caches of `kinds` and binds through
//! `onboarding`, as the controllers do, and never calls them; [`providers`] know the runtime and kcp, and nothing of
//! kube-bind; [`app`] wires.

pub mod api;
pub mod app;
pub mod cli;
pub mod consumer;
pub mod controllers;
pub mod doctor;
pub mod gone;
pub mod http;
pub mod init;
pub mod kinds;
pub mod manifests;
pub mod onboarding;
pub mod providers;
pub mod rights;
pub mod runtime;
