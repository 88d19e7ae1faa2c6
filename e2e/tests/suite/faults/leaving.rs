//! Workspaces that go, with work on them half done, and come back.

use anyhow::{Context as _, Result, ensure};
use e2e::audit::Mark;
use e2e::binding::{self, Request};
use e2e::kcp::Claims;
use e2e::object::{self, resource};
use e2e::provider::{EXPORT, PLATFORM, Provider};
use futures::FutureExt as _;
use kube::api::DeleteParams;

use super::{Tenant, end, refused};
use crate::Test;

/// Requests that are pending when the workspace goes.
const PENDING: [&str; 5] = ["one", "two", "three", "four", "five"];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("faults::a_workspace_that_unbinds_in_the_middle_of_binds_is_not_held_up", || {
            a_workspace_that_unbinds_in_the_middle_of_binds_is_not_held_up().boxed()
        }),
        ("faults::a_workspace_that_unbinds_mid_way_is_not_held_up", || {
            a_workspace_that_unbinds_mid_way_is_not_held_up().boxed()
        }),
        ("faults::a_workspace_that_is_deleted_mid_way_is_not_held_up", || {
            a_workspace_that_is_deleted_mid_way_is_not_held_up().boxed()
        }),
        ("faults::a_workspace_that_unbinds_and_binds_again_gets_what_it_had", || {
            a_workspace_that_unbinds_and_binds_again_gets_what_it_had().boxed()
        }),
    ]
}

async fn a_workspace_that_unbinds_mid_way_is_not_held_up() -> Result<()> {
    let provider = Provider::start("unbinding", PLATFORM).await?;
    let outcome = unbinds(&provider).await;
    end(provider, outcome).await
}

async fn unbinds(provider: &Provider) -> Result<()> {
    let (leaving, staying, mark) = half_done(provider).await?;
    leaving.bindings().delete(EXPORT, &DeleteParams::default()).await?;
    object::wait_gone(&leaving.bindings(), EXPORT).await?;
    left_alone(provider, &leaving, &staying, mark).await
}

async fn a_workspace_that_unbinds_in_the_middle_of_binds_is_not_held_up() -> Result<()> {
    let provider = Provider::start("storm", PLATFORM).await?;
    let outcome = storm(&provider).await;
    end(provider, outcome).await
}

async fn storm(provider: &Provider) -> Result<()> {
    let staying = Tenant::new(provider, "staying", Claims::All).await?;
    let leaving = Tenant::new(provider, "leaving", Claims::All).await?;
    let mark = provider.kcp.audit().mark()?;
    for name in PENDING {
        binding::create(&leaving.admin, &Request::new(name, name)).await?;
    }
    leaving.bindings().delete(EXPORT, &DeleteParams::default()).await?;
    object::wait_gone(&leaving.bindings(), EXPORT).await?;
    left_alone(provider, &leaving, &staying, mark).await?;
    // However far they had come, they get there now.
    provider.bind(&leaving.workspace, Claims::All).await?;
    for name in PENDING {
        let bound = binding::bind(&leaving.admin, &Request::new(name, name))
            .await
            .with_context(|| format!("{name} in the workspace that bound again"))?;
        bound.check_secret(&leaving.admin).await?;
    }
    Ok(())
}

async fn a_workspace_that_is_deleted_mid_way_is_not_held_up() -> Result<()> {
    let provider = Provider::start("deleting", PLATFORM).await?;
    let outcome = is_deleted(&provider).await;
    end(provider, outcome).await
}

async fn is_deleted(provider: &Provider) -> Result<()> {
    let (leaving, staying, mark) = half_done(provider).await?;
    provider.kcp.delete_workspace(&leaving.workspace).await?;
    let kind = resource("tenancy.kcp.io", "v1alpha1", "Workspace", "workspaces");
    let workspaces = object::api(&provider.kcp.client("root").await?, &kind, None);
    let name = leaving.workspace.path.trim_start_matches("root:");
    object::wait_gone(&workspaces, name).await?;
    left_alone(provider, &leaving, &staying, mark).await
}

/// A workspace with a bound consumer and pending requests that is about to go, and one that stays.
async fn half_done(provider: &Provider) -> Result<(Tenant, Tenant, Mark)> {
    let staying = Tenant::new(provider, "staying", Claims::All).await?;
    let leaving = Tenant::new(provider, "leaving", Claims::All).await?;
    for tenant in [&staying, &leaving] {
        let bound = binding::bind(&tenant.admin, &Request::new("bind", "consumer")).await?;
        tenant.awaits_heartbeat(bound.consumer.namespace()).await?;
    }
    leaving.decide(&["secrets"], "Rejected").await?;
    for name in PENDING {
        binding::create(&leaving.admin, &Request::new(name, name)).await?;
    }
    refused(&leaving.admin, PENDING[0], "Forbidden").await?;
    let mark = provider.kcp.audit().mark()?;
    Ok((leaving, staying, mark))
}

/// The workspace that stays binds on, and in the one that went the backend has deleted nothing and does no more.
async fn left_alone(
    provider: &Provider,
    leaving: &Tenant,
    staying: &Tenant,
    mark: Mark,
) -> Result<()> {
    let gone = provider.kcp.audit().mark()?;
    binding::bind(&staying.admin, &Request::new("later", "later"))
        .await
        .context("beside a workspace that went")?;
    let writes = leaving.writes(provider, mark).await?;
    ensure!(
        writes.iter().all(|request| request.verb != "delete"),
        "the backend deleted in a workspace that was leaving"
    );
    let late = leaving.writes(provider, gone).await?;
    let accepted: Vec<_> = late.into_iter().filter(|request| request.code < 300).collect();
    super::expect_requests(&accepted, &[]).context("after the workspace had gone")
}

async fn a_workspace_that_unbinds_and_binds_again_gets_what_it_had() -> Result<()> {
    let provider = Provider::start("returning", PLATFORM).await?;
    let outcome = binds_again(&provider).await;
    end(provider, outcome).await
}

async fn binds_again(provider: &Provider) -> Result<()> {
    let tenant = Tenant::new(provider, "returning", Claims::All).await?;
    let first = binding::bind(&tenant.admin, &Request::new("bind", "consumer")).await?;
    for round in ["second", "third"] {
        tenant.bindings().delete(EXPORT, &DeleteParams::default()).await?;
        object::wait_gone(&tenant.bindings(), EXPORT).await?;
        provider.bind(&tenant.workspace, Claims::All).await?;
        // The old request went with the APIBinding; one of the same name is a new one.
        let again = binding::bind(&tenant.admin, &Request::new("bind", "consumer"))
            .await
            .with_context(|| format!("the {round} bind"))?;
        ensure!(again.consumer.namespace() == first.consumer.namespace(), "another namespace");
        ensure!(again.kubeconfig == first.kubeconfig, "another kubeconfig");
        again.check_secret(&tenant.admin).await?;
        again.consumer.check_rights(&[]).await?;
        tenant.awaits_heartbeat(again.consumer.namespace()).await?;
    }
    Ok(())
}
