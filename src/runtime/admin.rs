//! `/healthz`, `/livez`, `/readyz` and `/metrics`, for people, probes and scrapers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, Readiness};
use super::metrics::Metrics;

/// More connections than any set of probes and scrapers needs.
const CONNECTIONS: usize = 64;

/// Which paths an address serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// `/healthz` only: the address that consumers see.
    Health,
    /// All of them: the address for operators.
    All,
}

/// What the paths answer from.
pub struct Status {
    /// Endpoints and what they wait for.
    pub fleet: Arc<Fleet>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What else has to be ready.
    pub more: Vec<Check>,
}

/// Says what something waits for; none when it is ready.
pub type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Serves until the token is cancelled.
pub async fn serve(
    listener: TcpListener,
    paths: Paths,
    status: Arc<Status>,
    cancel: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(err) => {
                // Out of file descriptors, mostly: going on at once would spin.
                tracing::warn!(%err, "a connection could not be accepted; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let status = Arc::clone(&status);
        let cancel = cancel.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let status = Arc::clone(&status);
                async move { Ok::<_, Infallible>(answer(&request, paths, &status)) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            // Without the timer hyper has no timeout for slow headers at all.
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = cancel.cancelled() => {}
                result = connection => {
                    if let Err(err) = result {
                        tracing::debug!(%err, "connection to the health address ended");
                    }
                }
            }
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, paths: Paths, status: &Status) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
    }
    match (request.uri().path(), paths) {
        ("/healthz", _) | ("/livez", Paths::All) => text(StatusCode::OK, "ok"),
        ("/readyz", Paths::All) => ready(status),
        ("/metrics", Paths::All) => {
            let mut response = text(StatusCode::OK, &status.metrics.render());
            let value = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(value));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there is no such path\n"),
    }
}

fn ready(status: &Status) -> Response<Full<Bytes>> {
    let Readiness { mut waiting, away } = status.fleet.readiness();
    waiting.extend(status.more.iter().filter_map(|check| check()));
    if waiting.is_empty() && away.is_empty() {
        return text(StatusCode::OK, "ok");
    }
    if waiting.is_empty() {
        return text(StatusCode::OK, &format!("ok, but for:\n{}\n", away.join("\n")));
    }
    waiting.extend(away);
    text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready:\n{}\n", waiting.join("\n")))
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
