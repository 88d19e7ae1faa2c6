//! From flags to a [`FrontConfig`], in the order of contract flags.md 3; rules of our own come last.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use url::{Host, Url};

use super::args::{FrontArgs, HttpArgs, KonnectorArgs, LoginArgs};
use super::config::{Audit, FrontConfig, IssuerConfig, OidcConfig, RedisConfig, Secret};
use crate::api::duration::GoDuration;
use crate::cli::validate::{ConfigError, certificates, flag, non_empty, read};
use crate::cli::values::{self, ValueError};
use crate::consumer::host_alias::{HostAlias, HostAliasError};
use crate::consumer::networks::{ConsumerNetworks, NetworkError};
use crate::http::external_url::{ExternalUrl, ExternalUrlError};
use crate::http::server::TlsFiles;

/// `kubectl bind` v0.8.1 refuses a token with less than five minutes left (contract http.md 4.3).
const SHORTEST_USEFUL: Duration = Duration::from_mins(6);

/// Flags of the HTTP API that cannot work.
#[derive(Debug, Error)]
pub enum FrontError {
    /// Only one of the two.
    #[error("--tls-cert-file and --tls-key-file belong together; give both or none")]
    TlsPair,
    /// Something that the login needs.
    #[error(
        "--{0} is needed for the login; give it, or run without the HTTP API with --frontend-disabled"
    )]
    Needed(&'static str),
    /// A secret for an issuer that has its own.
    #[error(
        "OIDC_CLIENT_SECRET is set, but the embedded issuer makes its own secret; unset it, or use \
         --oidc-type=external"
    )]
    SecretForEmbedded,
    /// The same for a CA.
    #[error("--oidc-ca-file is for an external issuer; leave it out with --oidc-type=embedded")]
    CaForEmbedded,
    /// Not a URL that works there.
    #[error("--{flag}: {given:?} is refused: {problem}")]
    Url {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// The value.
        given: String,
        /// What is wrong, and how a right one looks.
        problem: &'static str,
    },
    /// Nobody could do anything after the login.
    #[error(
        "nobody may bind: name users with --oidc-allowed-users or groups with --oidc-allowed-groups"
    )]
    NobodyAllowed,
    /// Not a key.
    #[error("--{flag}: {problem}; leave it out, since this version needs no cookie keys")]
    CookieKey {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A password for nothing.
    #[error("REDIS_PASSWORD is set without --redis-addr; name the server, or unset it")]
    PasswordWithoutRedis,
    /// TLS for nothing.
    #[error("--redis-tls and --redis-ca-file need --redis-addr; name the server")]
    TlsWithoutRedis,
    /// Not `host:port`.
    #[error("--redis-addr: {0:?} is not an address; write host:port, such as redis:6379")]
    RedisAddress(String),
    /// Not a line of a hosts file.
    #[error("--konnector-host-alias: {0}")]
    HostAlias(#[source] HostAliasError),
    /// Not a network.
    #[error("--consumer-cidr: {0}")]
    ConsumerCidr(#[source] NetworkError),
    /// Networks for nothing.
    #[error("--consumer-cidr has no effect without --enable-apply-binding; add it")]
    CidrWithoutApply,
    /// Not an origin.
    #[error("--external-url: {given:?} is refused: {source}{}", next(*.source))]
    ExternalUrl {
        /// The value, or the origin that stood in for it.
        given: String,
        /// Why.
        source: ExternalUrlError,
    },
    /// The callback is somewhere else.
    #[error(
        "--oidc-callback-url is not at --external-url {0}; browsers would come back to another server, \
         so give both the same origin"
    )]
    CallbackElsewhere(String),
    /// The embedded issuer is somewhere else.
    #[error(
        "--oidc-issuer-url is not at --external-url {0}, where the embedded issuer is served; give both \
         the same origin"
    )]
    IssuerElsewhere(String),
    /// The embedded issuer could be reached by others.
    #[error(
        "the embedded issuer lets everybody in and is for this machine only: use loopback addresses for \
         --listen-address and --external-url, or add --allow-remote-embedded-oidc"
    )]
    RemoteEmbedded,
}

