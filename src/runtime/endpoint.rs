//! One API server URL, and the clients made from it.
//!
//! An endpoint is either a plain API server with one cluster, or a kcp virtual workspace with a
//! logical cluster per path: `<url>/clusters/*` lists and watches all of them, and
//! `<url>/clusters/<name>` reads and writes one (kcp serves writes only there). All of an
//! endpoint's clients share its connections; a per-cluster client is a path prefix, cheap enough to
//! be made for each reconcile and forgotten. The same connections lead to the other virtual workspaces of that
//! shard.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response, Uri};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::ServiceBuilder;
use tower::ServiceExt as _;

use super::cluster::ClusterId;
use super::health::{Observer, Turns, observed};
use super::metrics::Metrics;

/// How long the server may take to begin an answer, and how long one call may take in all.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The server ends a watch after this, so that a silent loss of events is found within it.
pub const WATCH_TIMEOUT: Duration = Duration::from_mins(1);

/// The largest silence on a connection: longer than a watch without events may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// Sent with every request, so that audit logs tell our requests from others.
pub const USER_AGENT: &str = concat!("kube-bind-backend/", env!("CARGO_PKG_VERSION"));

/// Where the cluster of an object comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterSource {
    /// Every object belongs to this cluster; annotations mean nothing.
    Static(ClusterId),
    /// The named annotation carries it; requests name it in their path.
    Annotation(&'static str),
}

/// Identifies an endpoint for the life of the process. An endpoint that is made again for the same
/// URL gets a new one, so that nothing read through the old one is taken for current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

#[cfg(test)]
impl EndpointId {
    /// One that no endpoint has.
    pub(crate) fn for_tests(id: u64) -> Self {
        Self(u64::MAX - id)
    }
}

/// What an endpoint is made from.
#[derive(Clone)]
pub struct EndpointSpec {
    /// URL, credentials and CA.
    pub config: kube::Config,
    /// Where the cluster of an object comes from.
    pub source: ClusterSource,
}

impl EndpointSpec {
    /// The URL, which is also what tells two endpoints apart.
    #[must_use]
    pub fn url(&self) -> String {
        self.config.cluster_url.to_string().trim_end_matches('/').to_owned()
    }
}

/// An endpoint could not be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot connect to {url}: {source}; check the CA, client certificate and token of the kubeconfig"
)]
pub struct ConnectError {
    /// The URL of the endpoint.
    pub url: String,
    /// What the client library says.
    #[source]
    pub source: Box<kube::Error>,
}

/// A connected endpoint.
pub struct Endpoint {
    id: EndpointId,
    url: String,
    uri: Uri,
    /// A client of the server, without the path of the URL.
    server: Client,
    source: ClusterSource,
    turns: Arc<Turns>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The client configuration that all our clients share: no hidden retries, our User-Agent, bounded
/// silence.
#[must_use]
pub fn client_config(mut config: kube::Config) -> kube::Config {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(READ_TIMEOUT);
    // Else the time that a connection idles in the pool counts against the next answer.
    config.reset_reader_on_write = true;
    config.headers.retain(|(name, _)| name != http::header::USER_AGENT);
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    config
}

/// Makes a client whose requests begin to be answered within [`REQUEST_TIMEOUT`] and are counted. A credential plugin
/// is run here, and waited for.
pub fn connect(config: kube::Config, metrics: &Arc<Metrics>) -> Result<Client, ConnectError> {
    let url = config.cluster_url.to_string();
    let client = ClientBuilder::try_from(client_config(config))
        .map_err(|source| ConnectError { url, source: Box::new(source) })?
        .build();
    let metrics = Arc::clone(metrics);
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        let metrics = Arc::clone(&metrics);
        async move {
            let method = request.method().clone();
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, client.send(request)).await;
            let answer: Result<Response<Body>, tower::BoxError> = match answer {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()).into()),
            };
            let code = answer.as_ref().map_or(0, |response| response.status().as_u16());
            metrics.request(&method, code);
            answer
        }
    });
    Ok(Client::new(service, namespace))
}

/// The same from a task: a credential plugin holds up nobody else.
pub async fn connect_apart(
    config: kube::Config,
    metrics: &Arc<Metrics>,
) -> Result<Client, ConnectError> {
    let (url, metrics) = (config.cluster_url.to_string(), Arc::clone(metrics));
    match tokio::task::spawn_blocking(move || connect(config, &metrics)).await {
        Ok(client) => client,
        Err(err) => Err(ConnectError { url, source: Box::new(kube::Error::Service(err.into())) }),
    }
}

impl Endpoint {
    /// Connects. No request is sent yet.
    pub fn connect(spec: EndpointSpec, metrics: &Arc<Metrics>) -> Result<Self, ConnectError> {
        let url = spec.url();
        let uri = spec.config.cluster_url.clone();
        let mut config = spec.config;
        config.cluster_url = without_path(&uri);
        let server = connect(config, metrics)?;
        Ok(Self::new(url, uri, server, spec.source))
    }

