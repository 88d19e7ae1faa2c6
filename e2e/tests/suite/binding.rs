//! The main job: consumers bound on kcp and on Kubernetes, with the settings that people run.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Bound, Request};
use e2e::kcp::Claims;
use e2e::object::{self, core, kube_bind};
use e2e::provider::{self, NAMESPACED, PLATFORM, Provider};
use e2e::stack;
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;
use futures::future::try_join_all;
use kube::Client;
use kube::api::{DynamicObject, ListParams};
use serde_json::json;

use crate::Test;

/// Long enough for an answer of a second writer to an answer.
const QUIET: Duration = Duration::from_secs(3);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("binding::three_workspaces_with_two_consumers_each_and_the_platform_settings", || {
            on_kcp("platform", PLATFORM, "kube-bind-").boxed()
        }),
        ("binding::three_workspaces_with_two_consumers_each_and_the_namespaced_settings", || {
            on_kcp("namespaced", NAMESPACED, "cluster-").boxed()
        }),
        ("binding::two_consumers_on_kubernetes_with_either_settings", || on_kubernetes().boxed()),
        ("binding::names_and_kubeconfig_are_those_of_the_contract", || {
            names_and_kubeconfig().boxed()
        }),
        ("binding::a_repeated_request_changes_no_byte", || repeated().boxed()),
        ("binding::two_racing_requests_give_one_namespace", || racing().boxed()),
        ("binding::an_identity_of_another_namespace_is_refused_until_it_is_handed_over", || {
            taken().boxed()
        }),
        ("binding::a_missing_template_fails_and_a_foreign_secret_is_left_alone", || {
            refusals().boxed()
        }),
        ("binding::a_finished_request_is_deleted_after_its_time_with_its_secret", || {
            expiry().boxed()
        }),
    ]
}

/// Driver steps 1, 2, 4 and 5 (konnector.md section 9) for one consumer; `others` are the contract namespaces of the
/// consumers beside it.
async fn drive(admin: &Client, bound: &Bound, others: &[&str]) -> Result<()> {
    let consumer = &bound.consumer;
    bound.check_secret(admin).await?;
    consumer.check_rights(others).await.context("step 2: rights")?;
    let watches = consumer.open_watches().await.context("step 4: watches")?;
    consumer.check_stale_heartbeat().await.context("step 5: stale heartbeat")?;
    watches.quiet(0, "ClusterBinding", QUIET, SOON).await.context("step 5: first heartbeats")?;
    let mark = watches.mark();
    consumer.heartbeat().await.context("step 5: heartbeat")?;
    let events = watches
        .quiet(mark, "ClusterBinding", QUIET, SOON)
        .await
        .context("step 5: no write loop")?;
    // The heartbeat itself, and at most one answer of ours.
    ensure!(events.len() <= 2, "{} events after one heartbeat", events.len());
    let binding = consumer.check_conditions().await.context("step 5: conditions")?;
    object::expect_condition(&binding, "Healthy", "True").map_err(anyhow::Error::msg)?;
    Ok(())
}

/// Binds two consumers and drives both.
async fn two_consumers(admin: &Client, place: &str) -> Result<[Bound; 2]> {
    let (a, b) = (format!("{place}-a"), format!("{place}-b"));
    let (first, second) = (Request::new(&a, &a), Request::new(&b, &b));
    let (first, second) =
        futures::try_join!(binding::bind(admin, &first), binding::bind(admin, &second))?;
    let of_second = [second.consumer.namespace()];
    let of_first = [first.consumer.namespace()];
    futures::try_join!(drive(admin, &first, &of_second), drive(admin, &second, &of_first))?;
    Ok([first, second])
}

