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
use serde_json::json;

use crate::Setting;
use crate::figures::{Report, amount, percentile};
use crate::load::{self, AT_ONCE, Place};

/// Workspaces that are not noisy.
const WORKSPACES: usize = 20;
/// Binds at once in all of these.
const BINDS: usize = 500;
/// Requests that the noisy workspace keeps editing, each of which can never succeed.
const NOISE: usize = 300;

pub(crate) async fn measure() -> Result<Report> {
    let mut report = Report::new(
        "flood",
        format!(
            "{BINDS} binds at once in {WORKSPACES} workspaces, without and with {NOISE} requests that another one keeps editing"
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
    let stop = Arc::new(AtomicBool::new(false));
    let edits = Arc::new(AtomicUsize::new(0));
    let flooding = tokio::spawn(flood(noisy, Arc::clone(&stop), Arc::clone(&edits)));
    while edits.load(Ordering::Relaxed) < NOISE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = edits.load(Ordering::Relaxed);
    let loud = binds(&places, "loud", BINDS).await?;
    let meanwhile = edits.load(Ordering::Relaxed) - before;
    stop.store(true, Ordering::Relaxed);
    flooding.await??;

    report.add(
        "flood_edits",
        "edits of the noisy workspace meanwhile",
        amount(meanwhile),
        "",
        None,
    );
    report.add_latency("latency_quiet", "latency of a bind in quiet", &quiet);
    report.add_latency("latency_noise", "latency of a bind beside the noise", &loud);
    let ratio = percentile(&loud, 99).as_secs_f64() / percentile(&quiet, 99).as_secs_f64();
    report.add("noise_over_quiet", "p99 beside the noise over p99 in quiet", ratio, "x", Some(2.0));
    kcp.kill().await?;
    Ok(report)
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

/// Requests that are invalid, and are edited into other invalid ones without a pause until told to stop.
async fn flood(place: Place, stop: Arc<AtomicBool>, edits: Arc<AtomicUsize>) -> Result<()> {
    let kind = kube_bind("BindableResourcesRequest");
    let api = object::api(&place.admin, &kind, Some("default"));
    for index in 0..NOISE {
        let manifest = json!({
            "metadata": {"name": format!("noise-{index}")},
            "spec": {
                "author": "bench",
                "clusterIdentity": {"identity": format!("noise-{index}")},
                "ttlAfterFinished": "never",
            },
        });
        object::create(&place.admin, &kind, Some("default"), manifest).await?;
        edits.fetch_add(1, Ordering::Relaxed);
    }
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let (api, edits, stop) = (&api, &edits, &stop);
        stream::iter(0..NOISE)
            .map(|index| async move {
                if stop.load(Ordering::Relaxed) {
                    return anyhow::Ok(());
                }
                let patch = json!({"spec": {"ttlAfterFinished": format!("never-{round}")}});
                object::merge_patch(api, &format!("noise-{index}"), &patch, false).await?;
                edits.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .buffer_unordered(8)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}
