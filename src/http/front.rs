//! The HTTP API as one thing: made of what was configured, run, and ended in order.

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::api::{Api, Gates};
use super::apply::{self, Applier, Network};
use super::audit::{self, Audit, Writer};
use super::bind::{Binds, Changes};
use super::clusters::Clusters;
use super::external_url::ExternalUrl;
use super::konnector::{self, Konnector};
use super::oidc::issuer::{self, Issuer};
use super::oidc::{self, Clock, RelyingParty};
use super::places::Places;
use super::reviews::Reviews;
use super::server::{self, CONTRACT, Limits, RouteRule, Server, ServerConfig};
use super::sessions::{self, KeyRing, Sessions, Store};
use crate::consumer::networks::ConsumerNetworks;
use crate::kinds::Kinds;
use crate::onboarding::Onboarding;
use crate::runtime::fleet::Fleet;

/// Why there is no HTTP API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The identity provider, as it is configured.
    #[error(transparent)]
    Oidc(#[from] oidc::ConfigError),
    /// The embedded one.
    #[error(transparent)]
    Issuer(#[from] issuer::Error),
    /// The keys for tokens.
    #[error("--session-key-file: {0}")]
    Keys(#[from] sessions::KeyError),
    /// Redis, as it is configured.
    #[error(transparent)]
    Redis(#[from] sessions::RedisConfigError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] audit::Error),
    /// The konnector's manifests.
    #[error(transparent)]
    Konnector(#[from] konnector::Error),
}

/// Whose identity provider it is.
pub enum Provider {
    /// Ours, for development, at this issuer URL.
    Embedded(url::Url),
    /// Somebody's.
    External,
}

/// What the HTTP API is made of.
pub struct Parts {
    /// How it is reached.
    pub listen: std::net::SocketAddr,
    /// With these it speaks TLS.
    pub tls: Option<server::TlsFiles>,
    /// What clients call it.
    pub external: ExternalUrl,
    /// The provider's name for people.
    pub pretty_name: String,
    /// The client of the identity provider; client and secret of the embedded one are its own.
    pub oidc: oidc::Config,
    /// Whose it is.
    pub provider: Provider,
    /// How long a session lasts.
    pub lifetime: std::time::Duration,
    /// PEM of the keys for tokens; none for a new one.
    pub keys: Option<secrecy::SecretString>,
    /// Redis for sessions; none for memory.
    pub redis: Option<sessions::RedisConfig>,
    /// The audit log.
    pub audit: (Audit, Option<Writer>),
    /// How konnectors are installed.
    pub konnector: Konnector,
    /// Where bindings may be applied; none if nowhere.
    pub apply: Option<ConsumerNetworks>,
    /// Requests name a cluster.
    pub named: bool,
    /// The time.
    pub clock: Clock,
}

/// What of it must be there before the watches begin.
pub struct Front {
    server: Server,
    parts: Parts,
    changes: Changes,
}

/// What runs.
pub struct Running {
    api: Arc<Api>,
    server: Server,
    router: Router,
    writer: Option<Writer>,
}

/// Paths of the embedded issuer that programs call.
const ISSUER: [RouteRule; 2] =
    [RouteRule::new("/oidc/token").for_programs(), RouteRule::new("/oidc/userinfo").for_programs()];

impl Front {
    /// Takes the address, and listens to the kinds.
    pub async fn bind(parts: Parts, kinds: &Kinds) -> Result<Self, Error> {
        let mut routes = CONTRACT.to_vec();
        if matches!(parts.provider, Provider::Embedded(_)) {
            routes.extend(ISSUER);
            #[cfg(feature = "issuer-knobs")]
            routes.push(RouteRule::new("/oidc/knobs").for_programs());
        }
        let server = Server::bind(ServerConfig {
            listen: parts.listen,
            tls: parts.tls.clone(),
            external_url: parts.external.clone(),
            routes,
            limits: Limits::default(),
        })
        .await?;
        let address = server.local_addr();
        tracing::info!(flag = "--listen-address", %address, "listening");
        tracing::info!(url = parts.external.origin(), "the HTTP API is reached at this address");
        Ok(Self { server, parts, changes: Changes::of(kinds) })
    }

    /// Puts everything together.
    pub fn assemble(
        self,
        fleet: Arc<Fleet>,
        kinds: Arc<Kinds>,
        onboarding: Arc<Onboarding>,
    ) -> Result<Running, Error> {
        let Self { server, parts, changes } = self;
        let clock = parts.clock;
        let embedded = matches!(parts.provider, Provider::Embedded(_));
        let (party, issuer) = match &parts.provider {
            Provider::External => (RelyingParty::new(parts.oidc, Arc::clone(&clock))?, None),
            Provider::Embedded(url) => {
                tracing::warn!(
                    "EMBEDDED OIDC: everybody who reaches {} is logged in without a password; use \
                     --oidc-type=external for anything but development",
                    parts.external.origin()
                );
                let issuer = Issuer::new(url, &parts.oidc.callback_url, Arc::clone(&clock))?;
                let config = oidc::Config {
                    username_claim: parts.oidc.username_claim,
                    groups_claim: parts.oidc.groups_claim,
                    ..issuer.client()
                };
                let router = issuer.router();
                let party = RelyingParty::in_process(config, router.clone(), Arc::clone(&clock))?;
                (party, Some(router))
            }
        };
        let keys = match &parts.keys {
            Some(pem) => {
                use secrecy::ExposeSecret as _;
                KeyRing::from_pem(pem.expose_secret().as_bytes())?
            }
            None => KeyRing::generate()?,
        };
        let store = match parts.redis {
            Some(redis) => Store::Redis(sessions::Redis::new(redis, Arc::clone(&clock))?),
            None => Store::Memory(sessions::Memory::new(Arc::clone(&clock))),
        };
        let config =
            sessions::Config { external_url: parts.external.join("/"), lifetime: parts.lifetime };
        let applier = parts.apply.map(|networks| {
            let resolver = Arc::new(apply::SystemResolver);
            let network = Network::new(networks, resolver, apply::Limits::default());
            Applier::new(network, parts.konnector.clone())
        });
        let (audit, writer) = parts.audit;
        let api = Arc::new(Api {
            external: parts.external,
            pretty_name: parts.pretty_name,
            party: Arc::new(party),
            embedded,
            sessions: Sessions::new(&config, store, keys, Arc::clone(&clock)),
            places: Places::new(Arc::clone(&fleet)),
            clusters: Clusters::new(fleet, parts.named),
            kinds: Arc::clone(&kinds),
            reviews: Reviews::default(),
            binds: Binds::new(kinds, Arc::clone(&onboarding), changes),
            onboarding,
            konnector: parts.konnector.to_yaml()?,
            applier,
            audit,
            clock,
            gates: Gates::default(),
        });
        let router = api.router();
        let router = match issuer {
            Some(issuer) => router.merge(issuer),
            None => router,
        };
        Ok(Running { api, server, router, writer })
    }
}

impl Running {
    /// What keeps logins from being possible; none if nothing does.
    #[must_use]
    pub fn party(&self) -> Arc<RelyingParty> {
        Arc::clone(&self.api.party)
    }

    /// Serves until the token is cancelled; then what was begun is ended: answers, binds whose client
    /// has gone, lines of the audit log.
    pub async fn run(self, stop: CancellationToken) {
        let party = self.party();
        let asking = party.run(stop.clone());
        let serving = self.server.run(self.router, stop);
        futures::join!(asking, serving);
        self.api.binds.finish().await;
        drop(self.api);
        if let Some(writer) = self.writer
            && tokio::task::spawn_blocking(|| writer.finish()).await.is_err()
        {
            tracing::error!("the audit log could not be finished; lines may be missing");
        }
    }
}