async fn on_kcp(name: &str, flags: &[&str], prefix: &str) -> Result<()> {
    let provider = &Provider::start(name, flags).await?;
    let choices = [Claims::All, Claims::Explicit, Claims::All];
    let bound = try_join_all(choices.into_iter().map(|claims| async move {
        let workspace = provider.tenant(name, claims).await?;
        let admin = provider.kcp.client(&workspace.cluster).await?;
        let consumers = two_consumers(&admin, &workspace.cluster).await?;
        anyhow::Ok((workspace, consumers))
    }))
    .await
    .map_err(|error| provider.backend.fail(format!("{error:#}")))?;
    for (workspace, consumers) in &bound {
        for consumer in consumers {
            let server = format!("{}/clusters/{}", provider.kcp.url(), workspace.cluster);
            ensure!(
                consumer.consumer.server() == server,
                "{} is not {server}",
                consumer.consumer.server()
            );
            ensure!(
                consumer.consumer.namespace().starts_with(prefix),
                "{}",
                consumer.consumer.namespace()
            );
        }
    }
    Ok(())
}

async fn on_kubernetes() -> Result<()> {
    let kubernetes = stack::kubernetes().await?;
    let admin = kubernetes.client().await?;
    let flags = provider::install(&kubernetes, "kubernetes-backend").await?;
    for (name, settings) in [("k8s-platform", PLATFORM), ("k8s-namespaced", NAMESPACED)] {
        let flags = flags.iter().map(String::as_str).chain(settings.iter().copied());
        let mut backend = Backend::start(name, flags).await?;
        let consumers =
            two_consumers(&admin, name).await.map_err(|e| backend.fail(format!("{e:#}")))?;
        for consumer in &consumers {
            ensure!(
                consumer.consumer.server() == kubernetes.url(),
                "{}",
                consumer.consumer.server()
            );
        }
        backend.stop().await?;
    }
    Ok(())
}

/// A provider with one workspace, and an admin of that.
async fn one_workspace(name: &str, flags: &[&str]) -> Result<(Provider, Client)> {
    let provider = Provider::start(name, flags).await?;
    let workspace = provider.tenant(name, Claims::All).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    Ok((provider, admin))
}

async fn names_and_kubeconfig() -> Result<()> {
    let (provider, admin) = one_workspace("names", &[]).await?;
    // The examples of contract objects.md 1.1.
    for (name, identity, expected) in [
        ("uuid", "a79772e9-e7a1-4c0b-bd05-6e97e1aef11b", "cluster-11p3ppvf18xmo"),
        ("ui", "http://127.0.0.1:8080/oidc/kube-bind-embedded-user", "cluster-3lw6gg1eo1i0m"),
        ("plain", "my-consumer", "cluster-2u084ntpxd9q0"),
        ("zero", "consumer-236", "cluster-0hwqwzllwte5"),
    ] {
        let bound = binding::bind(&admin, &Request::new(name, identity)).await?;
        ensure!(bound.consumer.namespace() == expected, "{}", bound.consumer.namespace());
    }
    let bound = binding::bind(&admin, &Request::new("again", "my-consumer")).await?;
    let secrets = object::api(&admin, &core("Secret"), Some(bound.consumer.namespace()));
    let token = object::secret_text(&secrets.get("kube-binder").await?, "token")?;
    let ca = provider.kcp.access("root")?.ca.context("kcp has no CA")?;
    let expected = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: \
         {server}\n  name: default\ncontexts:\n- context:\n    cluster: default\n    namespace: \
         {namespace}\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\n\
         users:\n- name: default\n  user:\n    token: {token}\n",
        server = bound.consumer.server(),
        namespace = bound.consumer.namespace(),
    );
    ensure!(bound.kubeconfig == expected, "the kubeconfig differs from the contract's bytes");
    Ok(())
}

/// What must not change when a bind is repeated: name and resourceVersion of everything in the contract namespace.
async fn contents(admin: &Client, namespace: &str) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let rbac = |kind: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        object::resource("rbac.authorization.k8s.io", "v1", kind, &plural)
    };
    for resource in
        [core("Secret"), core("ServiceAccount"), rbac("RoleBinding"), kube_bind("ClusterBinding")]
    {
        let list =
            object::api(admin, &resource, Some(namespace)).list(&ListParams::default()).await?;
        seen.extend(list.items.iter().map(|o| identify(&resource.kind, o)));
    }
    let namespaces = object::api(admin, &core("Namespace"), None);
    seen.insert(identify("Namespace", &namespaces.get(namespace).await?));
    let roles = object::api(admin, &rbac("ClusterRole"), None);
    seen.insert(identify("ClusterRole", &roles.get("kube-binder").await?));
    Ok(seen)
}

