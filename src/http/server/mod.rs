//! The server: accept loop, TLS, limits, and what every answer carries.
//!
//! Promises, whatever clients do (security.md rows 7, 8, 9, 20 and bad inputs 15, 23, 25, 27, 29, 68 to
//! 70):
//!
//! * memory, connections and requests under way are bounded, and waiting has an end;
//! * a client that sends a request at once is served, however many do not (`connections`), and waits
//!   for its turn where others were first;
//! * a request that two readers could understand differently is refused and its connection closed
//!   (`head`, `gate`);
//! * a handler sees only requests for our Host, with a path in its one spelling, that no other site
//!   made, with their whole body (`checks`, `front`);
//! * every answer has the headers of `headers` and an id.
//!
//! `/metrics`, logs and audit are made elsewhere.

mod checks;
mod connections;
mod front;
mod gate;
mod head;
mod headers;
mod request_id;
mod routes;
mod tls;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::external_url::ExternalUrl;
use connections::{Connection, Connections};
use front::Front;
use gate::{Gate, Times};
use tls::Certificate;

pub use request_id::RequestId;
pub use routes::{CONTRACT, RouteRule};
pub use tls::{TlsError, TlsFiles};

/// Pause where nothing can be done but try again: out of file descriptors, or every place is taken.
const RETRY: Duration = Duration::from_millis(50);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not free.
    #[error("cannot listen on {address}: {source}; choose another one with --listen-address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How the server is reached, and what it takes.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address; port 0 means any.
    pub listen: SocketAddr,
    /// With them it speaks TLS only.
    pub tls: Option<TlsFiles>,
    /// What clients call us. With https, browsers are told to insist on it.
    pub external_url: ExternalUrl,
    /// Paths with rules of their own, [`CONTRACT`] mostly.
    pub routes: Vec<RouteRule>,
    /// Sizes and times.
    pub limits: Limits,
}

/// Sizes and times of the server. The default is security.md row 20; tests are in more of a hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Requests that are handled at the same time; must be smaller than `connections`. Further ones wait
    /// for their turn, and are answered 503 if it does not come within the time of their route.
    pub in_flight: usize,
    /// Bytes of request line and headers; more is answered 431.
    pub head_bytes: usize,
    /// For the request line and headers, from the first byte; more is answered 408.
    pub head: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// After which a connection without a request is closed.
    pub idle: Duration,
    /// After which a client is left that takes nothing of its answer.
    pub stall: Duration,
    /// For every request, instead of what its route says.
    pub request: Option<Duration>,
    /// For requests under way when the server stops.
    pub drain: Duration,
    /// Between two looks at the certificate files.
    pub reload: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            in_flight: 64,
            head_bytes: 16 << 10,
            head: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            idle: Duration::from_mins(1),
            stall: Duration::from_secs(30),
            request: None,
            drain: Duration::from_secs(10),
            reload: Duration::from_secs(5),
        }
    }
}

/// Listens, and serves as soon as it is told what.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    certificate: Option<Arc<Certificate>>,
    tls: Option<Arc<rustls::ServerConfig>>,
    config: ServerConfig,
}

/// What the tasks of all connections share.
struct Shared {
    front: Front,
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
    /// Requests under way end, and nothing new begins.
    drain: CancellationToken,
    /// Everything ends.
    stop: CancellationToken,
}

impl Shared {
    fn new(
        front: Front,
        acceptor: Option<TlsAcceptor>,
        limits: Limits,
        drain: CancellationToken,
    ) -> Self {
        Self { front, acceptor, limits, drain, stop: CancellationToken::new() }
    }
}

