//! What one bound consumer owns, as pure functions: names, objects and bytes of the wire contract. No I/O, no runtime.

pub mod external;
pub mod kubeconfig;
pub mod names;
pub mod onboarding;
pub mod ours;
pub mod rbac;
pub mod response;
pub mod schema;
