//! Storage version of the group: one file per kind, the types they share in `shared.rs`.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives the schema from a private copy of each struct, keyword included"
)]

mod api_conversion;
mod api_service_binding;
mod api_service_binding_bundle;
mod api_service_export;
mod api_service_export_request;
mod api_service_export_template;
mod api_service_namespace;
mod bindable_resources_request;
mod bound_schema;
mod cluster;
mod cluster_binding;
mod collection;
pub(crate) mod shared;

pub use api_conversion::*;
pub use api_service_binding::*;
pub use api_service_binding_bundle::*;
pub use api_service_export::*;
pub use api_service_export_request::*;
pub use api_service_export_template::*;
pub use api_service_namespace::*;
pub use bindable_resources_request::*;
pub use bound_schema::*;
pub use cluster::*;
pub use cluster_binding::*;
pub use collection::*;
pub use shared::{
    GroupResource, Isolation, JsonPath, NameRef, NamedResource, NamespacedSecretKeyRef,
    PermissionClaim, Phase, ResourceVersions, SchemaUpdatePolicy, Scope, SecretKeyRef, Selector,
    SelectorReference,
};
