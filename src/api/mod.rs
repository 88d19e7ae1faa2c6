//! Wire types and vocabulary of the `kube-bind.io` API group, and the few kcp types we touch.
//!
//! No I/O happens here and nothing depends on the rest of the product. The types decode as
//! leniently as the Go clients write (absent or `null` lists, unknown fields, unknown status
//! strings) and encode with the field names and omissions of the Go types, so that comparing an
//! object with what the API server returns finds real differences only.
//!
//! [`v1alpha2`] is the storage version and the only one clients of v0.8.1 use. [`v1alpha1`] exists
//! to generate its schemas.

pub mod apiextensions;
pub mod claims;
pub mod conditions;
pub mod duration;
pub mod kcp;
pub mod keys;
mod schema;
pub mod v1alpha1;
pub mod v1alpha2;
mod wire;
