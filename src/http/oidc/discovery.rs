//! The issuer's own description (`OpenID` Connect Discovery 1.0), and what of it is believed.

use http::Uri;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use thiserror::Error;
use url::{Host, Url};

use super::error::ConfigError;

/// The algorithms of an `id_token` that are ever accepted. `none` and those with a shared key are not
/// among them: the "key" of such a token is known to everybody (RFC 8725, 3.1 and 3.2).
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Which endpoints are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// https only.
    Https,
    /// Development: https, and http to this machine.
    Loopback,
    /// The issuer is in this process: only its own paths.
    InProcess,
}

impl Reach {
    /// What the issuer's URL allows; an error if it cannot be one.
    pub(super) fn of(issuer: &str, in_process: bool) -> Result<Self, ConfigError> {
        let refused = |problem| ConfigError::Issuer { url: issuer.to_owned(), problem };
        let url = Url::parse(issuer)
            .map_err(|_| refused("it is not a URL; write it as the issuer itself does"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("it holds a user name or password; leave them out"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("an issuer has neither query nor fragment; leave them out"));
        }
        match (url.scheme(), in_process) {
            ("http" | "https", true) => Ok(Self::InProcess),
            ("https", false) => Ok(Self::Https),
            ("http", false) if is_loopback(&url) => Ok(Self::Loopback),
            ("http", false) => Err(refused(
                "whoever is on the way could log in as anybody; use https (http only for 127.0.0.1, [::1] and localhost)",
            )),
            _ => Err(refused("the scheme must be https")),
        }
    }

    fn allows(self, issuer: &str, url: &Url) -> bool {
        let clean =
            url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        clean
            && match self {
                Self::Https => url.scheme() == "https",
                Self::Loopback => {
                    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
                }
                Self::InProcess => {
                    url.as_str().strip_prefix(issuer).is_some_and(|path| path.starts_with('/'))
                }
            }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Where the description is: the issuer without a `/` at its end, then the fixed path.
pub(super) fn address(issuer: &str) -> Result<Uri, Problem> {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{issuer}/.well-known/openid-configuration")
        .parse()
        .map_err(|_| Problem::Endpoint("issuer"))
}

/// The document as it comes.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Wire {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    id_token_signing_alg_values_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Why the document is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Problem {
    #[error("it calls itself {0:?}; --oidc-issuer-url must be exactly the same, to the last slash")]
    Issuer(String),
    #[error("its {0} is not a URL that may be used: https, without user and fragment")]
    Endpoint(&'static str),
    #[error(
        "it signs its id_tokens with none of the allowed algorithms (RS*, PS*, ES256, ES384, EdDSA)"
    )]
    Algorithms,
}

/// What is used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) authorization: Url,
    pub(super) token: Uri,
    pub(super) jwks: Uri,
    /// What an `id_token` may be signed with.
    pub(super) algorithms: Vec<Algorithm>,
    /// What is asked for, as one parameter.
    pub(super) scope: String,
    /// The client's secret goes into the form, because the issuer knows no other way.
    pub(super) secret_in_form: bool,
    /// Every answer of the authorization endpoint has the parameter `iss` (RFC 9207).
    pub(super) issuer_parameter: bool,
}

impl Document {
    /// Checks it.
    pub(super) fn new(
        wire: Wire,
        issuer: &str,
        reach: Reach,
        scopes: &[String],
    ) -> Result<Self, Problem> {
        if wire.issuer != issuer {
            return Err(Problem::Issuer(wire.issuer.chars().take(200).collect()));
        }
        let endpoint = |name, text: &str| {
            let url = Url::parse(text).ok().filter(|url| reach.allows(issuer, url));
            url.ok_or(Problem::Endpoint(name))
        };
        let uri = |name, text: &str| {
            endpoint(name, text)?.as_str().parse::<Uri>().map_err(|_| Problem::Endpoint(name))
        };
        Ok(Self {
            authorization: endpoint("authorization_endpoint", &wire.authorization_endpoint)?,
            token: uri("token_endpoint", &wire.token_endpoint)?,
            jwks: uri("jwks_uri", &wire.jwks_uri)?,
            algorithms: algorithms(wire.id_token_signing_alg_values_supported)?,
            scope: scope(scopes, wire.scopes_supported.as_deref()),
            // Without the list, HTTP Basic is the rule (Discovery 1.0, 3).
            secret_in_form: wire.token_endpoint_auth_methods_supported.is_some_and(|methods| {
                let has = |wanted| methods.iter().any(|method| method == wanted);
                has("client_secret_post") && !has("client_secret_basic")
            }),
            issuer_parameter: wire.authorization_response_iss_parameter_supported,
        })
    }
}

/// Ours that the issuer has too. RS256 is what every issuer must have.
fn algorithms(declared: Option<Vec<String>>) -> Result<Vec<Algorithm>, Problem> {
    let Some(declared) = declared else { return Ok(vec![Algorithm::RS256]) };
    let declared: Vec<Algorithm> = declared.iter().filter_map(|name| name.parse().ok()).collect();
    let both: Vec<Algorithm> =
        ALGORITHMS.into_iter().filter(|algorithm| declared.contains(algorithm)).collect();
    if both.is_empty() { Err(Problem::Algorithms) } else { Ok(both) }
}

/// Some issuers refuse a login that asks for a scope they do not know (`groups` above all), so what
/// is not on a published list is left out. `openid` is what makes it a login.
fn scope(wanted: &[String], offered: Option<&[String]>) -> String {
    let offered = |scope: &&str| offered.is_none_or(|list| list.iter().any(|have| have == scope));
    let rest = wanted.iter().map(String::as_str).filter(|scope| *scope != "openid").filter(offered);
    std::iter::once("openid").chain(rest).collect::<Vec<_>>().join(" ")
}
