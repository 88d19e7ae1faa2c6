//! Permission claims: in which forms they work, and what it means that one is not accepted.

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::kcp::Claims;
use e2e::object::{self, core, resource};
use e2e::provider::{PLATFORM, Provider};
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::{SOON, Tenant, condition, end, expect_requests, refused, says};
use crate::Test;

/// All claims but that of Secrets and those that only add comfort.
const WITHOUT_SECRETS: &[&str] = &[
    "namespaces",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "subjectaccessreviews",
    "customresourcedefinitions",
    "apiresourceschemas",
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("faults::claims_accepted_with_a_star_or_verb_by_verb_both_work", || {
            claims_accepted_with_a_star_or_verb_by_verb_both_work().boxed()
        }),
        ("faults::a_claim_that_is_not_accepted_stops_only_its_workspace", || {
            a_claim_that_is_not_accepted_stops_only_its_workspace().boxed()
        }),
        ("faults::a_claim_that_is_withdrawn_costs_no_consumer_anything", || {
            a_claim_that_is_withdrawn_costs_no_consumer_anything().boxed()
        }),
    ]
}

async fn claims_accepted_with_a_star_or_verb_by_verb_both_work() -> Result<()> {
    let provider = Provider::start("forms", PLATFORM).await?;
    let outcome = both_forms(&provider).await;
    end(provider, outcome).await
}

async fn both_forms(provider: &Provider) -> Result<()> {
    for claims in [Claims::All, Claims::Explicit] {
        let tenant = Tenant::new(provider, "form", claims).await?;
        let bound = binding::bind(&tenant.admin, &Request::new("bind", "consumer"))
            .await
            .with_context(|| format!("{claims:?}"))?;
        bound.check_secret(&tenant.admin).await?;
        expect_no_conditions(&tenant).await?;
    }
    Ok(())
}

async fn a_claim_that_is_not_accepted_stops_only_its_workspace() -> Result<()> {
    let provider = Provider::start("unclaimed", PLATFORM).await?;
    let outcome = one_without_secrets(&provider).await;
    end(provider, outcome).await
}

async fn one_without_secrets(provider: &Provider) -> Result<()> {
    let request = Request::new("bind", "consumer");
    let poor = Tenant::new(provider, "poor", Claims::Some(WITHOUT_SECRETS)).await?;
    binding::create(&poor.admin, &request).await?;
    expect_missing(&poor, "secrets.core").await?;
    let refused_once = refused(&poor.admin, "bind", "Forbidden").await?;
    let ready = condition(&refused_once, "Ready");
    let message = ready["message"].as_str().unwrap_or_default();
    ensure!(
        message.starts_with("Failed to handle resources: create Secret ")
            && message.contains("not allowed: "),
        "{message}"
    );

    let rich = Tenant::new(provider, "rich", Claims::All).await?;
    binding::bind(&rich.admin, &request).await?;
    expect_no_conditions(&rich).await?;
    // Still as it was, although another workspace has bound meanwhile.
    refused(&poor.admin, "bind", "Forbidden").await?;

    poor.decide(&["secrets"], "Accepted").await?;
    binding::finished(&poor.admin, &request).await.context("after the claim was accepted")?;
    for kind in ["PermissionClaimsAccepted", "Ready"] {
        expect_cluster(&poor, &json!({"type": kind, "status": "True"})).await?;
    }
    expect_no_conditions(&rich).await
}

async fn a_claim_that_is_withdrawn_costs_no_consumer_anything() -> Result<()> {
    let provider = Provider::start("withdrawn", PLATFORM).await?;
    let outcome = withdrawn_claims(&provider).await;
    end(provider, outcome).await
}

