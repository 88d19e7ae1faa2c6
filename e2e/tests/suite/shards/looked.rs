//! A look at two shards of which one is down.

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::object::{self, kube_bind};
use e2e::service::{Exported, GROUP, Scope};
use e2e::shards::Shard;
use e2e::stack;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use serde_json::json;

use super::two::{start, tenant};
use crate::Test;
use crate::suite::doctor::Clinic;

pub(super) fn tests() -> Vec<Test> {
    vec![(
        "shards::doctor_names_the_shard_that_is_down_and_finds_what_is_wrong_on_the_other",
        || looked().boxed(),
    )]
}

async fn looked() -> Result<()> {
    let kcp = stack::shards().await?;
    let _turn = kcp.turn().await?;
    let provider = start(&kcp, "looked", &[]).await?;
    let (alive, admin) = tenant(&provider, Shard::Root).await?;
    let (dead, dead_admin) = tenant(&provider, Shard::Second).await?;
    binding::bind(&dead_admin, &Request::new("kept", "kept")).await?;
    let horses =
        Exported { plural: "horses", kind: "Horse", ..Exported::of(GROUP, Scope::Namespaced) };
    e2e::service::offer_template(&admin, "horses", &[&horses], &[]).await?;
    let clinic = Clinic::of(&provider, &admin)?;
    let both = eventually("both workspaces", SOON, async || {
        let (code, shown) = clinic.workspaces().await?;
        ensure!(
            code == Some(0) && shown["workspaces"].as_array().map(Vec::len) == Some(2),
            "{shown}"
        );
        anyhow::Ok(shown)
    });
    both.await?;

    kcp.kill(Shard::Second).await?;
    let found = clinic.look_once().await;
    let shown = clinic.workspaces().await;
    kcp.resume(Shard::Second).await?;
    let (report, (code, shown)) = (found?, shown?);
    let url = |one: &serde_json::Value| {
        one["message"].as_str().unwrap_or_default().contains(Shard::Second.url())
    };
    let away = report.findings.iter().find(|one| one["reason"] == "NotReady" && url(one));
    away.with_context(|| format!("the shard is not named: {:#?}", report.findings))?;
    let other = report.find("TemplateWithoutSchema", "horses").context("the other is not seen")?;
    ensure!(other["object"]["cluster"] == alive.cluster.as_str(), "{other}");
    let of_dead = |one: &&serde_json::Value| one["object"]["cluster"] == dead.cluster.as_str();
    ensure!(report.code == Some(1), "{:?}", report.code);
    ensure!(report.findings.iter().find(of_dead).is_none(), "{:#?}", report.findings);

    let rows = shown["workspaces"].as_array().context("no rows")?;
    let rows: Vec<_> = rows.iter().map(|row| row["cluster"].clone()).collect();
    ensure!(code == Some(1) && rows == [json!(alive.cluster)], "{code:?}: {shown}");
    let named = shown["notReady"].to_string();
    ensure!(named.contains(Shard::Second.url()), "{shown}");
    let clusters = object::api(&dead_admin, &kube_bind("Cluster"), None);
    eventually("the shard to serve again", SOON, async || clusters.get("default").await).await?;
    Ok(())
}
