//! Consumers' API servers for the tests, on loopback with real TLS.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::network::{Limits, Network, Resolve};
use crate::consumer::networks::ConsumerNetworks;

pub(super) const SERVER_CERTIFICATE: &str = include_str!("testdata/server.crt");
const SERVER_KEY: &str = include_str!("testdata/server.key");
pub(super) const CLIENT_CERTIFICATE: &str = include_str!("testdata/client.crt");
pub(super) const CLIENT_KEY: &str = include_str!("testdata/client.key");
pub(super) const TOKEN: &str = "canary-t0ken";

/// A listener that counts its connections and is gone when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

/// Serves each TCP connection with `on`.
pub(super) async fn tcp<F>(address: SocketAddr, on: F) -> Server
where
    F: Fn(TcpStream) -> BoxFuture<'static, ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(on(stream));
        }
    });
    Server { address, connections, _task: AbortOnDropHandle::new(task) }
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Serves each TLS connection with `on`.
pub(super) async fn tls<F>(address: SocketAddr, config: ServerConfig, on: F) -> Server
where
    F: Fn(TlsStream<TcpStream>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let on = Arc::new(on);
    tcp(address, move |stream| {
        let (acceptor, on) = (acceptor.clone(), Arc::clone(&on));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                on(stream).await;
            }
        }
        .boxed()
    })
    .await
}

/// The usual TLS, with or without certificates of clients.
pub(super) fn server_config(client_certificates: bool) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if client_certificates {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(CLIENT_CERTIFICATE)).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap();
    builder.with_single_cert(vec![certificate(SERVER_CERTIFICATE)], key).unwrap()
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Serves HTTP over TLS with `answer`, which gets the request with its whole body.
pub(super) async fn http<F>(config: ServerConfig, answer: F) -> Server
where
    F: Fn(Request<Bytes>) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync + 'static,
{
    http_at(loopback(), config, answer).await
}

pub(super) async fn http_at<F>(address: SocketAddr, config: ServerConfig, answer: F) -> Server
where
    F: Fn(Request<Bytes>) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    tls(address, config, move |stream| {
        let answer = Arc::clone(&answer);
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = Arc::clone(&answer);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                Ok::<_, Infallible>(answer(Request::from_parts(head, body)).await)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        connection.map(drop).boxed()
    })
    .await
}

pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}

/// A kubeconfig for the server, trusting [`SERVER_CERTIFICATE`] alone.
pub(super) fn kubeconfig(server: &str) -> String {
    with_user(server, &json!({ "token": TOKEN }))
}

pub(super) fn with_user(server: &str, user: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(SERVER_CERTIFICATE),
        } }],
        "users": [{ "name": "u", "user": user }],
    })
    .to_string()
}

/// Names and what they resolve to, one list for each look; the last one stays.
#[derive(Default)]
pub(super) struct Names {
    answers: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    looks: AtomicUsize,
}

impl Names {
    pub(super) fn of(host: &str, answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut answers: Vec<Vec<IpAddr>> = answers.iter().map(parse).collect();
        answers.reverse();
        let answers = BTreeMap::from([(host.to_owned(), answers)]);
        Arc::new(Self { answers: Mutex::new(answers), looks: AtomicUsize::new(0) })
    }

    pub(super) fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let found = match answers.get_mut(host) {
            Some(answers) if answers.len() > 1 => answers.pop(),
            Some(answers) => answers.last().cloned(),
            None => None,
        };
        let answer = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        std::future::ready(answer).boxed()
    }
}

pub(super) fn limits() -> Limits {
    Limits { call: Duration::from_secs(5), total: Duration::from_secs(20), answer: 1024 * 1024 }
}

/// A network in which loopback is open.
pub(super) fn network(resolver: Arc<dyn Resolve>, limits: Limits) -> Network {
    Network::new(ConsumerNetworks::parse(&["127.0.0.0/8"]).unwrap(), resolver, limits)
}