impl Server {
    /// Takes the address and reads the certificate. Clients that connect from now on wait.
    pub async fn bind(config: ServerConfig) -> Result<Self, Error> {
        let (mut certificate, mut tls) = (None, None);
        if let Some(files) = &config.tls {
            let loaded = Certificate::load(files.clone())?;
            tls = Some(Arc::new(tls::config(Arc::clone(&loaded))?));
            certificate = Some(loaded);
        }
        let failed = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local, certificate, tls, config })
    }

    /// The address, with the port that was chosen.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until the token is cancelled, and then until requests under way are answered or
    /// [`Limits::drain`] is over. `router` needs nothing but its routes: 404 and 405 without a body
    /// get one. Handlers find a [`RequestId`] and a `ConnectInfo<SocketAddr>` as extensions.
    pub async fn run(self, router: Router, shutdown: CancellationToken) {
        let limits = self.config.limits;
        let front = Front::new(router, self.local, &self.config);
        let acceptor = self.tls.map(TlsAcceptor::from);
        let shared = Arc::new(Shared::new(front, acceptor, limits, shutdown.clone()));
        let tasks = TaskTracker::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept(&self.listener, &shared, &tasks) => {}
            () = reload(self.certificate, limits.reload) => {}
        }
        drop(self.listener);
        tasks.close();
        if tokio::time::timeout(limits.drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "some requests did not end in time");
            shared.stop.cancel();
            tasks.wait().await;
        }
    }
}

/// Accepts for ever.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>, tasks: &TaskTracker) {
    let connections = Connections::new(shared.limits.connections);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::warn!(%err, "a connection could not be accepted; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let Some(connection) = connections.admit(peer).await else {
            return;
        };
        let shared = Arc::clone(shared);
        tasks.spawn(async move {
            let (closed, stop) = (connection.closed().clone(), shared.stop.clone());
            tokio::select! {
                biased;
                () = closed.cancelled() => tracing::debug!(%peer, "closed to make room"),
                () = stop.cancelled() => {}
                () = serve(stream, connection, &shared) => {}
            }
        });
    }
}

/// Looks at the certificate files again and again.
async fn reload(certificate: Option<Arc<Certificate>>, every: Duration) {
    let Some(certificate) = certificate else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(every).await;
        let certificate = Arc::clone(&certificate);
        match tokio::task::spawn_blocking(move || certificate.refresh()).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::warn!(%err, "keeping the certificate in use"),
            Err(err) => tracing::error!(%err, "the certificate could not be looked at"),
        }
    }
}

/// One connection, TLS first if there is any.
async fn serve(stream: TcpStream, connection: Arc<Connection>, shared: &Arc<Shared>) {
    if let Err(err) = stream.set_nodelay(true) {
        tracing::debug!(%err, "a connection was gone at once");
        return;
    }
    let Some(acceptor) = &shared.acceptor else {
        return speak(stream, connection, shared).await;
    };
    let handshake = tokio::time::timeout(shared.limits.handshake, acceptor.accept(stream));
    tokio::select! {
        () = shared.drain.cancelled() => {}
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => speak(stream, connection, shared).await,
            Ok(Err(err)) => tracing::debug!(%err, "no TLS handshake"),
            Err(_) => tracing::debug!("the TLS handshake took too long"),
        },
    }
}

/// HTTP on a connection, until either side has enough.
async fn speak<S>(stream: S, connection: Arc<Connection>, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shared.limits;
    let Limits { head_bytes, head, idle, stall, .. } = limits;
    let gate = Gate::new(stream, Arc::clone(&connection), Times { head_bytes, head, idle, stall });
    let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
        // Asked here and not in the future: the gate may refuse the next request while this one is
        // under way.
        let refusal = connection.refusal();
        let connection = &connection;
        async move {
            let request = request.map(Body::new);
            let answer = shared.front.answer(request, connection, refusal).await;
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        // Without a timer hyper has no timeout for heads at all. The gate is stricter and knows idle
        // connections from slow ones, so this one never comes first.
        .timer(TokioTimer::new())
        .header_read_timeout(head + idle + Duration::from_secs(1))
        .max_buf_size(BUFFER.max(head_bytes));
    let mut http = std::pin::pin!(builder.serve_connection(TokioIo::new(gate), service));
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = shared.drain.cancelled() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(err) = ended {
        tracing::debug!(%err, "a connection broke");
    }
}

/// What hyper holds of a connection, each way.
const BUFFER: usize = 64 << 10;

/// Makes panics say where they happened, and not with what text: it may hold credentials. For `main`,
/// before anything else runs.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            place,
            "a panic; this is a bug, and its text is not logged since it may hold credentials"
        );
    }));
}
