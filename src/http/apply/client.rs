//! Bounded calls to a consumer's API server: HTTP/1.1 over TLS to addresses that were checked, no
//! redirects, no proxies, nothing of the answer in any error but a status and one word.

mod error;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::rt::TokioIo;
use kube::Resource;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

pub use self::error::{CallError, Cause, SetupError};
use self::error::{refused, tls_failure};
use super::kubeconfig::ConsumerKubeconfig;
use super::network::Limits;
use super::server::ServerUrl;
use crate::runtime::endpoint;

/// More than the headers of any answer need.
const MAX_HEAD: usize = 64 * 1024;

/// Objects that are read and written.
pub trait Object: Resource<DynamicType = ()> + Serialize + DeserializeOwned {}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Object for K {}

/// A client for one consumer's API server and one request of a user.
pub struct ConsumerClient {
    server: ServerUrl,
    name: ServerName<'static>,
    addresses: Vec<SocketAddr>,
    tls: TlsConnector,
    token: Option<SecretString>,
    limits: Limits,
    deadline: Instant,
    idle: Mutex<Option<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection, for as long as it is wanted.
    _task: AbortOnDropHandle<()>,
}

impl ConsumerClient {
    /// Makes a client that calls these addresses, which the caller has checked. Sends nothing yet,
    /// but the time for all calls begins.
    pub fn new(
        kubeconfig: &ConsumerKubeconfig,
        addresses: Vec<SocketAddr>,
        limits: Limits,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            name: kubeconfig.server.server_name()?,
            server: kubeconfig.server.clone(),
            addresses,
            tls: TlsConnector::from(Arc::new(tls(kubeconfig)?)),
            token: kubeconfig.token.clone(),
            limits,
            deadline: Instant::now() + limits.total,
            idle: Mutex::new(None),
        })
    }

    /// Reads an object.
    pub async fn get<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<K>, CallError> {
        let path = format!("{}/{name}", K::url_path(&(), namespace));
        match self.call(Method::GET, &path, None).await {
            Ok(object) => Ok(Some(object)),
            Err(Cause::NotFound) => Ok(None),
            Err(cause) => Err(failed::<K>("read", name, cause)),
        }
    }

    /// Creates an object.
    pub async fn create<K: Object>(&self, object: &K) -> Result<K, CallError> {
        let meta = object.meta();
        let path = K::url_path(&(), meta.namespace.as_deref());
        let name = meta.name.as_deref().unwrap_or_default();
        self.write(Method::POST, &path, object)
            .await
            .map_err(|cause| failed::<K>("create", name, cause))
    }

    /// Replaces an object, if it still has the resourceVersion that is in its metadata.
    pub async fn update<K: Object>(&self, object: &K) -> Result<K, CallError> {
        let meta = object.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        let path = format!("{}/{name}", K::url_path(&(), meta.namespace.as_deref()));
        self.write(Method::PUT, &path, object)
            .await
            .map_err(|cause| failed::<K>("update", name, cause))
    }

    /// How much time is left for all calls.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    async fn write<K: Object>(&self, method: Method, path: &str, object: &K) -> Result<K, Cause> {
        // The object may be a Secret, so its bytes are overwritten when they are dropped.
        let body = serde_json::to_vec(object).map_err(|_| Cause::Malformed)?;
        self.call(method, path, Some(Bytes::from_owner(Zeroizing::new(body)))).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, Cause> {
        let left = self.left();
        let within = self.limits.call.min(left);
        let answer = timeout(within, self.exchange(&method, path, body.as_ref())).await;
        let (status, body) = match answer {
            Ok(answer) => answer?,
            Err(_) if within < self.limits.call => return Err(Cause::Deadline(self.limits.total)),
            Err(_) => return Err(Cause::Timeout(within)),
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| Cause::Malformed);
        }
        Err(refused(status, &body))
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<(StatusCode, Bytes), Cause> {
        let idle = self.idle.lock().await.take();
        if let Some(connection) = idle.filter(|connection| !connection.sender.is_closed()) {
            // The server may have closed it just now. Each request may be sent twice: reads change
            // nothing, creates name their object, updates carry a resourceVersion.
            match self.send(connection, method, path, body).await {
                Err(Cause::Interrupted) => {}
                answer => return answer,
            }
        }
        self.send(self.dial().await?, method, path, body).await
    }

    async fn send(
        &self,
        mut connection: Connection,
        method: &Method,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<(StatusCode, Bytes), Cause> {
        let request = self.request(method, path, body)?;
        connection.sender.ready().await.map_err(|_| Cause::Interrupted)?;
        let answer = connection.sender.send_request(request).await;
        let (head, body) = answer.map_err(|_| Cause::Interrupted)?.into_parts();
        if head.status.is_redirection() {
            return Err(Cause::Redirect);
        }
        let body = Limited::new(body, self.limits.answer).collect().await.map_err(|err| {
            if err.is::<LengthLimitError>() {
                Cause::TooLarge(self.limits.answer)
            } else {
                Cause::Interrupted
            }
        })?;
        *self.idle.lock().await = Some(connection);
        Ok((head.status, body.to_bytes()))
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<Request<Full<Bytes>>, Cause> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server.path()))
            .header(HOST, self.server.authority())
            .header(USER_AGENT, endpoint::USER_AGENT)
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            let mut value = HeaderValue::from_str(&value).map_err(|_| Cause::Malformed)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body.cloned().unwrap_or_default())).map_err(|_| Cause::Malformed)
    }

    async fn dial(&self) -> Result<Connection, Cause> {
        let stream = self.tls.connect(self.name.clone(), self.reach().await?).await;
        let stream = stream.map_err(|err| tls_failure(&err))?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Cause::Interrupted)?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(Connection { sender, _task: AbortOnDropHandle::new(task) })
    }

    /// Connects to the first address that answers.
    async fn reach(&self) -> Result<TcpStream, Cause> {
        let mut failure = io::ErrorKind::AddrNotAvailable;
        for address in &self.addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(err) => failure = err.kind(),
            }
        }
        Err(Cause::Unreachable(failure))
    }
}

fn failed<K: Object>(action: &'static str, name: &str, cause: Cause) -> CallError {
    CallError { action, object: format!("{} {name}", K::kind(&())), cause }
}

fn tls(kubeconfig: &ConsumerKubeconfig) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| SetupError::NoSystemRoots)?;
    let builder = match &kubeconfig.authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).map_err(|_| SetupError::Authority)?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_native_roots().map_err(|_| SetupError::NoSystemRoots)?,
    };
    let mut config = match &kubeconfig.identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|_| SetupError::Identity)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