fn next(problem: ExternalUrlError) -> &'static str {
    if problem == ExternalUrlError::NotHttps { "; or add --allow-plain-http" } else { "" }
}

/// What the environment adds to the command line (contract flags.md 1). Empty counts as unset.
#[derive(Debug, Default)]
pub(in crate::cli) struct Environment {
    /// `OIDC_CLIENT_SECRET`.
    pub(in crate::cli) client_secret: Option<String>,
    /// `REDIS_PASSWORD`.
    pub(in crate::cli) redis_password: Option<String>,
}

impl Environment {
    /// Of this process.
    pub(in crate::cli) fn of_process() -> Self {
        let get = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { client_secret: get("OIDC_CLIENT_SECRET"), redis_password: get("REDIS_PASSWORD") }
    }
}

/// The settings of the HTTP API, but for the host aliases, and lines to log about them. Rule 2 of
/// contract flags.md 3.
pub(in crate::cli) fn front(
    args: &FrontArgs,
    environment: Environment,
    listen: SocketAddr,
    has_allowed: bool,
) -> Result<(FrontConfig, Vec<String>), ConfigError> {
    let FrontArgs { http, login, konnector } = args;
    let tls = tls(http)?;
    let oidc = oidc(login, environment.client_secret, has_allowed)?;
    cookie_keys(login)?;
    let redis = redis(login, environment.redis_password)?;
    if http.frontend != "embedded" {
        let (given, allowed) = (http.frontend.clone(), "embedded");
        return flag("frontend", Err(ValueError::Unknown { given, allowed }));
    }
    let external_url = external_url(http, &oidc)?;
    if oidc.issuer == IssuerConfig::Embedded {
        embedded(login, &oidc, &external_url, listen)?;
    }
    let token_expiry = token_expiry(&login.token_expiry)?;
    let session_keys = match login.session_key_file.as_str() {
        "" => None,
        path => {
            let bytes = read("session-key-file", path)?;
            Some(Secret::new(String::from_utf8_lossy(&bytes).into_owned()))
        }
    };
    if konnector.konnector_image.is_empty() {
        return flag("konnector-image", Err(ValueError::Empty));
    }
    let config = FrontConfig {
        external_url,
        tls,
        audit: match http.audit_log.as_str() {
            "" => None,
            "-" => Some(Audit::Stdout),
            path => Some(Audit::File(path.into())),
        },
        oidc,
        token_expiry,
        session_keys,
        redis,
        konnector_image: konnector.konnector_image.clone(),
        host_aliases: Vec::new(),
        apply_binding: apply_binding(konnector)?,
    };
    let notices = notices(login, &config);
    Ok((config, notices))
}

/// Rule 8 of contract flags.md 3.
pub(in crate::cli) fn aliases(args: &FrontArgs) -> Result<Vec<HostAlias>, FrontError> {
    let given = values::list(&args.konnector.konnector_host_alias);
    HostAlias::parse_list(&given).map_err(FrontError::HostAlias)
}

fn tls(http: &HttpArgs) -> Result<Option<TlsFiles>, FrontError> {
    match (http.tls_cert_file.as_str(), http.tls_key_file.as_str()) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(FrontError::TlsPair),
        (cert, key) => Ok(Some(TlsFiles { cert: PathBuf::from(cert), key: PathBuf::from(key) })),
    }
}

/// Whether the issuer is to be our own, which lets everybody in.
pub(in crate::cli) fn is_embedded(args: &FrontArgs) -> bool {
    names_embedded(&args.login)
}

fn names_embedded(login: &LoginArgs) -> bool {
    login.oidc_type == "embedded"
}

