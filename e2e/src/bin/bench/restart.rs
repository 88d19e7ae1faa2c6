//! A restart in a world where nothing is left to do, beside the same lists issued raw.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::provider::Provider;
use futures::future::try_join_all;
use http::header::ACCEPT;
use kube::Client;
use serde_json::Value;

use crate::figures::Report;
use crate::load;
use crate::run::Meter;

/// Times that the raw lists are issued; the fastest counts, as the first one also fills caches of kcp.
const ROUNDS: usize = 3;
/// The kinds of which the backend reads only metadata. The audit log does not say how a client wants its answer.
const METADATA: [&str; 4] =
    ["/boundschemas", "/namespaces", "/apiresourceschemas", "/customresourcedefinitions"];
/// What the backend says when it has read everything.
const READ: &str = "all kinds are read";

pub(crate) async fn measure(
    report: &mut Report,
    meter: &Meter,
    provider: &mut Provider,
    workspaces: usize,
) -> Result<()> {
    provider.backend.stop().await?;
    let mark = meter.log.mark()?;
    let start = SystemTime::now();
    provider.backend.restart().await?;
    let ready = ready_after(&provider.backend, start)?;
    let requests = meter.settled(mark).await?;
    let uris = meter.log.lists(mark, &meter.ours)?;
    let (lists, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(|r| r.verb == "list");
    report.add_requests("requests_restart_lists", "lists of a restart", &lists, 1, None);
    let what = "other requests of a restart";
    report.add_requests("requests_restart_others", what, &others, 1, Some(0.0));
    let what = format!("ready after a restart with {workspaces} workspaces");
    report.add("restart_time", &what, ready.as_secs_f64(), "s", Some(3.0));
    let raw = raw_lists(provider, &uris).await?.as_secs_f64();
    report.add("restart_raw_time", "the same lists issued raw", raw, "s", None);
    let ratio = ready.as_secs_f64() / raw;
    let what = "ready after a restart, over the same lists issued raw";
    report.add("restart_over_raw", what, ratio, "x", Some(1.3));
    Ok(())
}

/// From the start of the process to the line in its log: asking `/readyz` now and then would tell it no finer than one
/// asks.
fn ready_after(backend: &Backend, start: SystemTime) -> Result<Duration> {
    let output = backend.output()?;
    let line = output.lines().find(|line| line.contains(READ)).context("it never said so")?;
    let at: jiff::Timestamp = line.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(SystemTime::from(at).duration_since(start)?)
}

/// The lists of a start by the credential and the addresses that the backend uses: that of the endpoint slice, which says
/// where the others are, then these all at once.
async fn raw_lists(provider: &Provider, uris: &[String]) -> Result<Duration> {
    let (access, endpoint) = load::backend_access(provider).await?;
    // Further pages are asked for by what the first one says.
    let firsts = uris.iter().filter(|uri| !uri.contains("continue="));
    let (slices, kinds): (Vec<_>, Vec<_>) =
        firsts.partition(|uri| uri.contains("/apiexportendpointslices"));
    ensure!(!slices.is_empty() && !kinds.is_empty(), "the backend listed only {uris:?}");
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let wild = access.at(format!("{endpoint}/clusters/*")).client("bench").await?;
        let export = access.client("bench").await?;
        let since = Instant::now();
        try_join_all(slices.iter().map(|uri| pages(&export, uri))).await?;
        try_join_all(kinds.iter().map(|uri| pages(&wild, uri))).await?;
        fastest = fastest.min(since.elapsed());
    }
    Ok(fastest)
}

/// A list with all its pages.
async fn pages(client: &Client, uri: &str) -> Result<()> {
    let path = uri.split('?').next().unwrap_or_default();
    let accept = if METADATA.iter().any(|plural| path.ends_with(plural)) {
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    } else {
        "application/json"
    };
    let mut next = uri.to_owned();
    loop {
        let request = http::Request::get(&next).header(ACCEPT, accept).body(Vec::new())?;
        let text = client.request_text(request).await.with_context(|| format!("GET {next}"))?;
        let list: Value = serde_json::from_str(&text)?;
        match list["metadata"]["continue"].as_str() {
            None | Some("") => return Ok(()),
            Some(token) => next = format!("{uri}&continue={token}"),
        }
    }
}
