//! What one workspace that floods the backend costs the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use e2e::dirs;
use e2e::kcp::Kcp;
use e2e::object::{self, kube_bind};
use e2e::provider::Provider;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::Setting;
use crate::figures::{Report, amount, percentile};
use crate::load::{self, AT_ONCE, Place};

/// Workspaces that are not noisy.
const WORKSPACES: usize = 20;
/// Binds at once in all of these.
const BINDS: usize = 500;
/// Objects that the noisy workspace keeps editing.
const NOISE: usize = 300;

/// What is edited.
#[derive(Clone, Copy)]
enum Noise {
    /// Requests that can never succeed: each edit concerns the backend.
    Requests,
    /// `ConfigMap`s, which the backend does not watch: what the same edits cost kcp alone.
    ConfigMaps,
}

impl Noise {
    fn kind(self) -> ApiResource {
        match self {
            Self::Requests => kube_bind("BindableResourcesRequest"),
            Self::ConfigMaps => object::core("ConfigMap"),
        }
    }

    /// What differs from one edit to the next.
    fn edited(self, round: usize) -> Value {
        match self {
            Self::Requests => json!({"spec": {"ttlAfterFinished": format!("never-{round}")}}),
            Self::ConfigMaps => json!({"data": {"round": round.to_string()}}),
        }
    }

    fn manifest(self, name: &str) -> Value {
        match self {
            Self::Requests => json!({
                "metadata": {"name": name},
                "spec": {
                    "author": "bench",
                    "clusterIdentity": {"identity": name},
                    "ttlAfterFinished": "never",
                },
            }),
            Self::ConfigMaps => json!({"metadata": {"name": name}, "data": {"round": "0"}}),
        }
    }
}

pub(crate) async fn measure() -> Result<Report> {
    let mut report = Report::new(
        "flood",
        format!(
            "{BINDS} binds at once in {WORKSPACES} workspaces, without and with {NOISE} objects that another one keeps editing"
        ),
    );
    let kcp = Arc::new(Kcp::start(&dirs::fresh("bench-flood")?).await?);
    let flags = Setting::Namespaced.flags();
    let provider = Provider::start_on(Arc::clone(&kcp), "bench-flood", &flags).await?;
    let workspaces = load::engage(&provider, WORKSPACES + 1).await?;
    let mut places = load::serve(&provider, workspaces).await?;
    let Some(noisy) = places.pop() else { return Ok(report) };

    // The first binds of a workspace also make what all of them share.
    binds(&places, "warm", WORKSPACES).await?;
    let quiet = binds(&places, "quiet", BINDS).await?;
    let (loud, edits) = binds_beside(Noise::Requests, &noisy, &places, "loud").await?;
    let (alone, edits_alone) = binds_beside(Noise::ConfigMaps, &noisy, &places, "alone").await?;

    report.add("flood_edits", "edits of requests meanwhile", amount(edits), "", None);
    report.add(
        "flood_edits_alone",
        "edits of ConfigMaps, which the backend does not watch, meanwhile",
        amount(edits_alone),
        "",
        None,
    );
    report.add_latency("latency_quiet", "latency of a bind in quiet", &quiet);
    report.add_latency("latency_noise", "latency of a bind beside edited requests", &loud);
    report.add_latency("latency_alone", "latency of a bind beside edited ConfigMaps", &alone);
    let p99 = |taken: &[Duration]| percentile(taken, 99).as_secs_f64();
    let (quiet, loud, alone) = (p99(&quiet), p99(&loud), p99(&alone));
    report.add(
        "noise_over_quiet",
        "p99 beside edited requests over p99 in quiet",
        loud / quiet,
        "x",
        Some(2.0),
    );
    report.add(
        "alone_over_quiet",
        "p99 beside edited ConfigMaps over p99 in quiet: the share of kcp",
        alone / quiet,
        "x",
        None,
    );
    report.add(
        "noise_over_alone",
        "p99 beside edited requests over p99 beside edited ConfigMaps: the share of the backend",
        loud / alone,
        "x",
        None,
    );
    kcp.kill().await?;
    Ok(report)
}

/// Binds beside the noise; gives the latencies, and how many edits there were meanwhile.
async fn binds_beside(
    noise: Noise,
    flooded: &Place,
    places: &[Place],
    name: &str,
) -> Result<(Vec<Duration>, usize)> {
    let stop = AtomicBool::new(false);
    let edits = AtomicUsize::new(0);
    let measured = async {
        while edits.load(Ordering::Relaxed) < NOISE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let before = edits.load(Ordering::Relaxed);
        let taken = binds(places, name, BINDS).await;
        let meanwhile = edits.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        Ok((taken?, meanwhile))
    };
    let (measured, ()) = tokio::try_join!(measured, flood(noise, flooded, &stop, &edits))?;
    Ok(measured)
}

/// Binds that many consumers: all are asked for as fast as kcp takes them, and none is waited for before. Gives the
/// latency of each.
async fn binds(places: &[Place], name: &str, count: usize) -> Result<Vec<Duration>> {
    let asked = stream::iter(0..count).map(|index| async move {
        let (place, name) = (&places[index % places.len()], format!("{name}-{index}"));
        let since = load::ask(place, &name).await?;
        anyhow::Ok((place, name, since))
    });
    let asked: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
    let mut taken = Vec::new();
    for (place, name, since) in asked {
        // When the end was seen is known, however late it is looked at.
        taken.push(load::bound(place, &name, since).await?.0);
    }
    Ok(taken)
}

/// Makes objects and edits them without a pause until told to stop.
async fn flood(noise: Noise, place: &Place, stop: &AtomicBool, edits: &AtomicUsize) -> Result<()> {
    let kind = noise.kind();
    let api = object::api(&place.admin, &kind, Some("default"));
    let name = |index: usize| format!("noise-{index}");
    for index in 0..NOISE {
        let manifest = noise.manifest(&name(index));
        object::create(&place.admin, &kind, Some("default"), manifest).await?;
        edits.fetch_add(1, Ordering::Relaxed);
    }
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let (api, name) = (&api, &name);
        stream::iter(0..NOISE)
            .map(|index| async move {
                if stop.load(Ordering::Relaxed) {
                    return anyhow::Ok(());
                }
                object::merge_patch(api, &name(index), &noise.edited(round), false).await?;
                edits.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .buffer_unordered(8)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}