fn oidc(
    login: &LoginArgs,
    secret: Option<String>,
    has_allowed: bool,
) -> Result<OidcConfig, ConfigError> {
    let is_embedded = names_embedded(login);
    let needed = |flag, value: &str| match non_empty(value) {
        Some(value) => Ok(value),
        None => Err(FrontError::Needed(flag)),
    };
    if !is_embedded {
        needed("oidc-issuer-client-id", &login.oidc_issuer_client_id)?;
    } else if secret.is_some() {
        return Err(FrontError::SecretForEmbedded.into());
    }
    let issuer_url = needed("oidc-issuer-url", &login.oidc_issuer_url)?;
    let callback = needed("oidc-callback-url", &login.oidc_callback_url)?;
    let ca = match login.oidc_ca_file.as_str() {
        "" => None,
        _ if is_embedded => return Err(FrontError::CaForEmbedded.into()),
        path => Some(certificates("oidc-ca-file", path)?),
    };
    if !is_embedded && login.oidc_type != "external" {
        let (given, allowed) = (login.oidc_type.clone(), "external and embedded");
        return flag("oidc-type", Err(ValueError::Unknown { given, allowed }));
    }
    let issuer = web_url("oidc-issuer-url", &issuer_url)?;
    let callback_url = web_url("oidc-callback-url", &callback)?;
    if !callback_url.path().ends_with("/api/callback") {
        let problem = "its path is not /api/callback; write <external URL>/api/callback";
        return Err(refused("oidc-callback-url", &callback, problem).into());
    }
    if is_embedded && !issuer.path().ends_with("/oidc") {
        let problem = "the embedded issuer is served at /oidc; write <external URL>/oidc";
        return Err(refused("oidc-issuer-url", &issuer_url, problem).into());
    }
    if !is_embedded && !has_allowed {
        return Err(FrontError::NobodyAllowed.into());
    }
    for (name, claim) in [
        ("oidc-username-claim", &login.oidc_username_claim),
        ("oidc-groups-claim", &login.oidc_groups_claim),
    ] {
        if claim.is_empty() {
            return flag(name, Err(ValueError::Empty));
        }
    }
    let flag_secret = || non_empty(&login.oidc_issuer_client_secret);
    let issuer = if is_embedded {
        IssuerConfig::Embedded
    } else {
        IssuerConfig::External {
            client_id: login.oidc_issuer_client_id.clone(),
            client_secret: secret.or_else(flag_secret).map(Secret::new),
            ca,
        }
    };
    Ok(OidcConfig {
        issuer_url,
        callback_url,
        issuer,
        username_claim: login.oidc_username_claim.clone(),
        groups_claim: login.oidc_groups_claim.clone(),
    })
}

fn refused(flag: &'static str, given: &str, problem: &'static str) -> FrontError {
    FrontError::Url { flag, given: given.to_owned(), problem }
}

fn web_url(flag: &'static str, given: &str) -> Result<Url, FrontError> {
    match Url::parse(given) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(refused(flag, given, "it is not an http or https URL")),
    }
}

/// They have no effect, since a cookie of ours says nothing; a wrong one is still a mistake to tell.
fn cookie_keys(login: &LoginArgs) -> Result<(), FrontError> {
    for (flag, given, lengths) in [
        ("cookie-signing-key", &login.cookie_signing_key, &[32, 64][..]),
        ("cookie-encryption-key", &login.cookie_encryption_key, &[16, 24, 32]),
    ] {
        let refused = |problem| Err(FrontError::CookieKey { flag, problem });
        match STANDARD.decode(given) {
            _ if given.is_empty() => {}
            Err(_) => return refused("it is not base64"),
            Ok(key) if lengths.contains(&key.len()) => {}
            Ok(_) if lengths.contains(&64) => return refused("it does not decode to 32 bytes"),
            Ok(_) => return refused("it does not decode to 16, 24 or 32 bytes"),
        }
    }
    Ok(())
}

