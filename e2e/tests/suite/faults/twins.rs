//! Objects of the same name in two workspaces are two objects.

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Bound, Request};
use e2e::kcp::Claims;
use e2e::object::{self, core, kube_bind, resource};
use e2e::provider::{PLATFORM, Provider};
use futures::FutureExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{SOON, Tenant, end, expect_requests, says};
use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![("faults::objects_of_the_same_name_in_two_workspaces_never_mix", || {
        objects_of_the_same_name_in_two_workspaces_never_mix().boxed()
    })]
}

async fn objects_of_the_same_name_in_two_workspaces_never_mix() -> Result<()> {
    let provider = Provider::start("twins", PLATFORM).await?;
    let outcome = twins(&provider).await;
    end(provider, outcome).await
}

async fn twins(provider: &Provider) -> Result<()> {
    let request = Request::new("bind", "the-same-consumer");
    let left = Tenant::new(provider, "left", Claims::All).await?;
    let right = Tenant::new(provider, "right", Claims::All).await?;
    let (one, two) =
        tokio::join!(binding::bind(&left.admin, &request), binding::bind(&right.admin, &request));
    let (one, two) = (one?, two?);
    let namespace = one.consumer.namespace();
    ensure!(two.consumer.namespace() == namespace, "the same identity, but another namespace");
    ensure!(one.kubeconfig != two.kubeconfig, "both workspaces issued the same credential");
    for (tenant, bound) in [(&left, &one), (&right, &two)] {
        let server = bound.consumer.server();
        ensure!(
            server.ends_with(&tenant.workspace.cluster),
            "{server} is not {:?}",
            tenant.workspace
        );
        tenant.awaits_heartbeat(namespace).await?;
    }
    let mark = provider.kcp.audit().mark()?;
    let before = everything(&right, namespace).await?;
    change_and_delete(&left, &one).await?;
    // The last event of all came back from the left workspace; what it did to the right one is to be seen by now.
    expect_requests(&right.writes(provider, mark).await?, &[])?;
    let after = everything(&right, namespace).await?;
    for (before, after) in before.iter().zip(&after) {
        ensure!(before == after, "changed from\n{before}\nto\n{after}");
    }
    let again = binding::bind(&right.admin, &Request::new("again", "the-same-consumer")).await?;
    ensure!(again.kubeconfig == two.kubeconfig, "the other consumer got a new kubeconfig");
    two.consumer.heartbeat().await.context("the other consumer was not to be cut off")?;
    Ok(())
}

/// A heartbeat, an annotation, and the end of the request and of the contract namespace; then everything anew.
async fn change_and_delete(tenant: &Tenant, bound: &Bound) -> Result<()> {
    let namespace = bound.consumer.namespace();
    bound.consumer.heartbeat().await?;
    let bindings = object::api(&tenant.admin, &kube_bind("ClusterBinding"), Some(namespace));
    object::wait_for(&bindings, "cluster", "the heartbeat to be seen", SOON, |binding| {
        says(binding, &json!({"type": "Healthy", "status": "True"}))
    })
    .await?;
    let note = json!({"metadata": {"annotations": {"example.org/note": "left"}}});
    object::merge_patch(&bindings, "cluster", &note, false).await?;
    tenant.requests().delete("bind", &DeleteParams::default()).await?;
    object::wait_gone(&tenant.requests(), "bind").await?;
    let namespaces = object::api(&tenant.admin, &core("Namespace"), None);
    namespaces.delete(namespace, &DeleteParams::default()).await?;
    object::wait_gone(&namespaces, namespace).await?;
    let again = binding::bind(&tenant.admin, &Request::new("bind", "the-same-consumer")).await?;
    ensure!(again.consumer.namespace() == namespace, "the namespace got another name");
    ensure!(again.kubeconfig != bound.kubeconfig, "a credential survived its namespace");
    Ok(())
}

/// What a workspace holds of the backend, to the last byte.
async fn everything(tenant: &Tenant, namespace: &str) -> Result<Vec<Value>> {
    let rbac = |kind, plural| resource("rbac.authorization.k8s.io", "v1", kind, plural);
    let mut objects = Vec::new();
    for (kind, namespace, name) in [
        (kube_bind("Cluster"), None, "default"),
        (core("Namespace"), None, namespace),
        (core("ServiceAccount"), Some(namespace), "kube-binder"),
        (core("Secret"), Some(namespace), "kube-binder"),
        (core("Secret"), Some(namespace), "kubeconfig"),
        (rbac("ClusterRole", "clusterroles"), None, "kube-binder"),
        (rbac("RoleBinding", "rolebindings"), Some(namespace), "kube-binder"),
        (kube_bind("ClusterBinding"), Some(namespace), "cluster"),
        (kube_bind("BindableResourcesRequest"), Some("default"), "bind"),
        (core("Secret"), Some("default"), "bind-binding-response"),
    ] {
        let api = object::api(&tenant.admin, &kind, namespace);
        let object = api.get(name).await.with_context(|| format!("{} {name}", kind.kind))?;
        objects.push(serde_json::to_value(object)?);
    }
    Ok(objects)
}
