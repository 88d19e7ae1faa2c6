//! The multicluster runtime: one process, any number of API endpoints, any number of logical
//! clusters behind each. Knows nothing of kube-bind.
//!
//! ```text
//!  provider ─► fleet (endpoints, engaged clusters) ─► watch: one list+watch per (endpoint, kind)
//!                                                       │ decoded, pruned, cluster known
//!                                                       ▼
//!  reconcile ◄─ queue (fair, keyed) ◄─ mappers ◄─ deltas of the cache
//!      │
//!      └─► kind: create · replace · patch · delete; every response goes back into the cache
//! ```
//!
//! * [`cluster`]: names of logical clusters and keys that carry them.
//! * [`endpoint`]: one API server URL and the clients made from it.
//! * [`fleet`]: endpoints as a reconciled set, and which clusters are engaged.
//! * `health`: which of them answer, and when the others are asked again.
//! * [`kind`]: what one watched kind offers to controllers: reads from the cache, writes with
//!   preconditions.
//! * [`cache`] and [`watch`]: what feeds those reads.
//! * [`queue`] and [`controller`]: who reconciles what, when, and how often again.
//! * [`error`]: what failed, and what kind of waiting helps.
//! * [`metrics`] and [`admin`]: what an operator sees.

pub mod admin;
pub mod cache;
pub mod cluster;
pub mod controller;
pub mod endpoint;
pub mod error;
pub mod fleet;
pub(crate) mod health;
pub mod kind;
pub mod metrics;
pub mod queue;
pub mod tasks;
#[cfg(test)]
pub(crate) mod test_support;
pub mod watch;