/// As much of an API server as applying a binding needs.
#[derive(Default)]
pub(super) struct Api {
    /// Objects by path.
    pub(super) objects: Mutex<BTreeMap<String, Value>>,
    /// Verb and path of each write that was done.
    pub(super) writes: Mutex<Vec<String>>,
    /// After so many writes the next one is done, but not answered; none means never.
    pub(super) dies_after: Mutex<Option<usize>>,
}

const BUNDLES: &str = "/apis/kube-bind.io/v1alpha2/apiservicebindingbundles";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/apiservicebindingbundles.kube-bind.io";

impl Api {
    pub(super) async fn serve(self: &Arc<Self>) -> Server {
        self.serve_at(loopback()).await
    }

    pub(super) async fn serve_at(self: &Arc<Self>, address: SocketAddr) -> Server {
        let api = Arc::clone(self);
        http_at(address, server_config(false), move |request| {
            let api = Arc::clone(&api);
            async move {
                match api.answer(&request) {
                    Some((status, body)) => json_answer(status, &body),
                    None => std::future::pending().await,
                }
            }
            .boxed()
        })
        .await
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub(super) fn object(&self, path: &str) -> Value {
        self.objects.lock().unwrap()[path].clone()
    }

    pub(super) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }

    fn answer(&self, request: &Request<Bytes>) -> Option<(StatusCode, Value)> {
        let path = request.uri().path().to_owned();
        let expected = format!("Bearer {TOKEN}");
        if request.headers().get("authorization").is_none_or(|value| *value != *expected) {
            return Some(status(StatusCode::UNAUTHORIZED, "Unauthorized"));
        }
        let mut objects = self.objects.lock().unwrap();
        if request.method() == Method::GET {
            let found = objects.get(&path).cloned();
            if path == DEFINITION
                && let Some(definition) = objects.get_mut(DEFINITION)
            {
                // It takes the server a moment, here until the second look.
                establish(definition);
            }
            let missing = || status(StatusCode::NOT_FOUND, "NotFound");
            return Some(found.map_or_else(missing, |object| (StatusCode::OK, object)));
        }
        let (code, answer) = write(&mut objects, request, &path);
        drop(objects);
        if code.is_success() {
            let mut writes = self.writes.lock().unwrap();
            writes.push(format!("{} {path}", request.method()));
            if *self.dies_after.lock().unwrap() == Some(writes.len() - 1) {
                return None;
            }
        }
        Some((code, answer))
    }
}

fn establish(definition: &mut Value) {
    definition["status"] = json!({
        "acceptedNames": { "kind": "APIServiceBindingBundle", "plural": "apiservicebindingbundles" },
        "storedVersions": ["v1alpha2"],
        "conditions": [{ "type": "Established", "status": "True" }],
    });
}

fn write(
    objects: &mut BTreeMap<String, Value>,
    request: &Request<Bytes>,
    path: &str,
) -> (StatusCode, Value) {
    let mut object: Value = serde_json::from_slice(request.body()).unwrap();
    let served = |definition: &Value| definition["status"]["conditions"].is_array();
    if path.starts_with(BUNDLES) && !objects.get(DEFINITION).is_some_and(served) {
        return status(StatusCode::NOT_FOUND, "NotFound");
    }
    let key = match *request.method() {
        Method::POST => format!("{path}/{}", object["metadata"]["name"].as_str().unwrap()),
        _ => path.to_owned(),
    };
    let version = match (request.method(), objects.get(&key)) {
        (&Method::POST, None) => 1,
        (&Method::POST, Some(_)) => return status(StatusCode::CONFLICT, "AlreadyExists"),
        (_, None) => return status(StatusCode::NOT_FOUND, "NotFound"),
        (_, Some(known)) => {
            let known = &known["metadata"]["resourceVersion"];
            if *known != object["metadata"]["resourceVersion"] {
                return status(StatusCode::CONFLICT, "Conflict");
            }
            known.as_str().unwrap().parse::<u64>().unwrap() + 1
        }
    };
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    objects.insert(key, object.clone());
    (StatusCode::CREATED, object)
}

fn status(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let text = "canary of the answer";
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason,
        "message": text, "code": code.as_u16(), "details": { "name": text },
    });
    (code, body)
}
