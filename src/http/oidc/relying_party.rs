//! The login: where the browser is sent, and what becomes of the code it comes back with.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use backon::BackoffBuilder as _;
use http::Uri;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::claims::{Expected, Identity};
use super::discovery::{self, Document, Reach};
use super::error::{ConfigError, Error, NotReady, Refusal};
use super::exchange::exchange;
use super::keys::{self, Keys};
use super::token::Unverified;
use super::transport::Transport;
use super::{Clock, challenge, random};

/// What is asked for unless configured otherwise (contract http.md 4.1). What an issuer declares not
/// to know of it is left out.
pub const DEFAULT_SCOPES: [&str; 5] = ["openid", "profile", "email", "offline_access", "groups"];

/// How often the issuer's description and keys are read again.
const REFRESH: Duration = Duration::from_hours(1);

/// The least time between two reads of the keys because a token names one that is not there. A
/// sign-in storm with forged tokens must not become one at the issuer.
const REFETCH: SignedDuration = SignedDuration::from_mins(1);

/// What makes us a client of an issuer.
#[derive(Debug, Clone)]
pub struct Config {
    /// The issuer, exactly as it writes itself: `--oidc-issuer-url`.
    pub issuer_url: String,
    /// Our name there.
    pub client_id: String,
    /// Our secret there. None for a public client: PKCE is used with both.
    pub client_secret: Option<SecretString>,
    /// Where the browser comes back to: `--oidc-callback-url`.
    pub callback_url: Url,
    /// PEM of the only CAs to trust for the issuer; none for those of the system.
    pub ca: Option<Vec<u8>>,
    /// What to ask for, see [`DEFAULT_SCOPES`].
    pub scopes: Vec<String>,
    /// The claim with the user's name for authorisation: `sub` unless there is a reason.
    pub username_claim: String,
    /// The claim with the user's groups: `groups` unless there is a reason.
    pub groups_claim: String,
}

impl Config {
    /// With everything that has a default.
    #[must_use]
    pub fn new(issuer_url: String, client_id: String, callback_url: Url) -> Self {
        Self {
            issuer_url,
            client_id,
            client_secret: None,
            callback_url,
            ca: None,
            scopes: DEFAULT_SCOPES.map(str::to_owned).into(),
            username_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
        }
    }
}

/// A login that begins. The caller keeps state, nonce and verifier together, for one use, bound to
/// the browser.
pub struct Started {
    /// Where the browser goes.
    pub authorize_url: Url,
    /// Comes back with the browser.
    pub state: SecretString,
    /// Comes back in the `id_token`.
    pub nonce: String,
    /// Proves at the token endpoint that we began.
    pub verifier: SecretString,
}

/// What the issuer said of itself last.
struct Metadata {
    document: Document,
    keys: Arc<Keys>,
}

/// The last read of the keys for the sake of a token.
struct Refetch {
    at: Timestamp,
    key_id: Option<String>,
    failed: bool,
}

/// A client of one issuer.
pub struct RelyingParty {
    config: Config,
    reach: Reach,
    transport: Transport,
    clock: Clock,
    /// The error is what the last attempt met.
    metadata: watch::Sender<Result<Arc<Metadata>, String>>,
    refetch: Mutex<Option<Refetch>>,
}

impl RelyingParty {
    /// A client of an issuer on the network.
    pub fn new(config: Config, clock: Clock) -> Result<Self, ConfigError> {
        let reach = Reach::of(&config.issuer_url, false)?;
        let transport = match (reach, &config.ca) {
            // Development: a machine without CAs can do without TLS.
            (Reach::Loopback, None) => {
                Transport::network(None).unwrap_or_else(|_| Transport::plain())
            }
            (_, ca) => Transport::network(ca.as_deref())?,
        };
        Ok(Self::with(config, reach, transport, clock))
    }

    /// A client of the issuer behind this router: no call leaves the process.
    pub fn in_process(config: Config, issuer: Router, clock: Clock) -> Result<Self, ConfigError> {
        let reach = Reach::of(&config.issuer_url, true)?;
        Ok(Self::with(config, reach, Transport::InProcess(issuer), clock))
    }

    fn with(config: Config, reach: Reach, transport: Transport, clock: Clock) -> Self {
        let (metadata, _) = watch::channel(Err("it was not asked yet".to_owned()));
        Self { config, reach, transport, clock, metadata, refetch: Mutex::default() }
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.config.issuer_url
    }

