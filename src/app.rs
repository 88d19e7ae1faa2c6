//! Wiring only: flags to provider, kinds, controllers, fleet, HTTP API and health, all supervised.

mod front;
pub mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::world::World;
use crate::cli::{Config, IssuerConfig};
use crate::controllers::{Context, Controllers, ExportSettings, Memory, Myself, Offers, Subjects};
use crate::http::front::{self as http_front, Front};
use crate::onboarding::{Onboarding, Published, Settings};
use crate::providers::{Provider, ProviderError};
use crate::runtime::admin::{self, Paths, Status};
use crate::runtime::fleet::{Fleet, Listener};
use crate::runtime::metrics::Metrics;
use crate::runtime::tasks::Tasks;

/// How long running reconciles may take to end. A request in flight is worth waiting for: what it
/// wrote is found again at the next start, but its answer is not.
const DRAIN: Duration = Duration::from_secs(4);

/// With the HTTP API its answers are waited for too: ten seconds, and a moment for what follows them.
const DRAIN_HTTP: Duration = Duration::from_secs(12);

/// Why the process cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to the API server or the endpoints.
    #[error(transparent)]
    World(#[from] world::Error),
    /// The CA of the kubeconfig cannot be read.
    #[error("cannot read the CA file {path} of the kubeconfig: {source}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An address is not free.
    #[error("cannot listen on {address}: {source}; choose another one with {flag}")]
    Listen {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no HTTP API.
    #[error(transparent)]
    Front(#[from] http_front::Error),
    /// No signals.
    #[error("cannot wait for signals: {0}")]
    Signal(#[source] std::io::Error),
    /// The provider ended.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A task that must not end did.
    #[error("{0}; this is a bug, and the process ends so that it is started again")]
    Ended(String),
}

/// Runs until a signal.
pub async fn run(config: Config) -> Result<(), Error> {
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    // First of all: as process 1 of a container, a signal without a handler would be ignored.
    let stop_signal = stop_signal()?;
    let listener = match config.front {
        None => Some(listen("--listen-address", config.listen_address).await?),
        Some(_) => None,
    };
    let admin = match config.admin_address {
        Some(address) => Some(listen("--admin-address", address).await?),
        None => None,
    };
    let mut metrics = Metrics::default();
    if let Some(front) = &config.front {
        let embedded = i64::from(front.oidc.issuer == IssuerConfig::Embedded);
        let help = "1 where everybody is logged in without a password (--oidc-type=embedded)";
        metrics.fact("embedded_oidc", help, embedded);
    }
    let metrics = Arc::new(metrics);
    let World { client: client_config, kinds, provider } = World::of(&config).await?;
    let front = match &config.front {
        Some(given) => Some(Front::bind(front::parts(&config, given)?, &kinds).await?),
        None => None,
    };
    let settings = settings(&config, &client_config)?;
    let published = Published::new(&kinds);
    let onboarding = Arc::new(Onboarding { kinds: Arc::clone(&kinds), settings, published });
    let subjects = Subjects {
        groups: config.oidc_allowed_groups.clone(),
        users: config.oidc_allowed_users.clone(),
    };
    let exports =
        ExportSettings { informer_scope: config.consumer_scope, isolation: config.isolation };
    let myself = config
        .offers_bindings()
        .then(|| Arc::new(Myself::new(client_config.clone(), &metrics, memory(provider.as_ref()))));
    let context = Context {
        kinds: Arc::clone(&kinds),
        onboarding: Arc::clone(&onboarding),
        subjects,
        exports,
        allow_shared: config.allow_shared_cluster_scope,
        offers: myself
            .clone()
            .map(|myself| Offers { ignored: config.apibinding_ignore_prefixes.clone(), myself }),
    };
    let controllers = Arc::new(Controllers::new(context));

    let tasks = Tasks::default();
    let stop = tasks.cancelled().clone();
    let mut sources = kinds.watches(&metrics, config.front.is_some());
    sources.extend(provider.sources(&metrics));
    let asked = Arc::clone(&controllers);
    let listeners: Vec<Listener> = vec![Box::new(move |cluster| asked.ask_for(cluster))];
    let fleet = Fleet::new(sources, listeners, Arc::clone(&metrics), tasks.clone());
    controllers.start(&fleet, &metrics, &tasks);
    let mut status =
        Status { fleet: Arc::clone(&fleet), metrics: Arc::clone(&metrics), more: vec![] };
    let drain = if front.is_some() { DRAIN_HTTP } else { DRAIN };
    if let Some(front) = front {
        let running = front.assemble(Arc::clone(&fleet), kinds, onboarding)?;
        let party = running.party();
        status.more.push(Box::new(move || party.ready().err().map(|err| err.to_string())));
        tasks.spawn("the HTTP API", &stop, running.run(stop.clone()));
    }
    let status = Arc::new(status);
    if let Some(listener) = listener {
        let paths = if admin.is_some() { Paths::Health } else { Paths::All };
        let serve = admin::serve(listener, paths, Arc::clone(&status), stop.clone());
        tasks.spawn("the health address", &stop, serve);
    }
    if let Some(admin) = admin {
        let serve = admin::serve(admin, Paths::All, status, stop.clone());
        tasks.spawn("the admin address", &stop, serve);
    }
    if let Some(myself) = myself {
        let asking = stop.clone();
        tasks.spawn("the question who we are", &stop, async move { myself.run(asking).await });
    }
    let tended = Arc::clone(&fleet);
    tasks.spawn("the care for lost endpoints", &stop, async move {
        tended.tend().await;
    });

    let result = tokio::select! {
        () = stop_signal => Ok(()),
        ended = provider.run(Arc::clone(&fleet), metrics, stop.clone()) => ended.map_err(Error::from),
        what = tasks.failed() => Err(Error::Ended(what)),
    };
    tracing::info!("stopping");
    if !tasks.stop(drain).await {
        tracing::warn!("some work did not end in time; it goes on at the next start");
    }
    result
}

/// Where the name outlives the process by which other workspaces know us.
fn memory(provider: &dyn Provider) -> Option<Memory> {
    provider.stored().map(|stored| Memory {
        known: stored.user().map(str::to_owned),
        keep: Box::new(move |user| stored.keep_user(user.to_owned())),
    })
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { flag, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(flag, %address, "listening");
    Ok(listener)
}

/// Listens from this call on; the future ends with the first signal.
fn stop_signal() -> Result<impl Future<Output = ()>, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn settings(config: &Config, client: &kube::Config) -> Result<Settings, Error> {
    let ca = match &config.external_ca {
        Some(ca) => Some(ca.clone()),
        None => own_ca(client)?,
    };
    Ok(Settings {
        namespace_prefix: config.namespace_prefix.clone(),
        pretty_name: config.pretty_name.clone(),
        external_address: config.external_address.clone(),
        ca,
        server_name: config.external_server_name.clone(),
    })
}

/// The CA by which we know the API server, as PEM: consumers reach the same one.
fn own_ca(client: &kube::Config) -> Result<Option<Vec<u8>>, Error> {
    use base64::Engine as _;
    if let Some(path) = &client.root_cert_file {
        let read = std::fs::read(path);
        return read.map(Some).map_err(|source| Error::Ca { path: path.clone(), source });
    }
    let Some(certificates) = &client.root_cert else {
        return Ok(None);
    };
    let mut pem = String::new();
    for der in certificates {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    Ok(Some(pem.into_bytes()))
}
