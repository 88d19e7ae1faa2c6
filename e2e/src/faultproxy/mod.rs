//! A proxy between the backend and a real server, which fails where a test says (HTTP/1.1 over TLS on 127.0.0.1).
//!
//! It shows the server's own certificate, so that a kubeconfig for the server is one for the proxy as soon as its host
//! is replaced ([`FaultProxy::url`]). Bearer tokens pass through, and answers are passed on as they come: a watch event
//! is not held up. Requests are read whole before they are forwarded; those of API clients are small.
//!
//! It can also show other things than there are ([`FaultProxy::publish`], [`FaultProxy::hide`]): several proxies of one
//! kcp are then as many shards, between which a workspace moves.

mod serve;
mod state;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http::Uri;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use state::{Fault, Logged, Side, Strike, listing};
pub use view::WILDCARD;

use crate::client::Access;
use crate::wait::{SOON, eventually};
use state::State;
use view::{Hidden, SLICES};

/// A running proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

impl FaultProxy {
    /// Starts a proxy before `server`. `certificate` is the server's own; its key is beside it and ends in `.key`.
    pub async fn start(server: &Access, certificate: &Path) -> Result<Self> {
        let upstream = upstream(server).await.context("reaching the server of a proxy")?;
        let tls = TlsAcceptor::from(Arc::new(tls(certificate)?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(serve::accept(listener, tls, upstream, Arc::clone(&state)));
        Ok(Self { address, state, _accepting: accepting })
    }

    /// A URL of the server as one of the proxy.
    pub fn url(&self, server: &str) -> Result<String> {
        let uri: Uri = server.parse().with_context(|| format!("{server} is no URL"))?;
        let path = uri.path().trim_end_matches('/');
        Ok(format!("https://{}{path}", self.address))
    }

    /// Lets `fault` strike the `nth` (from 1) mutating request from now on whose path contains `within`; empty means
    /// any. Each rule strikes once.
    ///
    /// The strike resolves with the request, and never once the rule is gone by [`FaultProxy::reset`].
    #[must_use]
    pub fn arm(&self, within: &str, nth: usize, fault: Fault) -> Strike {
        self.state.arm(within, nth, fault)
    }

    /// Forgets all rules, and forwards again after a [`Fault::Cut`].
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Closes every connection on which a watch runs.
    pub fn cut_watches(&self) {
        self.state.cut_watches();
    }

    /// From now on an `APIExportEndpointSlice` that is read through the proxy has these endpoints. Waits until
    /// who watches one has read it again.
    pub async fn publish(&self, urls: &[String]) -> Result<()> {
        self.state.view.publish(urls);
        self.expire(SLICES).await
    }

    /// From now on the proxy is the endpoint of a shard that does not have this logical cluster: its objects are
    /// in no list and watch of all clusters, and whatever is asked of it by name is not found. Waits until all
    /// that watch have listed again.
    pub async fn hide(&self, cluster: &str) -> Result<()> {
        self.state.view.hide(cluster, Some(Hidden::All));
        self.expire(WILDCARD).await
    }

    /// Takes back [`FaultProxy::hide`], and waits like it.
    pub async fn show(&self, cluster: &str) -> Result<()> {
        self.show_but(cluster, None).await
    }

    /// The same but for the list and watch of this path, which brings what it has when all is shown. What is asked for by
    /// name is there.
    pub async fn show_but(&self, cluster: &str, late: Option<&str>) -> Result<()> {
        let late = late.map(|path| Hidden::In(path.to_owned()));
        match self.state.view.hide(cluster, late) {
            Some(Hidden::In(path)) => self.expire(&path).await,
            Some(Hidden::All) | None => self.expire(WILDCARD).await,
        }
    }

    /// Ends the watches whose path contains `within` as a server does that has forgotten their version, and waits
    /// until each has listed and watches again.
    async fn expire(&self, within: &str) -> Result<()> {
        self.state.expire(within);
        eventually("the watches to begin anew", SOON, async || self.state.renewed(within)).await
    }

    /// All requests so far whose path contains `within`, in the order of their arrival.
    #[must_use]
    pub fn log(&self, within: &str) -> Vec<Logged> {
        self.state.log(within)
    }

    /// Those of [`FaultProxy::log`] that could change something.
    #[must_use]
    pub fn writes(&self, within: &str) -> Vec<Logged> {
        let mut log = self.log(within);
        log.retain(Logged::is_write);
        log
    }
}

/// A client for the server that adds no credential and no header of its own, and retries nothing.
async fn upstream(server: &Access) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(None))?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // What is forwarded brings its own path.
    config.cluster_url =
        format!("https://{}", config.cluster_url.authority().context("no host")?).parse()?;
    config.auth_info = AuthInfo::default();
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn tls(certificate: &Path) -> Result<ServerConfig> {
    let context = || format!("reading {} and its key", certificate.display());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).with_context(context)?.collect();
    let key =
        PrivateKeyDer::from_pem_file(certificate.with_extension("key")).with_context(context)?;
    // Without ALPN a client speaks HTTP/1.1: one request at a time on a connection, which can be cut for itself.
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.with_context(context)?, key)
        .with_context(context)
}