    /// Whether logins are possible.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.metadata().map(|_| ())
    }

    /// Waits until logins are possible.
    pub async fn until_ready(&self) {
        // It fails only if the sender is gone, which is ours.
        let _ = self.metadata.subscribe().wait_for(Result::is_ok).await;
    }

    /// Asks the issuer for its description and keys until it answers, and again each hour. No login
    /// does it: one that is cancelled must not leave its failure behind.
    pub async fn run(&self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                self.discover().await;
                tokio::time::sleep(REFRESH).await;
            }
        })
        .await;
    }

    /// Begins a login.
    pub fn start_login(&self) -> Result<Started, Error> {
        let metadata = self.metadata()?;
        let fresh = || random().map_err(|_| Error::Random);
        let (state, nonce, verifier) = (fresh()?, fresh()?, fresh()?);
        let mut authorize_url = metadata.document.authorization.clone();
        authorize_url
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", self.config.callback_url.as_str())
            .append_pair("scope", &metadata.document.scope)
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge(&verifier))
            .append_pair("code_challenge_method", "S256");
        let (state, verifier) = (SecretString::from(state), SecretString::from(verifier));
        Ok(Started { authorize_url, state, nonce, verifier })
    }

    /// Checks the parameter `iss` of the callback: the answer of another issuer, that a mix-up
    /// attack brings here, ends before its code is sent anywhere (RFC 9207, 2.4). An issuer that
    /// does not declare the parameter may still send it; it must be right then too.
    pub fn check_issuer_parameter(&self, iss: Option<&str>) -> Result<(), Error> {
        match iss {
            Some(iss) if iss == self.config.issuer_url => Ok(()),
            None if !self.metadata()?.document.issuer_parameter => Ok(()),
            _ => Err(Error::IssuerParameter),
        }
    }

    /// Ends a login: exchanges the code, and believes the `id_token` after all checks.
    pub async fn finish_login(
        &self,
        code: &SecretString,
        verifier: &SecretString,
        nonce: &str,
    ) -> Result<Identity, Error> {
        let metadata = self.metadata()?;
        let id_token =
            exchange(&self.transport, &self.config, &metadata.document, code, verifier).await?;
        let token = Unverified::read(id_token.expose_secret(), &metadata.document.algorithms)?;
        let claims = self.signed_claims(&metadata, &token).await?;
        let expected = Expected {
            issuer: &self.config.issuer_url,
            client_id: &self.config.client_id,
            nonce,
            username_claim: &self.config.username_claim,
            groups_claim: &self.config.groups_claim,
            now: (self.clock)(),
        };
        Ok(expected.identity(&claims)?)
    }

    fn metadata(&self) -> Result<Arc<Metadata>, NotReady> {
        self.metadata
            .borrow()
            .clone()
            .map_err(|problem| NotReady { issuer: self.config.issuer_url.clone(), problem })
    }

    /// Reads description and keys, however often it takes. What is known stays known meanwhile.
    async fn discover(&self) {
        let pauses = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_mins(1))
            .with_jitter()
            .without_max_times()
            .build();
        let mut said = None;
        for pause in pauses {
            let problem = match self.read_metadata().await {
                Ok(metadata) => {
                    if said.is_some() || self.metadata.borrow().is_err() {
                        tracing::info!(issuer = self.config.issuer_url, "logins are possible");
                    }
                    self.metadata.send_modify(|known| *known = Ok(Arc::new(metadata)));
                    return;
                }
                Err(problem) => problem,
            };
            self.metadata.send_if_modified(|metadata| {
                let unknown = metadata.is_err();
                if unknown {
                    *metadata = Err(problem.clone());
                }
                unknown
            });
            if said.as_ref() != Some(&problem) {
                tracing::warn!(
                    issuer = self.config.issuer_url,
                    problem,
                    "the OpenID Connect issuer cannot be used; it is asked again"
                );
            }
            said = Some(problem);
            tokio::time::sleep(pause).await;
        }
    }

    async fn read_metadata(&self) -> Result<Metadata, String> {
        let issuer = &self.config.issuer_url;
        let address = discovery::address(issuer).map_err(|err| err.to_string())?;
        let wire = self.transport.get(&address).await.map_err(|err| err.to_string())?;
        let document = Document::new(wire, issuer, self.reach, &self.config.scopes)
            .map_err(|err| format!("what {address} says cannot be used: {err}"))?;
        let keys = self.read_keys(&document.jwks).await?;
        Ok(Metadata { document, keys: Arc::new(keys) })
    }

    async fn read_keys(&self, address: &Uri) -> Result<Keys, String> {
        let wire: keys::Wire = self.transport.get(address).await.map_err(|err| err.to_string())?;
        Keys::new(wire).ok_or_else(|| format!("{address} has no key for signatures"))
    }

    /// The claims of a token, if a key of the issuer signed them: one that we know, or one that it
    /// has had for less than an hour.
    async fn signed_claims(
        &self,
        metadata: &Metadata,
        token: &Unverified<'_>,
    ) -> Result<Map<String, Value>, Error> {
        match token.claims(&metadata.keys) {
            Err(Refusal::UnknownKey) => {
                let keys = self.newer_keys(token).await?;
                Ok(token.claims(&keys)?)
            }
            decided => Ok(decided?),
        }
    }

    /// Reads the keys again, once for all logins that wait for it, and at most once a minute.
    async fn newer_keys(&self, token: &Unverified<'_>) -> Result<Arc<Keys>, Error> {
        let mut last = self.refetch.lock().await;
        // Another login may have read them while this one waited for the lock.
        let metadata = self.metadata()?;
        if token.claims(&metadata.keys) != Err(Refusal::UnknownKey) {
            return Ok(Arc::clone(&metadata.keys));
        }
        let now = (self.clock)();
        if let Some(last) = &*last {
            let age = now.duration_since(last.at).abs();
            if age < REFETCH && !last.failed && last.key_id.as_deref() == token.key_id() {
                return Err(Refusal::UnknownKey.into());
            }
            if age < REFETCH {
                let problem = "they were read less than a minute ago".to_owned();
                let retry_after = (REFETCH - age).unsigned_abs();
                return Err(Error::Keys { problem, retry_after });
            }
        }
        let read = self.read_keys(&metadata.document.jwks).await;
        let key_id = token.key_id().map(str::to_owned);
        // Only now: a login that was given up meanwhile must not use up the minute.
        *last = Some(Refetch { at: now, key_id, failed: read.is_err() });
        let keys = read
            .map(Arc::new)
            .map_err(|problem| Error::Keys { problem, retry_after: REFETCH.unsigned_abs() })?;
        let document = metadata.document.clone();
        let newer = Metadata { document, keys: Arc::clone(&keys) };
        self.metadata.send_modify(|known| *known = Ok(Arc::new(newer)));
        Ok(keys)
    }
}
