//! The routes of the contract (http.md section 1), and what they share.
//!
//! | module | routes |
//! |---|---|
//! | `login` | `/api/authorize`, `/api/callback`, `/api/logout` |
//! | `public` | what needs no session: discovery, health, the konnector's manifests |
//! | `tenant` | what needs one: catalogue, bind, status, apply-binding |
//! | `page` | the page |
//!
//! Every answer of a route of `tenant` comes after the same three questions: who is it (a token or a
//! cookie), which cluster is it about (the one of the login), and may the user do this there (a
//! `SubjectAccessReview`).

mod call;
mod login;
mod page;
mod public;
mod tenant;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;

use self::call::Call;
use super::apply::Applier;
use super::audit::{Action, Audit, Decision, Entry};
use super::bind::Binds;
use super::clusters::Clusters;
use super::error::ApiError;
use super::external_url::ExternalUrl;
use super::limits::{Buckets, Key, Rate};
use super::oidc::{Clock, RelyingParty};
use super::places::Places;
use super::reviews::Reviews;
use super::sessions::Sessions;
use crate::api::keys;
use crate::kinds::Kinds;
use crate::onboarding::Onboarding;

/// Everything that the routes use.
pub struct Api {
    /// Where clients reach us.
    pub external: ExternalUrl,
    /// The provider's name for people.
    pub pretty_name: String,
    /// The client of the identity provider.
    pub party: Arc<RelyingParty>,
    /// The identity provider is the embedded one: its users are `system:authenticated`.
    pub embedded: bool,
    /// Logins and sessions.
    pub sessions: Sessions,
    /// The clusters that can be named.
    pub clusters: Clusters,
    /// What is known of them.
    pub kinds: Arc<Kinds>,
    /// How many may ask something of one shard.
    pub places: Places,
    /// Who may do what in them.
    pub reviews: Reviews,
    /// Binds.
    pub binds: Arc<Binds>,
    /// The names of contract namespaces.
    pub onboarding: Arc<Onboarding>,
    /// The body of `/api/konnector-manifests`.
    pub konnector: String,
    /// None without `--enable-apply-binding`.
    pub applier: Option<Applier>,
    /// The audit log.
    pub audit: Audit,
    /// The time.
    pub clock: Clock,
    /// How often one may ask.
    pub gates: Gates,
}

/// Token buckets. Generous: whole companies share an address, and scripts bind a hundred consumers at
/// once.
pub struct Gates {
    login: Buckets,
    read: Buckets,
    bind: Buckets,
}

/// Addresses or users that are remembered.
const KEPT: usize = 8192;

impl Default for Gates {
    fn default() -> Self {
        let rate = |burst, every| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            Buckets::new(Rate { burst, every }, KEPT)
        };
        Self {
            login: rate(300, Duration::from_millis(50)),
            read: rate(2000, Duration::from_millis(1)),
            bind: rate(300, Duration::from_millis(100)),
        }
    }
}

impl Gates {
    /// Lets one address begin or end a login.
    fn login(&self, call: &Call) -> Result<(), ApiError> {
        pass(&self.login, Key::ip(call.peer.ip()))
    }
}

fn pass(buckets: &Buckets, key: Key) -> Result<(), ApiError> {
    buckets.take(key, Instant::now()).map_err(ApiError::too_many_requests)
}

impl Api {
    /// All routes. Those of the embedded issuer are added by who makes it.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/", get(page::page))
            .route("/resources", get(page::page))
            .route("/assets/page.css", get(page::style))
            .route("/assets/page.js", get(page::script))
            .route("/healthz", get(public::healthz))
            .route("/api/healthz", get(public::api_healthz))
            .route("/exports", get(public::old_exports))
            .route("/api/exports", get(public::exports))
            .route("/api/bindable-resources", get(public::bindable_resources))
            .route("/api/konnector-manifests", get(public::konnector_manifests))
            .route("/api/authorize", get(login::authorize).post(login::authorize_by_post))
            .route("/api/callback", get(login::callback))
            .route("/api/logout", post(login::logout))
            // Where the page of v0.8.1 posts by mistake (contract http.md 4.4).
            .route("/api/api/logout", post(login::logout))
            .route("/api/ping", get(tenant::ping))
            .route("/api/templates", get(tenant::templates))
            .route("/api/collections", get(tenant::collections))
            .route("/api/consumer-status", get(tenant::consumer_status))
            .route("/api/bind", post(tenant::bind))
            .route("/api/apply-binding", post(tenant::apply_binding))
            .with_state(Arc::clone(self))
    }

    /// The groups of a user for authorisation.
    fn groups(&self, mut groups: Vec<String>) -> Vec<String> {
        if self.embedded {
            groups.push(keys::AUTHENTICATED.to_owned());
        }
        groups
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn entry(&self, call: &Call, action: Action) -> Entry {
        Entry::new(self.now(), &call.id, call.peer, action)
    }

    /// Writes the line of a request when its answer is known.
    async fn told(
        &self,
        mut entry: Entry,
        answer: Result<Response, ApiError>,
    ) -> Result<Response, ApiError> {
        match &answer {
            Ok(response) => entry.status = response.status().as_u16(),
            Err(error) => {
                entry.status = error.status().as_u16();
                entry.decision = match entry.status {
                    401 | 403 | 404 => Decision::Denied,
                    _ => Decision::Failed,
                };
                entry.reason = Some(error.in_words());
            }
        }
        self.audit.record(&entry).await;
        answer
    }
}
