//! An object that cannot be decoded: skipped and counted, while its kind goes on.

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Request};
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, kube_bind};
use e2e::wait::eventually;
use e2e::{dirs, provider, stack};
use futures::FutureExt as _;
use kube::Client;
use serde_json::json;

use super::{SOON, requests};
use crate::Test;

const METRIC: &str =
    "kube_bind_backend_unreadable_objects_total{kind=\"BindableResourcesRequest\"}";

pub(crate) fn tests() -> Vec<Test> {
    vec![("faults::an_object_that_cannot_be_decoded_stops_only_itself", || {
        an_object_that_cannot_be_decoded_stops_only_itself().boxed()
    })]
}

async fn an_object_that_cannot_be_decoded_stops_only_itself() -> Result<()> {
    // One of its own: the test changes a CRD.
    let name = stack::unique("unreadable");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let flags = provider::install(&kubernetes, &name).await?;
    let mut backend = Backend::start(&format!("{name}-backend"), flags).await?;
    let admin = kubernetes.client().await?;
    match unreadable(&admin, &mut backend).await {
        Ok(()) => backend.stop().await?,
        Err(error) => return Err(backend.fail(format!("{error:#}"))),
    }
    kubernetes.kill().await
}

async fn unreadable(admin: &Client, backend: &mut Backend) -> Result<()> {
    object::accept_any_spec(admin, "bindableresourcesrequests.kube-bind.io").await?;
    let kind = kube_bind("BindableResourcesRequest");
    eventually("the relaxed CRD to be in force", SOON, async || {
        let spec = json!({"clusterIdentity": 7, "author": ["nobody"]});
        let manifest = json!({"metadata": {"name": "bad"}, "spec": spec});
        object::create(admin, &kind, Some("default"), manifest).await
    })
    .await?;
    seen(backend, 1).await?;
    binding::bind(admin, &Request::new("good", "good"))
        .await
        .context("beside an object that cannot be decoded")?;

    // Read off a list this time.
    backend.stop().await?;
    backend.restart().await?;
    seen(backend, 1).await?;
    binding::bind(admin, &Request::new("after-restart", "after-restart"))
        .await
        .context("after a restart")?;
    let bad = requests(admin).get("bad").await?;
    ensure!(
        bad.data["status"] == json!({"phase": "Pending"}),
        "the status was written: {}",
        bad.data
    );

    // Good, bad and good again: what could be read once is not taken for deleted.
    let good =
        json!({"spec": {"clusterIdentity": {"identity": "bad"}, "author": "e2e@example.org"}});
    let request = Request::new("bad", "bad");
    object::merge_patch(&requests(admin), "bad", &good, false).await?;
    let first = binding::finished(admin, &request).await.context("after it was corrected")?;
    let worse = json!({"spec": {"author": {"name": "nobody"}}});
    object::merge_patch(&requests(admin), "bad", &worse, false).await?;
    seen(backend, 2).await?;
    object::merge_patch(&requests(admin), "bad", &json!({"status": null}), true).await?;
    seen(backend, 3).await?;
    object::merge_patch(&requests(admin), "bad", &good, false).await?;
    let second =
        binding::finished(admin, &request).await.context("after it was corrected again")?;
    ensure!(first.kubeconfig == second.kubeconfig, "the kubeconfig changed");
    Ok(())
}

/// Waits until this many events of objects that cannot be decoded have been counted, and the object was named.
async fn seen(backend: &Backend, count: u32) -> Result<()> {
    eventually("the object to be skipped and counted", SOON, async || {
        let (_, metrics) = backend.get("/metrics").await?;
        let line = metrics.lines().find(|line| line.starts_with(METRIC));
        ensure!(line == Some(format!("{METRIC} {count}").as_str()), "{line:?}");
        anyhow::Ok(())
    })
    .await?;
    let output = backend.output()?;
    let line = output.lines().find(|line| line.contains("cannot be decoded"));
    let line = line.context("the log does not say it")?;
    ensure!(line.contains("name=\"bad\"") && line.contains("namespace=\"default\""), "{line}");
    Ok(())
}
