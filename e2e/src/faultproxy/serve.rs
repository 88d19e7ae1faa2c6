//! The proxy's connections: each a task that ends when its connection is cut.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{Accept, TlsAcceptor};

use super::state::{Cuts, State, Verdict};
use super::view::Seen;

/// Accepts connections for ever. Dropping it ends them all.
pub(super) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    upstream: Client,
    state: Arc<State>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Before the question whether it is cut, so that no cut falls between the two.
                    let mut cuts = state.cuts.subscribe();
                    let before = *cuts.borrow_and_update();
                    if !state.is_cut() {
                        let connection = Connection {
                            upstream: upstream.clone(),
                            state: Arc::clone(&state),
                            watching: AtomicBool::new(false),
                        };
                        connections.spawn(connection.serve(tls.accept(stream), cuts, before));
                    }
                }
                Err(error) => eprintln!("e2e: a proxy cannot accept: {error}"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Connection {
    upstream: Client,
    state: Arc<State>,
    /// Whether a watch is the last that was asked for here.
    watching: AtomicBool,
}

impl Connection {
    /// Answers requests until the client leaves or the connection is cut.
    async fn serve(
        self,
        handshake: Accept<TcpStream>,
        mut cuts: watch::Receiver<Cuts>,
        mut before: Cuts,
    ) {
        let this = Arc::new(self);
        let mut serving = pin!(async {
            let stream = handshake.await?;
            let service = service_fn(|request| Arc::clone(&this).answer(request));
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
            anyhow::Ok(())
        });
        loop {
            tokio::select! {
                // The cut comes first: an answer that is ready at the same moment is lost.
                biased;
                changed = cuts.changed() => {
                    let now = *cuts.borrow_and_update();
                    let watches = now.watches > before.watches && this.watching.load(Ordering::Relaxed);
                    if changed.is_err() || now.all > before.all || watches {
                        return;
                    }
                    before = now;
                }
                // A client that goes away in the middle is nothing to report, in a test that kills it.
                _ = &mut serving => return,
            }
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Seen>> {
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        self.watching.store(watch, Ordering::Relaxed);
        let path = request.uri().path().to_owned();
        match self.state.arrive(request.method().clone(), path, watch) {
            Verdict::Forward(index) => self.forward(index, request).await,
            Verdict::ForwardAndCut(index, told) => {
                // In a task of its own: it goes on if the client does not wait for the answer.
                tokio::spawn(async move {
                    if let Err(error) = self.forward(index, request).await {
                        eprintln!("e2e: the last request before a cut failed: {error:#}");
                    }
                    self.state.carried_out(index, told);
                });
                pending().await
            }
            Verdict::Lose => pending().await,
            Verdict::Answer(code) => refusal(code),
            Verdict::Expire => expiry(),
        }
    }

    async fn forward(&self, index: usize, request: Request<Incoming>) -> Result<Response<Seen>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        parts.headers.remove(HOST);
        let body = body.collect().await.context("reading a request")?.to_bytes();
        let request = Request::from_parts(parts, Body::from(body));
        let answer = self.upstream.send(request).await.context("forwarding a request")?;
        self.state.answered(index, answer.status().as_u16());
        if !self.state.view.changes(&path) {
            return Ok(answer.map(Body::boxed_unsync));
        }
        let (mut parts, body) = answer.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(parts, Arc::clone(&self.state.view).body(path, body)))
    }
}

/// As an API server refuses.
fn refusal(code: u16) -> Result<Response<Seen>> {
    let (reason, retry) = match code {
        404 => ("NotFound", false),
        409 => ("Conflict", false),
        429 => ("TooManyRequests", true),
        503 => ("ServiceUnavailable", false),
        _ => ("InternalError", false),
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the fault proxy", "reason": reason, "code": code,
    });
    let mut response = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    if retry {
        response = response.header(RETRY_AFTER, "1");
    }
    Ok(response.body(Body::from(status.to_string().into_bytes()).boxed_unsync())?)
}

/// As an API server ends a watch of a version that it no longer knows.
fn expiry() -> Result<Response<Seen>> {
    let event = json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    }});
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(Body::from(format!("{event}\n").into_bytes()).boxed_unsync())?)
}
