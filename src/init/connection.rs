//! The admin's connection to kcp: one client per workspace on the host and credentials of the
//! kubeconfig.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;

use crate::init::error::{Error, Failure};
use crate::runtime::endpoint::{REQUEST_TIMEOUT, client_config};

/// Pause between two looks at something that takes kcp a moment.
pub(super) const POLL: Duration = Duration::from_millis(500);
/// Longest wait for something that kcp does by itself: after an outage of a shard its front proxy looks again after up to a
/// minute, and what waits for the front proxy after up to another one.
pub(super) const SETTLE: Duration = Duration::from_mins(3);

/// The admin kubeconfig, without the path of its server.
pub(super) struct Admin {
    config: Config,
    base: String,
    /// CA of the server, PEM.
    pub(super) ca: Vec<u8>,
}

impl Admin {
    /// Loads the kubeconfig by the standard rules where no file is given.
    pub(super) async fn load(path: Option<&Path>, context: Option<&str>) -> Result<Self, Error> {
        let load = |error| Error::Kubeconfig(Box::new(error));
        let kubeconfig = match path {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        }
        .map_err(load)?;
        let ca = authority(&kubeconfig, context);
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(load)?;
        let ca = ca.ok_or(Error::NoCertificateAuthority)?;
        let config = client_config(config);
        let base = base_url(&config.cluster_url);
        Ok(Self { config, base, ca })
    }

    /// A client for the workspace `path`.
    pub(super) fn workspace(&self, path: &str) -> Result<Workspace, Error> {
        let server = format!("{}/clusters/{path}", self.base);
        let mut config = self.config.clone();
        config.cluster_url = server.parse().map_err(|_| Error::Server(self.base.clone()))?;
        Workspace::new(config, path.to_owned(), server)
    }

    /// TLS server name of the kubeconfig.
    pub(super) fn tls_server_name(&self) -> Option<String> {
        self.config.tls_server_name.clone()
    }
}

/// One workspace (or virtual workspace) and a client for it.
pub(super) struct Workspace {
    client: Client,
    /// Its path, for messages.
    pub(super) path: String,
    /// Its URL.
    pub(super) server: String,
}

impl Workspace {
    pub(super) fn new(config: Config, path: String, server: String) -> Result<Self, Error> {
        let client = Client::try_from(config).map_err(|error| Error::Call {
            action: "use",
            object: "the kubeconfig".to_owned(),
            workspace: path.clone(),
            failure: Failure::Client(Box::new(error)),
        })?;
        Ok(Self { client, path, server })
    }

    /// A workspace behind any client.
    #[cfg(test)]
    pub(super) fn with_client(client: Client, path: &str) -> Self {
        Self { client, path: path.to_owned(), server: String::new() }
    }

    /// Sends one request and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        action: &'static str,
        object: &str,
        request: http::Request<Vec<u8>>,
    ) -> Result<T, Error> {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request::<T>(request)).await;
        let failure = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::from_kube(error),
            Err(_) => Failure::NoAnswer(REQUEST_TIMEOUT),
        };
        Err(Error::Call {
            action,
            object: object.to_owned(),
            workspace: self.path.clone(),
            failure,
        })
    }
}

/// The server without `/clusters/<path>`: admin kubeconfigs of kcp name some workspace or none.
pub(crate) fn base_url(server: &Uri) -> String {
    let server = server.to_string();
    let base = server.split_once("/clusters/").map_or(server.as_str(), |(base, _)| base);
    base.trim_end_matches('/').to_owned()
}

/// The CA of the context's cluster as PEM; the client library keeps it decoded only. Whatever is
/// wrong with it has been reported by the library, which has loaded it too.
fn authority(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<Vec<u8>> {
    let name = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|entry| entry.name == name)?;
    let wanted = &context.context.as_ref()?.cluster;
    let cluster = kubeconfig.clusters.iter().find(|entry| entry.name == *wanted)?;
    let cluster = cluster.cluster.as_ref()?;
    if let Some(data) = &cluster.certificate_authority_data {
        return STANDARD.decode(data).ok();
    }
    std::fs::read(cluster.certificate_authority.as_ref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_in_the_server_of_an_admin_kubeconfig_does_not_matter() {
        for (server, expected) in [
            ("https://127.0.0.1:6443", "https://127.0.0.1:6443"),
            ("https://127.0.0.1:6443/clusters/root", "https://127.0.0.1:6443"),
            ("https://h/kcp/clusters/root:a:b", "https://h/kcp"),
            ("https://h/", "https://h"),
        ] {
            assert_eq!(base_url(&server.parse().unwrap()), expected);
        }
    }
}