async fn withdrawn_claims(provider: &Provider) -> Result<()> {
    let request = Request::new("bind", "consumer");
    let tenant = Tenant::new(provider, "withdrawing", Claims::All).await?;
    let other = Tenant::new(provider, "other", Claims::All).await?;
    let bound = binding::bind(&tenant.admin, &request).await?;
    let namespace = bound.consumer.namespace();
    tenant.awaits_heartbeat(namespace).await?;
    let owned = owned(&tenant, namespace).await?;

    // But customresourcedefinitions, which are not looked at with --schema-source=apiresourceschemas.
    let every = "apiresourceschemas.apis.kcp.io, clusterrolebindings.rbac.authorization.k8s.io, \
        clusterroles.rbac.authorization.k8s.io, \
        namespaces.core, rolebindings.rbac.authorization.k8s.io, roles.rbac.authorization.k8s.io, \
        secrets.core, serviceaccounts.core, subjectaccessreviews.authorization.k8s.io";
    for (resources, missing) in [(&["secrets"][..], "secrets.core"), (&[], every)] {
        let mark = provider.kcp.audit().mark()?;
        tenant.decide(resources, "Rejected").await?;
        expect_missing(&tenant, missing).await?;
        // Proves that the backend goes on elsewhere, and that it still reads this workspace.
        let name = format!("bind-{}", resources.len());
        binding::bind(&other.admin, &Request::new(&name, "other")).await?;
        let writes = tenant.writes(provider, mark).await?;
        expect_requests(&writes, &["patch clusters.kube-bind.io/status /default"])
            .with_context(|| format!("after {missing} was withdrawn"))?;
        ensure!(self::owned(&tenant, namespace).await? == owned, "objects of the consumer changed");
    }
    // Its own kinds need no claim: the consumer is heard all the same.
    bound.consumer.heartbeat().await?;
    let api = bound.consumer.kube_bind("ClusterBinding");
    object::wait_for(&api, "cluster", "the heartbeat to be seen", SOON, |binding| {
        says(binding, &json!({"type": "Healthy", "status": "True"}))
    })
    .await?;
    expect_no_conditions(&other).await?;

    // Accepted again, everything is found again.
    tenant.decide(&[], "Accepted").await?;
    expect_cluster(&tenant, &json!({"type": "PermissionClaimsAccepted", "status": "True"})).await?;
    let again = binding::bind(&tenant.admin, &Request::new("again", "consumer")).await?;
    ensure!(again.kubeconfig == bound.kubeconfig, "the consumer got a new kubeconfig");
    binding::bind(&tenant.admin, &Request::new("new", "new")).await?;
    Ok(())
}

/// UID and content of what a consumer has, without what kcp itself changes when a claim goes: its labels.
async fn owned(tenant: &Tenant, namespace: &str) -> Result<Vec<Value>> {
    let rbac = |kind, plural| resource("rbac.authorization.k8s.io", "v1", kind, plural);
    let mut contents = Vec::new();
    for (kind, namespace, name) in [
        (core("Namespace"), None, namespace),
        (core("ServiceAccount"), Some(namespace), "kube-binder"),
        (core("Secret"), Some(namespace), "kube-binder"),
        (core("Secret"), Some(namespace), "kubeconfig"),
        (core("Secret"), Some("default"), "bind-binding-response"),
        (rbac("ClusterRole", "clusterroles"), None, "kube-binder"),
        (rbac("RoleBinding", "rolebindings"), Some(namespace), "kube-binder"),
        (object::kube_bind("ClusterBinding"), Some(namespace), "cluster"),
    ] {
        let api = object::api(&tenant.admin, &kind, namespace);
        let object = api.get(name).await.with_context(|| format!("{} {name}", kind.kind))?;
        contents.push(json!([
            kind.kind,
            object.metadata.uid,
            object.metadata.annotations,
            object.data
        ]));
    }
    Ok(contents)
}

async fn expect_missing(tenant: &Tenant, missing: &str) -> Result<()> {
    let message = format!(
        "this workspace does not grant {missing}; accept the permission claims of APIBinding \
         kube-bind.io with the verb * or with every verb that the APIExport lists"
    );
    for kind in ["PermissionClaimsAccepted", "Ready"] {
        let expected = json!({
            "type": kind, "status": "False", "severity": "Error",
            "reason": "PermissionClaimsMissing", "message": message,
        });
        expect_cluster(tenant, &expected).await?;
    }
    Ok(())
}

async fn expect_cluster(tenant: &Tenant, condition: &Value) -> Result<()> {
    let what = format!("Cluster default of {} to say {condition}", tenant.workspace.path);
    let clusters = tenant.kube_bind("Cluster");
    object::wait_for(&clusters, "default", &what, SOON, |cluster| says(cluster, condition)).await?;
    Ok(())
}

async fn expect_no_conditions(tenant: &Tenant) -> Result<()> {
    let cluster = tenant.kube_bind("Cluster").get("default").await?;
    ensure!(
        cluster.data["status"]["conditions"].as_array().is_none_or(Vec::is_empty),
        "{}: {}",
        tenant.workspace.path,
        object::summary(&cluster)
    );
    Ok(())
}
