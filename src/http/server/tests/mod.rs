//! Real sockets on loopback, and bytes written by hand: what clients do that no client library lets us do.

mod answers;
mod crowds;
mod framing;
mod persistence;
pub(super) mod pki;
mod times;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::front::Front;
use super::{CONTRACT, Limits, RouteRule, Server, ServerConfig, Shared, TlsFiles, speak};
use crate::http::external_url::ExternalUrl;

/// After which a test that waits has failed; longer than any time of the server.
const PATIENCE: Duration = Duration::from_secs(100);

/// For tests that wait for the end of a time on real sockets.
const SHORT: Duration = Duration::from_millis(100);

const HOST: &str = "bind.example.com";

/// Said so many times, heard as many times.
struct Signal(Semaphore);

impl Signal {
    fn new() -> Self {
        Self(Semaphore::new(0))
    }

    fn say(&self, times: usize) {
        self.0.add_permits(times);
    }

    async fn hear(&self) {
        let said = tokio::time::timeout(PATIENCE, self.0.acquire()).await;
        said.expect("nothing was said in time").unwrap().forget();
    }

    fn said(&self) -> usize {
        self.0.available_permits()
    }
}

/// A server for one test.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
    /// `/wait` says that it began, and answers when it is let go.
    began: Arc<Signal>,
    go: Arc<Signal>,
}

async fn start(limits: Limits) -> Running {
    start_with(limits, "http://bind.example.com", None).await
}

async fn start_with(limits: Limits, external: &str, tls: Option<TlsFiles>) -> Running {
    let server = Server::bind(config(limits, external, tls)).await.unwrap();
    let (began, go) = (Arc::new(Signal::new()), Arc::new(Signal::new()));
    let router = router(&began, &go);
    let (address, stop) = (server.local_addr(), CancellationToken::new());
    let ended = tokio::spawn(server.run(router, stop.clone()));
    Running { address, stop, ended, began, go }
}

fn config(limits: Limits, external: &str, tls: Option<TlsFiles>) -> ServerConfig {
    let mut routes = CONTRACT.to_vec();
    routes.push(RouteRule::new("/large").body(1 << 20));
    routes.push(RouteRule::new("/long").timeout(Duration::from_mins(1)));
    ServerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls,
        external_url: ExternalUrl::parse(external, true).unwrap(),
        routes,
        limits,
    }
}

fn router(began: &Arc<Signal>, go: &Arc<Signal>) -> Router {
    let (began, go) = (Arc::clone(began), Arc::clone(go));
    let wait = async move || {
        began.say(1);
        go.0.acquire().await.unwrap().forget();
        "done"
    };
    let length = |body: axum::body::Bytes| async move { body.len().to_string() };
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/hello", get(async || "hello"))
        .route("/assets/a.js", get(async || ([("cache-control", "public")], "a")))
        .route("/api/ping", get(async || "pong"))
        .route("/api/callback", get(async || "called"))
        .route("/api/logout", post(async || "logged out"))
        .route("/length", post(length))
        .route("/large", post(length))
        .route("/panic", get(panics))
        .route("/wait", get(wait.clone()))
        .route("/long", get(wait))
}

async fn panics() -> &'static str {
    panic!("canary")
}

/// The same without sockets, for tests in which time stands still until everyone waits.
struct Still {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    began: Arc<Signal>,
    go: Arc<Signal>,
}

impl Still {
    fn new(limits: Limits) -> Self {
        let config = config(limits, "http://bind.example.com", None);
        let (began, go) = (Arc::new(Signal::new()), Arc::new(Signal::new()));
        let front = Front::new(router(&began, &go), config.listen, &config);
        let shared = Arc::new(Shared::new(front, None, limits, CancellationToken::new()));
        Self { shared, connections: Connections::new(limits.connections), began, go }
    }

    async fn connect(&self) -> Wire<DuplexStream> {
        let connection = self.connections.admit(SocketAddr::from(([192, 0, 2, 1], 1))).await;
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { speak(ours, connection.unwrap(), &shared).await });
        Wire { stream: theirs, read: Vec::new() }
    }

    async fn ask(&self, request: &str) -> Answer {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.answer().await
    }
}

impl Running {
    async fn connect(&self) -> Wire<TcpStream> {
        Wire { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: &str) -> Answer {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.answer().await
    }
}

/// A request of ours without a body.
fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// A POST of our own page.
fn own_post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/json\r\n{headers}\r\n{body}"
    )
}

/// A client's end of a connection.
struct Wire<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// More bytes; false at the end of the stream.
    async fn more(&mut self) -> bool {
        let mut piece = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await;
        let count = read.expect("nothing came in time").unwrap_or(0);
        self.read.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// A head, with its empty line.
    async fn head(&mut self) -> String {
        loop {
            let end = self.read.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.read.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let text = String::from_utf8_lossy(&self.read).into_owned();
            assert!(self.more().await, "no whole answer: {text:?}");
        }
    }

    async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap();
        let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
        let status = rest.unwrap()[..3].parse().unwrap();
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
            let before = headers.insert(name.to_owned(), value.to_owned());
            assert_eq!(before, None, "{name} is there twice");
        }
        assert!(headers.remove("date").is_some(), "no date");
        let id = headers.remove("x-request-id").expect("no request id");
        let length: usize =
            headers.remove("content-length").map_or(0, |length| length.parse().unwrap());
        let length = if method == "HEAD" { 0 } else { length };
        while self.read.len() < length {
            assert!(self.more().await, "the body ended early");
        }
        let rest = self.read.split_off(length);
        let body = String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
        Answer { status, headers, body: body.replace(&id, "<id>") }
    }

    /// The server closes, and says nothing more.
    async fn assert_closed(&mut self) {
        while self.more().await {}
        assert_eq!(String::from_utf8_lossy(&self.read), "");
    }
}

/// A whole answer but for date, length and id.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    /// With the headers that every answer has.
    fn new(status: u16, body: &str) -> Self {
        let policy = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'self'";
        let headers = [
            ("cache-control", "no-store"),
            ("content-security-policy", policy),
            ("content-type", "text/plain; charset=utf-8"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { status, headers, body: body.to_owned() }
    }

    /// An error of the contract.
    fn error(status: u16, code: &str, message: &str, details: &str) -> Self {
        let details =
            if details.is_empty() { String::new() } else { format!(",\"details\":\"{details}\"") };
        let body = format!(
            "{{\"kind\":\"Error\",\"apiVersion\":\"kube-bind.io/v1alpha2\",\
             \"message\":\"{message}\",\"code\":\"{code}\"{details}}}\n"
        );
        Self::new(status, &body).with("content-type", "application/json")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The connection ends with it.
    fn last(self) -> Self {
        self.with("connection", "close")
    }

    fn not_found() -> Self {
        Self::error(404, "RESOURCE_NOT_FOUND", "There is no such path; check the address", "")
    }

    fn busy() -> Self {
        let message = "The server has too much to do; try again in a second";
        Self::error(503, "INTERNAL_ERROR", message, "").with("retry-after", "1")
    }

    fn slow() -> Self {
        let message = "The request did not arrive in time; send it again";
        Self::error(408, "BAD_REQUEST", message, "").last()
    }

    fn too_large(limit: usize) -> Self {
        let details = format!("at most {limit} bytes are read here");
        Self::error(413, "BAD_REQUEST", "Request body too large", &details).last()
    }

    fn malformed(why: &str) -> Self {
        Self::error(400, "BAD_REQUEST", "This is not a valid HTTP request", why).last()
    }
}