fn identify(kind: &str, object: &DynamicObject) -> String {
    let meta = &object.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{kind} {} {} {}", text(&meta.name), text(&meta.uid), text(&meta.resource_version))
}

async fn repeated() -> Result<()> {
    let (provider, admin) = one_workspace("repeated", &[]).await?;
    let first = binding::bind(&admin, &Request::new("first", "someone")).await?;
    // The first use of a token is noted on its Secret by the server, some time later.
    let log = provider.kcp.audit();
    let cluster = first.request.metadata.annotations.as_ref().and_then(|a| a.get("kcp.io/cluster"));
    let ours = e2e::audit::Filter::backend().cluster(cluster.context("no kcp.io/cluster")?);
    log.quiet(log.mark()?, &ours, QUIET, SOON, |_| false).await?;
    let before = contents(&admin, first.consumer.namespace()).await?;
    let second = binding::bind(&admin, &Request::new("second", "someone")).await?;
    ensure!(first.kubeconfig == second.kubeconfig, "the kubeconfig changed");
    ensure!(first.response == second.response, "the response changed");
    let after = contents(&admin, first.consumer.namespace()).await?;
    let token = |entry: &&String| !entry.starts_with("Secret kube-binder ");
    let (before, after): (Vec<_>, Vec<_>) =
        (before.iter().filter(token).collect(), after.iter().filter(token).collect());
    ensure!(before == after, "before: {before:#?}\nafter: {after:#?}");
    Ok(())
}

async fn racing() -> Result<()> {
    let (_provider, admin) = one_workspace("racing", &[]).await?;
    let names: Vec<String> = (0..8).map(|index| format!("racer-{index}")).collect();
    let bound = try_join_all(names.iter().map(|name| {
        let admin = admin.clone();
        async move { binding::bind(&admin, &Request::new(name, "one-identity")).await }
    }))
    .await?;
    let kubeconfigs: BTreeSet<&str> = bound.iter().map(|bound| bound.kubeconfig.as_str()).collect();
    ensure!(kubeconfigs.len() == 1, "{} different kubeconfigs", kubeconfigs.len());
    let namespaces =
        object::api(&admin, &core("Namespace"), None).list(&ListParams::default()).await?;
    let ours = namespaces.items.iter().filter(|namespace| {
        let annotations = namespace.metadata.annotations.as_ref();
        annotations.and_then(|a| a.get("backend.kube-bind.io/identity")).map(String::as_str)
            == Some("one-identity")
    });
    ensure!(ours.count() == 1, "more than one contract namespace");
    Ok(())
}

async fn taken() -> Result<()> {
    let (_provider, admin) = one_workspace("taken", &[]).await?;
    let bound = binding::bind(&admin, &Request::new("first", "shared")).await?;
    let other = json!({ "metadata": { "name": "other-team" } });
    object::create(&admin, &core("Namespace"), None, other).await?;
    let request = Request { namespace: "other-team", ..Request::new("second", "shared") };
    binding::create(&admin, &request).await?;
    let requests = object::api(&admin, &kube_bind("BindableResourcesRequest"), Some("other-team"));
    let refused = object::wait_for(&requests, "second", "the refusal", SOON, |request| {
        object::expect_refusal(request, "Ready", "IdentityTaken")
    })
    .await?;
    let condition = object::condition(&refused, "Ready").context("no condition")?;
    ensure!(refused.data["status"]["phase"] == "Pending", "{}", object::summary(&refused));
    let message = condition["message"].as_str().unwrap_or_default();
    let command = format!(
        "kubectl annotate namespace {} backend.kube-bind.io/transfer-to=namespace:other-team",
        bound.consumer.namespace()
    );
    ensure!(message.contains(&command), "the message does not name the way out: {message}");
    // The Event follows the condition.
    let events = object::api(&admin, &core("Event"), Some("other-team"));
    eventually("an Event for who has to act", SOON, async || {
        let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let reasons: Vec<_> = list.items.iter().map(|event| &event.data["reason"]).collect();
        if reasons == ["IdentityTaken"] { Ok(()) } else { Err(format!("{reasons:?}")) }
    })
    .await?;
    let secrets = object::api(&admin, &core("Secret"), Some("other-team"));
    ensure!(
        secrets.get_opt("second-binding-response").await?.is_none(),
        "a refused request got a response"
    );

    let namespaces = object::api(&admin, &core("Namespace"), None);
    let annotation = json!({ "metadata": { "annotations": {
        "backend.kube-bind.io/transfer-to": "namespace:other-team",
    }}});
    object::merge_patch(&namespaces, bound.consumer.namespace(), &annotation, false).await?;
    let moved = binding::finished(&admin, &request).await?;
    ensure!(moved.kubeconfig == bound.kubeconfig, "the credential changed with the owner");
    let again = Request::new("third", "shared");
    binding::create(&admin, &again).await?;
    let requests = object::api(&admin, &kube_bind("BindableResourcesRequest"), Some("default"));
    object::wait_for(&requests, "third", "the former owner to be refused", SOON, |request| {
        let reason = object::condition(request, "Ready").map(|c| c["reason"].clone());
        (reason == Some(json!("IdentityTaken")))
            .then_some(())
            .ok_or_else(|| object::summary(request))
    })
    .await?;
    Ok(())
}

