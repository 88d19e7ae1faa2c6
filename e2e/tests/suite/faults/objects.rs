//! Objects that are wrong, huge or half empty stop nothing but themselves.

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter};
use e2e::binding::{self, Request};
use e2e::kcp::Claims;
use e2e::object::{self, core, kube_bind};
use e2e::provider::{PLATFORM, Provider};
use futures::FutureExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{SOON, Tenant, condition, end, expect_requests, refused, says};
use crate::Test;

/// All annotations of an object together: keys and values (`TotalAnnotationSizeLimitB` of Kubernetes).
const ANNOTATIONS: usize = 256 << 10;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("faults::a_consumer_whose_namespace_is_going_is_bound_when_it_is_gone", || {
            a_consumer_whose_namespace_is_going_is_bound_when_it_is_gone().boxed()
        }),
        (
            "faults::a_template_that_does_not_exist_is_final_and_no_name_is_asked_for_that_is_none",
            || {
                a_template_that_does_not_exist_is_final_and_no_name_is_asked_for_that_is_none()
                    .boxed()
            },
        ),
        ("faults::a_bad_request_says_what_is_wrong_once_and_heals_when_it_is_edited", || {
            a_bad_request_says_what_is_wrong_once_and_heals_when_it_is_edited().boxed()
        }),
        ("faults::huge_and_half_empty_objects_are_harmless", || {
            huge_and_half_empty_objects_are_harmless().boxed()
        }),
    ]
}

async fn a_bad_request_says_what_is_wrong_once_and_heals_when_it_is_edited() -> Result<()> {
    let provider = Provider::start("bad", PLATFORM).await?;
    let outcome = bad_requests(&provider).await;
    end(provider, outcome).await
}

async fn bad_requests(provider: &Provider) -> Result<()> {
    let tenant = Tenant::new(provider, "bad", Claims::All).await?;
    let mark = provider.kcp.audit().mark()?;
    let long = "b".repeat(100_000);
    let cases = cases(&long);
    for (name, bad, _, _) in &cases {
        let mut spec = json!({"clusterIdentity": {"identity": name}, "author": "e2e@example.org"});
        merge(&mut spec, bad);
        let manifest = json!({"metadata": {"name": name}, "spec": spec});
        object::create(
            &tenant.admin,
            &kube_bind("BindableResourcesRequest"),
            Some("default"),
            manifest,
        )
        .await?;
    }
    binding::bind(&tenant.admin, &Request::new("good", "good"))
        .await
        .context("beside bad requests")?;
    for (name, _, _, reason) in &cases {
        let request = refused(&tenant.admin, name, reason).await?;
        let message = condition(&request, "Ready")["message"].as_str().unwrap_or_default().len();
        ensure!(message < 2_000, "{name}: a message of {message} bytes");
    }
    let ttl = tenant.requests().get("ttl").await?;
    let expected = json!({
        "type": "Ready", "status": "False", "reason": "InvalidRequest",
        "message": "spec.ttlAfterFinished: \"banana\" is not a duration; write a number and a unit, such as 10m or 1h30m",
    });
    says(&ttl, &expected).map_err(anyhow::Error::msg)?;
    let filter = Filter::backend().cluster(&tenant.workspace.cluster);
    let mut said = provider.kcp.audit().requests(mark, &filter)?;
    said.retain(|request| request.object == "default/ttl");
    expect_requests(&said, &["patch bindableresourcesrequests.kube-bind.io/status default/ttl"])?;
    for (name, _, good, _) in &cases {
        object::merge_patch(&tenant.requests(), name, &json!({"spec": good}), false).await?;
        binding::finished(&tenant.admin, &Request::new(name, name))
            .await
            .with_context(|| format!("{name} after it was corrected"))?;
    }
    Ok(())
}

