//! What one bound consumer owns, as pure functions: names, objects and bytes of the wire contract. No I/O, no runtime.

pub mod bound_schema;
pub mod contract;
pub mod external;
pub mod heartbeat;
pub mod host_alias;
pub mod kubeconfig;
pub mod names;
pub mod networks;
pub mod onboarding;
pub mod ours;
pub mod rbac;
pub mod response;
pub mod rights;
pub mod schema;
pub mod service_namespace;