async fn refusals() -> Result<()> {
    let (_provider, admin) = one_workspace("refusals", &[]).await?;
    let requests = object::api(&admin, &kube_bind("BindableResourcesRequest"), Some("default"));
    let missing = Request { template: Some("nowhere"), ..Request::new("missing", "templated") };
    binding::create(&admin, &missing).await?;
    let failed = object::wait_for(&requests, "missing", "the failure", SOON, |request| {
        (request.data["status"]["phase"] == "Failed")
            .then_some(())
            .ok_or_else(|| object::summary(request))
    })
    .await?;
    let condition = object::condition(&failed, "Ready").context("no condition")?;
    ensure!(
        condition["reason"] == "TemplateNotFound"
            && condition["message"] == "APIServiceExportTemplate \"nowhere\" not found",
        "{condition}"
    );

    let foreign =
        json!({ "metadata": { "name": "precious" }, "stringData": { "kubeconfig": "mine" } });
    object::create(&admin, &core("Secret"), Some("default"), foreign).await?;
    let secrets = object::api(&admin, &core("Secret"), Some("default"));
    let before = secrets.get("precious").await?;
    let manifest = json!({
        "metadata": { "name": "greedy" },
        "spec": {
            "author": "a", "clusterIdentity": { "identity": "greedy" },
            "kubeconfigSecretRef": { "name": "precious", "key": "kubeconfig" },
        },
    });
    object::create(&admin, &kube_bind("BindableResourcesRequest"), Some("default"), manifest)
        .await?;
    object::wait_for(&requests, "greedy", "the refusal", SOON, |request| {
        object::expect_refusal(request, "Ready", "SecretCreationFailed")
    })
    .await?;
    requests.delete("greedy", &kube::api::DeleteParams::default()).await?;
    object::wait_gone(&requests, "greedy").await?;
    let after = secrets.get("precious").await?;
    ensure!(
        identify("Secret", &before) == identify("Secret", &after),
        "the foreign Secret changed"
    );
    Ok(())
}

async fn expiry() -> Result<()> {
    let (_provider, admin) = one_workspace("expiry", &[]).await?;
    let manifest = json!({
        "metadata": { "name": "short" },
        "spec": {
            "author": "a", "clusterIdentity": { "identity": "short" }, "ttlAfterFinished": "30s",
        },
    });
    object::create(&admin, &kube_bind("BindableResourcesRequest"), Some("default"), manifest)
        .await?;
    let bound = binding::finished(&admin, &Request::new("short", "short")).await?;
    let requests = object::api(&admin, &kube_bind("BindableResourcesRequest"), Some("default"));
    object::wait_gone(&requests, "short").await?;
    let secrets = object::api(&admin, &core("Secret"), Some("default"));
    object::wait_gone(&secrets, "short-binding-response").await?;
    bound.check_secret(&admin).await?;
    Ok(())
}