/// Name, what is wrong, how it is corrected, and the reason until then.
fn cases(long: &str) -> Vec<(&str, Value, Value, &str)> {
    let identity = |identity: &str| json!({"clusterIdentity": {"identity": identity}});
    vec![
        (
            "ttl",
            json!({"ttlAfterFinished": "banana"}),
            json!({"ttlAfterFinished": "1h"}),
            "InvalidRequest",
        ),
        (
            "long-ttl",
            json!({"ttlAfterFinished": long}),
            json!({"ttlAfterFinished": null}),
            "InvalidRequest",
        ),
        ("nobody", identity(""), identity("somebody"), "InvalidRequest"),
        ("control", identity("a\nb"), identity("a-b"), "InvalidRequest"),
        ("long-identity", identity(long), identity("short"), "InvalidRequest"),
        // Refused by the API server: it would become an annotation of the contract namespace.
        (
            "author",
            json!({"author": "a".repeat(300_000)}),
            json!({"author": "a"}),
            "HandleResourcesFailed",
        ),
        (
            "secret",
            json!({"kubeconfigSecretRef": {"name": "No/Name", "key": "k"}}),
            json!({"kubeconfigSecretRef": {"name": "name"}}),
            "InvalidRequest",
        ),
        (
            "key",
            json!({"kubeconfigSecretRef": {"name": "key", "key": "no key"}}),
            json!({"kubeconfigSecretRef": {"key": "key"}}),
            "InvalidRequest",
        ),
        // Too long a name for that of a Secret to be made of it.
        (
            &long[..250],
            json!({}),
            json!({"kubeconfigSecretRef": {"name": "named", "key": "k"}}),
            "SecretCreationFailed",
        ),
    ]
}

