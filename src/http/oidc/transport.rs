//! Bounded calls to the issuer: no redirects, no proxies, no reuse of connections that the other
//! side may have closed.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tower::ServiceExt as _;

use super::error::ConfigError;
use crate::runtime::error::first_line;

/// How long one call may take, body included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// How the issuer is reached.
pub(super) enum Transport {
    /// Over the network.
    Network(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    /// The issuer is in this process: TLS, proxies and the name of our own host do not matter.
    InProcess(Router),
}

/// A call without a usable answer. Only ever made of what we asked and of how it failed, never of
/// what was sent or answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Failure {
    #[error("{0} did not answer within {seconds} s", seconds = CALL_TIMEOUT.as_secs())]
    Timeout(Uri),
    #[error("{uri} cannot be reached: {reason}")]
    Unreachable { uri: Uri, reason: String },
    #[error("the answer of {uri} broke off: {reason}")]
    Interrupted { uri: Uri, reason: String },
    #[error("the answer of {0} is larger than {MAX_ANSWER} bytes")]
    TooLarge(Uri),
    #[error("{uri} answered {status}")]
    Status { uri: Uri, status: StatusCode },
    #[error("the answer of {0} is not application/json")]
    ContentType(Uri),
    #[error("the answer of {0} is not JSON of the expected shape")]
    Shape(Uri),
}

/// An answer, read to its end.
pub(super) struct Answer {
    uri: Uri,
    pub(super) status: StatusCode,
    json: bool,
    body: Bytes,
}

impl Answer {
    /// The body of a success.
    pub(super) fn success<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if self.status != StatusCode::OK {
            return Err(Failure::Status { uri: self.uri.clone(), status: self.status });
        }
        self.decode()
    }

    /// The body, whatever the status.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if !self.json {
            return Err(Failure::ContentType(self.uri.clone()));
        }
        // What serde says may quote the body.
        serde_json::from_slice(&self.body).map_err(|_| Failure::Shape(self.uri.clone()))
    }
}

impl Transport {
    /// Over the network, trusting the given CA (PEM) alone or else those of the system.
    pub(super) fn network(ca: Option<&[u8]>) -> Result<Self, ConfigError> {
        let builder = rustls::ClientConfig::builder();
        let tls = match ca {
            Some(pem) => builder.with_root_certificates(roots(pem)?),
            None => builder
                .with_native_roots()
                .map_err(|err| ConfigError::SystemRoots(first_line(&err)))?,
        };
        Ok(Self::with_tls(tls.with_no_client_auth()))
    }

    /// Over the network, trusting no CA.
    pub(super) fn plain() -> Self {
        let tls =
            rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        Self::with_tls(tls.with_no_client_auth())
    }

    fn with_tls(tls: rustls::ClientConfig) -> Self {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        // Logins are rare: a new connection each costs less than one that was closed meanwhile.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector.build());
        Self::Network(client)
    }

    /// Reads a JSON document.
    pub(super) async fn get<T: DeserializeOwned>(&self, uri: &Uri) -> Result<T, Failure> {
        self.call(uri, Request::builder().method(Method::GET), Bytes::new()).await?.success()
    }

    /// Makes one call. The request's headers are the caller's, apart from `Accept`.
    pub(super) async fn call(
        &self,
        uri: &Uri,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let request =
            request.uri(uri.clone()).header(ACCEPT, "application/json").body(Full::new(body));
        let unreachable = |reason: String| Failure::Unreachable { uri: uri.clone(), reason };
        let request = request.map_err(|err| unreachable(first_line(&err)))?;
        let exchange = async {
            match self {
                Self::Network(client) => match client.request(request).await {
                    Ok(response) => read(uri, response).await,
                    Err(err) => Err(unreachable(causes(&err))),
                },
                Self::InProcess(router) => {
                    let answered: Result<_, Infallible> =
                        router.clone().oneshot(request.map(Body::new)).await;
                    match answered {
                        Ok(response) => read(uri, response).await,
                        Err(never) => match never {},
                    }
                }
            }
        };
        match tokio::time::timeout(CALL_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Timeout(uri.clone())),
        }
    }
}

async fn read<B>(uri: &Uri, response: Response<B>) -> Result<Answer, Failure>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let json =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json);
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => {
            Ok(Answer { uri: uri.clone(), status: head.status, json, body: body.to_bytes() })
        }
        Err(err) if err.is::<LengthLimitError>() => Err(Failure::TooLarge(uri.clone())),
        Err(err) => Err(Failure::Interrupted { uri: uri.clone(), reason: causes(err.as_ref()) }),
    }
}

/// `application/json`, and its relatives such as `application/jwk-set+json`.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

/// An error of the client library says only "client error"; the cause is below it.
fn causes(err: &dyn std::error::Error) -> String {
    let mut text = first_line(err);
    let mut source = err.source();
    while let Some(err) = source {
        text = format!("{text}: {}", first_line(err));
        source = err.source();
    }
    text
}

fn roots(pem: &[u8]) -> Result<rustls::RootCertStore, ConfigError> {
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|err| ConfigError::Ca(err.to_string()))?;
        store.add(certificate).map_err(|err| ConfigError::Ca(err.to_string()))?;
    }
    if store.is_empty() {
        return Err(ConfigError::Ca("it has no certificate".to_owned()));
    }
    Ok(store)
}
