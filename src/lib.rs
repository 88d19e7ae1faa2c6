//! The kube-bind backend. This page is the map.
//!
//! ```text
//!  main ─ cli ─► app (wiring) ─► providers ─► runtime::fleet ─► one list+watch per endpoint and kind
//!            └─► init                                               │ deltas
//!                                                                   ▼
//!                       onboarding ◄─ controllers ◄─ workers ◄─ fair queues
//! ```
//!
//! Who watches what, in every engaged cluster ([`kinds`] holds the watches):
//!
//! | controller | watches | writes |
//! |---|---|---|
//! | `cluster` | Cluster, our ClusterRoles and ClusterRoleBindings, what the provider knows | Cluster `default` and its status, `kube-bind-oidc-user` |
//! | `cluster_binding` | ClusterBinding | its conditions `Healthy` and `Ready` |
//! | `bindable_resources_request` | BindableResourcesRequest, Namespaces, our Secrets | the response Secret, the request's status, and through [`onboarding`] the contract namespace |
//! | `export_request` | APIServiceExportRequest, APIServiceExport, BoundSchema, source schemas, Namespaces | BoundSchema, roles, APIServiceExport, the request's status |
//! | `export` | APIServiceExport, BoundSchema, source schemas, our roles, APIServiceNamespace | BoundSchema, roles, the export's conditions |
//! | `service_namespace` | APIServiceNamespace, APIServiceExport, Namespaces | service namespaces, roles in them, its status and owners |
//!
//! Dependencies point one way (`scripts/check-layers` holds the table and fails on others):
//! [`api`] and [`runtime`] stand alone; [`consumer`] uses `api`; [`kinds`] and [`onboarding`] use
//! those; [`controllers`] use all of these; [`providers`] know the runtime and kcp, and nothing of
//! kube-bind; [`app`] wires.

pub mod api;
pub mod app;
pub mod cli;
pub mod consumer;
pub mod controllers;
pub mod gone;
pub mod init;
pub mod kinds;
pub mod manifests;
pub mod onboarding;
pub mod providers;
pub mod rights;
pub mod runtime;
