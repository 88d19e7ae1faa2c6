//! Everything that the end-to-end tests need to run the real backend against real servers.
//!
//! | module | what it is |
//! |---|---|
//! | [`stack`] | one kcp and one Kubernetes per test run, started when the first test asks |
//! | [`kcp`], [`kubernetes`] | these servers as child processes; [`kcp`] also makes workspaces and bindings |
//! | [`shards`] | a kcp of two shards, each of which can be killed and started again |
//! | [`backend`] | the backend under test: start, stop, kill, restart, resident memory |
//! | [`binding`] | binds a consumer through a `BindableResourcesRequest` |
//! | [`driver`] | plays `kubectl bind` and the konnector with nothing but the issued kubeconfig |
//! | [`service`] | an API to export: CRDs, or a workspace with an `APIExport` that tenants bind |
//! | [`faultproxy`] | fails requests between the backend and a server where a test says |
//! | [`web`], [`idp`], [`redis`] | a real browser, identity provider and Redis |
//! | [`audit`] | counts API requests from the servers' audit logs |
//! | [`snapshot`] | the state of a cluster without what differs from run to run |
//! | [`client`], [`object`], [`manifest`] | kube clients, untyped objects, YAML folders |
//! | [`process`], [`dirs`], [`tools`], [`wait`] | child processes, files of the run, server binaries, waiting |
//!
//! The driver, the servers and the checks use untyped objects on purpose: a wrong type in the product must not hide
//! itself by being used on both sides.

pub mod audit;
pub mod backend;
pub mod binding;
pub mod client;
pub mod dirs;
pub mod driver;
pub mod faultproxy;
pub mod idp;
pub mod kcp;
pub mod kubernetes;
pub mod manifest;
pub mod object;
pub mod process;
pub mod provider;
pub mod redis;
pub mod service;
pub mod shards;
pub mod site;
pub mod snapshot;
pub mod stack;
pub mod switch;
pub mod tools;
pub mod wait;
pub mod web;