fn merge(into: &mut Value, fields: &Value) {
    for (key, value) in fields.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

async fn a_template_that_does_not_exist_is_final_and_no_name_is_asked_for_that_is_none()
-> Result<()> {
    let provider = Provider::start("templates", PLATFORM).await?;
    let outcome = no_templates(&provider).await;
    end(provider, outcome).await
}

async fn no_templates(provider: &Provider) -> Result<()> {
    let tenant = Tenant::new(provider, "templates", Claims::All).await?;
    let mark = provider.kcp.audit().mark()?;
    let long = "x".repeat(100_000);
    let names = ["absent", "../clusters/default", "?limit=1", "No Name", &long];
    for (index, template) in names.into_iter().enumerate() {
        let name = format!("bind-{index}");
        let request = Request { template: Some(template), ..Request::new(&name, "consumer") };
        binding::create(&tenant.admin, &request).await?;
        if template != "absent" {
            refused(&tenant.admin, &name, "InvalidRequest").await?;
            continue;
        }
        let failed = object::wait_for(&tenant.requests(), &name, "the end", SOON, |request| {
            object::expect_condition(request, "Ready", "False")
        })
        .await?;
        let reason = &condition(&failed, "Ready")["reason"];
        ensure!(
            failed.data["status"]["phase"] == "Failed" && reason == "TemplateNotFound",
            "{}",
            object::summary(&failed)
        );
    }
    let filter = Filter::backend().cluster(&tenant.workspace.cluster);
    let mut asked = provider.kcp.audit().requests(mark, &filter)?;
    asked.retain(|request| request.verb == "get");
    ensure!(
        asked.len() == 1 && asked[0].object == "/absent",
        "something else was asked for:\n{}",
        audit::listing(&asked)
    );
    Ok(())
}

async fn a_consumer_whose_namespace_is_going_is_bound_when_it_is_gone() -> Result<()> {
    let provider = Provider::start("going", PLATFORM).await?;
    let outcome = going(&provider).await;
    end(provider, outcome).await
}

async fn going(provider: &Provider) -> Result<()> {
    let tenant = Tenant::new(provider, "going", Claims::All).await?;
    let bound = binding::bind(&tenant.admin, &Request::new("first", "consumer")).await?;
    let namespace = bound.consumer.namespace();
    // Holds the namespace while it is being deleted.
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.org/held"]}});
    object::create(&tenant.admin, &core("ConfigMap"), Some(namespace), held).await?;
    let namespaces = object::api(&tenant.admin, &core("Namespace"), None);
    namespaces.delete(namespace, &DeleteParams::default()).await?;
    let maps = object::api(&tenant.admin, &core("ConfigMap"), Some(namespace));
    object::wait_for(&maps, "held", "the last object of the namespace", SOON, |map| {
        map.metadata.deletion_timestamp.as_ref().map(drop).ok_or_else(|| object::summary(map))
    })
    .await?;
    binding::bind(&tenant.admin, &Request::new("beside", "other")).await?;
    let request = Request::new("second", "consumer");
    binding::create(&tenant.admin, &request).await?;
    refused(&tenant.admin, "second", "NamespaceDeleting").await?;
    let free = json!({"metadata": {"finalizers": null}});
    object::merge_patch(&maps, "held", &free, false).await?;
    let again = binding::finished(&tenant.admin, &request).await?;
    ensure!(again.consumer.namespace() == namespace, "another namespace");
    ensure!(again.kubeconfig != bound.kubeconfig, "a credential survived its namespace");
    again.check_secret(&tenant.admin).await?;
    Ok(())
}

async fn huge_and_half_empty_objects_are_harmless() -> Result<()> {
    let provider = Provider::start("odd", PLATFORM).await?;
    let outcome = odd_objects(&provider).await;
    end(provider, outcome).await
}

async fn odd_objects(provider: &Provider) -> Result<()> {
    let tenant = Tenant::new(provider, "odd", Claims::All).await?;
    let requests = tenant.requests();
    let spec = |identity: &str| json!({"clusterIdentity": {"identity": identity}, "author": "e2e@example.org"});
    let kind = kube_bind("BindableResourcesRequest");

    let key = "example.org/big";
    let size = ANNOTATIONS - key.len();
    let huge = |size: usize| {
        json!({
            "metadata": {"name": "huge", "annotations": {key: "x".repeat(size)}}, "spec": spec("huge"),
        })
    };
    ensure!(
        object::create(&tenant.admin, &kind, Some("default"), huge(size + 1)).await.is_err(),
        "this is not the largest object that the server takes"
    );
    // So large that kcp, which adds an annotation of its own, takes no further write of it.
    object::create(&tenant.admin, &kind, Some("default"), huge(size)).await?;
    let empty = json!({"metadata": {"name": "empty"}, "spec": spec("empty"), "status": null});
    object::create(&tenant.admin, &kind, Some("default"), empty).await?;
    binding::bind(&tenant.admin, &Request::new("good", "good")).await?;
    let smaller = json!({"metadata": huge(size - 100)["metadata"]});
    object::merge_patch(&requests, "huge", &smaller, false).await?;
    let huge = binding::finished(&tenant.admin, &Request::new("huge", "huge")).await?;
    let empty = binding::finished(&tenant.admin, &Request::new("empty", "empty")).await?;
    for bound in [&huge, &empty] {
        tenant.awaits_heartbeat(bound.consumer.namespace()).await?;
    }

    // A status that somebody wiped is written anew, with what is there already.
    let mark = provider.kcp.audit().mark()?;
    let gone = json!({"status": null});
    object::merge_patch(&requests, "empty", &gone, true).await?;
    let again = binding::finished(&tenant.admin, &Request::new("empty", "empty")).await?;
    ensure!(again.kubeconfig == empty.kubeconfig, "the kubeconfig changed");
    let namespace = empty.consumer.namespace();
    let bindings = object::api(&tenant.admin, &kube_bind("ClusterBinding"), Some(namespace));
    object::merge_patch(&bindings, "cluster", &gone, true).await?;
    tenant.awaits_heartbeat(namespace).await?;
    object::merge_patch(&tenant.kube_bind("Cluster"), "default", &gone, true).await?;
    let writes = tenant.writes(provider, mark).await?;
    expect_requests(
        &writes,
        &[
            "patch bindableresourcesrequests.kube-bind.io/status default/empty",
            &format!("patch clusterbindings.kube-bind.io/status {namespace}/cluster"),
        ],
    )?;
    Ok(())
}