    fn new(url: String, uri: Uri, server: Client, source: ClusterSource) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = EndpointId(NEXT.fetch_add(1, Ordering::Relaxed));
        Self { id, url, uri, server, source, turns: Arc::default() }
    }

    /// One whose requests are answered by this client.
    #[cfg(test)]
    pub(crate) fn for_tests(server: Client, source: ClusterSource) -> Self {
        let url = "https://test";
        Self::new(url.to_owned(), Uri::from_static(url), server, source)
    }

    /// Which endpoint this is.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// Its URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Its URL, for people.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The cluster of the endpoint where it has exactly one.
    #[must_use]
    pub fn only_cluster(&self) -> Option<ClusterId> {
        match &self.source {
            ClusterSource::Static(cluster) => Some(cluster.clone()),
            ClusterSource::Annotation(_) => None,
        }
    }

    /// A client for lists and watches over every cluster of the endpoint.
    #[must_use]
    pub fn wildcard(&self) -> Client {
        match &self.source {
            ClusterSource::Static(_) => self.below(""),
            ClusterSource::Annotation(_) => self.below("/clusters/*"),
        }
    }

    /// The same for one watch, which is told of its requests.
    pub(super) fn watching(&self, observer: &Arc<impl Observer>) -> Client {
        observed(self.wildcard(), &self.turns, observer)
    }

    /// When what failed is asked again.
    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// A client for one cluster.
    #[must_use]
    pub fn cluster(&self, cluster: &ClusterId) -> Client {
        match &self.source {
            ClusterSource::Static(_) => self.below(""),
            ClusterSource::Annotation(_) => self.below(&format!("/clusters/{cluster}")),
        }
    }

    fn below(&self, path: &str) -> Client {
        self.at(format!("{}{path}", self.uri.path().trim_end_matches('/')))
    }

    /// The cluster of an object that came through this endpoint; none if it does not say.
    #[must_use]
    pub fn cluster_of(&self, meta: &ObjectMeta) -> Option<ClusterId> {
        match &self.source {
            ClusterSource::Static(cluster) => Some(cluster.clone()),
            ClusterSource::Annotation(key) => {
                let name = meta.annotations.as_ref()?.get(*key)?;
                ClusterId::parse(name).ok()
            }
        }
    }

    /// A client whose paths begin at this one of the same server.
    #[must_use]
    pub fn at(&self, prefix: String) -> Client {
        if prefix.is_empty() {
            return self.server.clone();
        }
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<Body>| {
                if let Some(uri) = prefix_uri(&prefix, request.uri()) {
                    *request.uri_mut() = uri;
                }
                request
            })
            .service(tower::service_fn({
                let server = self.server.clone();
                move |request| {
                    let server = server.clone();
                    async move { server.send(request).await }
                }
            }));
        Client::new(service.boxed(), "default")
    }
}

fn without_path(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// Puts a path before the path of a request, whose URI has only path and query at this point.
fn prefix_uri(prefix: &str, uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    Uri::try_from(format!("{prefix}{rest}")).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn endpoint(source: ClusterSource) -> Endpoint {
        let config = kube::Config::new("https://127.0.0.1:1/services/x".parse().unwrap());
        Endpoint::connect(EndpointSpec { config, source }, &Arc::new(Metrics::default())).unwrap()
    }

    fn annotated(cluster: &str) -> ObjectMeta {
        ObjectMeta {
            annotations: Some(BTreeMap::from([("kcp.io/cluster".to_owned(), cluster.to_owned())])),
            ..ObjectMeta::default()
        }
    }

    #[tokio::test]
    async fn the_endpoint_says_where_the_cluster_of_an_object_comes_from() {
        let annotation = endpoint(ClusterSource::Annotation("kcp.io/cluster"));
        assert_eq!(annotation.cluster_of(&annotated("abc")), ClusterId::parse("abc").ok());
        assert_eq!(annotation.cluster_of(&annotated("../x")), None);
        assert_eq!(annotation.cluster_of(&ObjectMeta::default()), None);
        let plain = endpoint(ClusterSource::Static(ClusterId::local()));
        assert_eq!(plain.cluster_of(&annotated("abc")), Some(ClusterId::local()));
    }

    #[test]
    fn the_wildcard_stays_unescaped_in_the_path() {
        let uri = "/api/v1/secrets?limit=500".parse().unwrap();
        let prefixed = prefix_uri("/clusters/*", &uri).map(|uri| uri.to_string());
        assert_eq!(prefixed.as_deref(), Some("/clusters/*/api/v1/secrets?limit=500"));
    }
}