fn redis(login: &LoginArgs, password: Option<String>) -> Result<Option<RedisConfig>, ConfigError> {
    let Some(address) = non_empty(&login.redis_addr) else {
        return match password {
            Some(_) => Err(FrontError::PasswordWithoutRedis.into()),
            None if login.redis_tls || !login.redis_ca_file.is_empty() => {
                Err(FrontError::TlsWithoutRedis.into())
            }
            None => Ok(None),
        };
    };
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !valid {
        return Err(FrontError::RedisAddress(address).into());
    }
    let ca = match login.redis_ca_file.as_str() {
        "" => None,
        path => Some(certificates("redis-ca-file", path)?),
    };
    let tls = login.redis_tls || ca.is_some();
    Ok(Some(RedisConfig { address, tls, ca, password: password.map(Secret::new) }))
}

fn external_url(http: &HttpArgs, oidc: &OidcConfig) -> Result<ExternalUrl, FrontError> {
    let callback = oidc.callback_url.origin().ascii_serialization();
    let given = non_empty(&http.external_url).unwrap_or_else(|| callback.clone());
    let external = ExternalUrl::parse(&given, http.allow_plain_http)
        .map_err(|source| FrontError::ExternalUrl { given, source })?;
    if external.origin() != callback {
        return Err(FrontError::CallbackElsewhere(external.origin().to_owned()));
    }
    if oidc.callback_url != external.join("/api/callback") {
        let problem = "it is more than <external URL>/api/callback";
        return Err(refused("oidc-callback-url", oidc.callback_url.as_str(), problem));
    }
    Ok(external)
}

fn embedded(
    login: &LoginArgs,
    oidc: &OidcConfig,
    external: &ExternalUrl,
    listen: SocketAddr,
) -> Result<(), FrontError> {
    let issuer = web_url("oidc-issuer-url", &oidc.issuer_url)?;
    if issuer.origin().ascii_serialization() != external.origin() {
        return Err(FrontError::IssuerElsewhere(external.origin().to_owned()));
    }
    let is_local = match issuer.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if login.allow_remote_embedded_oidc || (is_local && listen.ip().is_loopback()) {
        Ok(())
    } else {
        Err(FrontError::RemoteEmbedded)
    }
}

fn token_expiry(given: &str) -> Result<Duration, ConfigError> {
    let parsed = GoDuration::parse_non_negative(given).map_err(ValueError::from);
    let expiry = flag("token-expiry", parsed)?.to_std();
    if expiry < Duration::from_mins(1) {
        let too_short = ValueError::TooShort { given: given.to_owned(), minimum: "1m" };
        return flag("token-expiry", Err(too_short));
    }
    Ok(expiry)
}

fn apply_binding(konnector: &KonnectorArgs) -> Result<Option<ConsumerNetworks>, FrontError> {
    let given = values::list(&konnector.consumer_cidr);
    if !konnector.enable_apply_binding {
        return if given.is_empty() { Ok(None) } else { Err(FrontError::CidrWithoutApply) };
    }
    ConsumerNetworks::parse(&given).map(Some).map_err(FrontError::ConsumerCidr)
}

fn notices(login: &LoginArgs, config: &FrontConfig) -> Vec<String> {
    let mut notices = Vec::new();
    let without_effect = [
        ("--oidc-authorize-url", &login.oidc_authorize_url),
        ("--cookie-signing-key", &login.cookie_signing_key),
        ("--cookie-encryption-key", &login.cookie_encryption_key),
    ];
    for (name, given) in without_effect {
        if !given.is_empty() {
            notices.push(format!("{name} has no effect; leave it out"));
        }
    }
    if config.token_expiry < SHORTEST_USEFUL {
        notices.push(
            "--token-expiry is below 6m: kubectl bind refuses tokens that end within five minutes"
                .to_owned(),
        );
    }
    if config.session_keys.is_none() {
        notices.push(
            "without --session-key-file tokens of kubectl bind end with this process and are not known \
             to other replicas"
                .to_owned(),
        );
    }
    notices
}
