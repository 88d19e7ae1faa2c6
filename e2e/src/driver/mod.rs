//! Plays `kubectl bind` and the konnector with nothing but the issued kubeconfig (contract konnector.md section 9).
//!
//! | step | here |
//! |---|---|
//! | 2 rights | [`Consumer::check_rights`] |
//! | 4 watches | [`Consumer::open_watches`] → [`Watches`] |
//! | 5 heartbeat | [`Consumer::heartbeat`], [`Consumer::check_stale_heartbeat`], [`Consumer::check_conditions`] |
//! | 3 request | [`Consumer::request_export`] → [`Outcome`] |
//! | 6 schemas | [`Consumer::export`] → [`Export::check`], [`Export::crds`] |
//! | 7 answers | [`Consumer::acknowledge`], [`Consumer::check_acknowledged`] |
//! | 8 informers | [`Use::informers`] |
//! | 9, 14, 16 namespaces | [`Use::service_namespace`], [`Use::check_service_namespace`], [`Use::release`] |
//! | 10 objects | [`Use::check_objects`] |
//! | 11 claims | [`Use::check_claim`] |
//! | 13 bundle view | [`Consumer::bundle_view`] |
//! | 15 others | [`Consumer::check_refused`], [`Consumer::check_kept`] |
//!
//! From step 8 on they work on a [`Use`]: one resource of one export under known [`Settings`].

mod access;
mod claims;
mod conditions;
mod exports;
mod heartbeat;
mod namespaces;
mod objects;
mod rights;
mod settings;
mod usage;
mod watches;

use anyhow::{Context, Result, ensure};
use kube::api::DynamicObject;
use kube::{Api, Client};

pub use access::{Place, watch_rbac};
pub use exports::{Export, Outcome};

pub use settings::{Isolation, Key, Settings};
pub use usage::{Use, spec};
pub use watches::{Change, Event, Watches};

use crate::client;
use crate::object;

/// The user agent of the driver; the konnector's own start like this too.
pub const AGENT: &str = "kube-bind-konnector-e2e";

/// Attempts in a row that may lose against the other writer of a status.
const ATTEMPTS: usize = 5;

/// A consumer with the kubeconfig that was issued to it.
#[derive(Clone)]
pub struct Consumer {
    client: Client,
    namespace: String,
    server: String,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("namespace", &self.namespace)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Reads a kubeconfig as the konnector does: it must have a current context with a namespace, an https server and
    /// a token (konnector.md 1.1).
    pub async fn new(kubeconfig: &str) -> Result<Self> {
        let access = client::Access::from_kubeconfig(kubeconfig, None)?;
        ensure!(access.server.starts_with("https://"), "the server {} is not https", access.server);
        ensure!(!access.token.is_empty(), "the token is empty");
        let config: serde_json::Value = serde_saphyr::from_str(kubeconfig)?;
        let context = config["contexts"].as_array().into_iter().flatten();
        let context = context.clone().find(|context| context["name"] == config["current-context"]);
        let namespace = context.and_then(|context| context["context"]["namespace"].as_str());
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let namespace = namespace.context("the current context has no namespace")?.to_owned();
        let client = client::from_kubeconfig(kubeconfig, AGENT).await?;
        Ok(Self { client, namespace, server: access.server })
    }

    /// The contract namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The server of the kubeconfig.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A client with the issued credential.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A kube-bind kind in the contract namespace.
    #[must_use]
    pub fn kube_bind(&self, kind: &str) -> Api<DynamicObject> {
        object::api(&self.client, &object::kube_bind(kind), Some(&self.namespace))
    }
}
