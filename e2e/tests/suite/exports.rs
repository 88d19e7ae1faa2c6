//! Exports as the konnector sees them (contract konnector.md 9, steps 3 and 6 to 17), for every configuration.

use e2e::wait::SOON;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::binding::{self, Request};
use e2e::driver::{self, Consumer, Isolation, Settings, Use};
use e2e::kcp::Claims;
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, core, kube_bind, rbac};
use e2e::provider::{self, Provider};
use e2e::service::{self, Exported, GROUP, Scope, Source};
use e2e::{dirs, stack, wait};
use futures::FutureExt as _;
use futures::future::try_join_all;
use kube::Client;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Test;

/// What each export claims.
const CLAIMED: [&str; 3] = ["Secret", "ConfigMap", "ServiceAccount"];
/// The flag that a refusal names.
const SHARED: &str = "--allow-shared-cluster-scope";

pub(crate) fn tests() -> Vec<Test> {
    use Isolation::{Namespaced, None, Prefixed};
    use Source::{Bindings, Crds, Schemas};
    vec![
        ("exports::kcp_with_consumer_scope_namespaced_and_isolation_prefixed", || {
            on_kcp("exports-np", Scope::Namespaced, Prefixed, Bindings).boxed()
        }),
        ("exports::kcp_with_consumer_scope_namespaced_and_isolation_namespaced", || {
            on_kcp("exports-nn", Scope::Namespaced, Namespaced, Schemas).boxed()
        }),
        ("exports::kcp_with_consumer_scope_namespaced_and_isolation_none", || {
            on_kcp("exports-no", Scope::Namespaced, None, Schemas).boxed()
        }),
        ("exports::kcp_with_consumer_scope_cluster_and_isolation_prefixed", || {
            on_kcp("exports-cp", Scope::Cluster, Prefixed, Crds).boxed()
        }),
        ("exports::kcp_with_consumer_scope_cluster_and_isolation_namespaced", || {
            on_kcp("exports-cn", Scope::Cluster, Namespaced, Crds).boxed()
        }),
        ("exports::kcp_with_consumer_scope_cluster_and_isolation_none", || {
            on_kcp("exports-co", Scope::Cluster, None, Bindings).boxed()
        }),
        ("exports::kubernetes_with_every_configuration", || on_kubernetes().boxed()),
        ("exports::a_request_that_cannot_be_served_says_why_and_leaves_the_others_alone", || {
            refused().boxed()
        }),
        (
            "exports::a_changed_schema_reaches_only_who_asked_for_it_before_the_export_says_so",
            || changed_schema().boxed(),
        ),
        (
            "exports::a_second_consumer_whose_claims_would_read_all_secrets_waits_for_the_flag",
            || second_waits(Isolation::Prefixed, &["Secret"], Way::Flag).boxed(),
        ),
        ("exports::a_second_consumer_without_isolation_waits_until_the_first_is_removed", || {
            second_waits(Isolation::None, &[], Way::Removal).boxed()
        }),
    ]
}

/// What a consumer has left behind.
struct Left {
    admin: Client,
    usage: Use,
    service: String,
    objects: BTreeSet<String>,
}

/// Steps 3 and 6 to 14 for a consumer that is bound in a cluster where the resource is served. `elsewhere` is a cluster
/// that gets the consumer's CRD.
async fn walk(
    admin: &Client,
    consumer: &Consumer,
    settings: Settings,
    group: &str,
    elsewhere: Option<&Client>,
) -> Result<Left> {
    let exported = Exported::of(group, settings.resource);
    let tag = stack::unique("town");
    let (stays, goes) = (format!("wild-{tag}"), format!("ghost-{tag}"));
    let watches = consumer.open_watches().await.context("step 4: watches")?;
    let usage = consumer.take_up(&tag, settings, &exported, &CLAIMED).await?;
    usage.informers(&[]).await.context("step 8: informers for the whole cluster")?;
    if let Some(elsewhere) = elsewhere {
        service::establish(elsewhere, &usage.export.crds()).await.context("step 6: CRD")?;
    }
    usage.check_wide_roles(admin).await.context("step 8: roles")?;
    consumer.check_acknowledged(&usage.export, &watches).await.context("step 7: answers")?;

    // It is the consumer's namespace that goes in step 14, not its namesake here.
    if settings.isolation != Isolation::None {
        let namesake = json!({"metadata": {"name": goes}});
        object::create(admin, &core("Namespace"), None, namesake).await?;
    }
    let service = usage.service_namespace(&stays).await.context("step 9")?;
    let going = usage.service_namespace(&goes).await.context("step 9")?;
    for (namespace, service) in [(&stays, &service), (&goes, &going)] {
        usage.check_service_namespace(admin, namespace, service).await.context("step 9")?;
    }
    let informers = usage.informers(&[&service, &going]).await.context("step 8: informers")?;
    for (namespace, service) in [(&stays, &service), (&goes, &going)] {
        usage
            .check_objects(admin, &informers, namespace, service, &format!("{namespace}-o"))
            .await
            .context("step 10: objects")?;
        for kind in CLAIMED {
            usage
                .check_claim(&informers, kind, namespace, service, "claimed")
                .await
                .with_context(|| format!("step 11: claimed {kind}"))?;
        }
    }
    let view = consumer.bundle_view().await.context("step 13: bundle view")?;
    ensure!(view == BTreeSet::from([tag]), "step 13: the exports are {view:?}");

    give_back(admin, &usage, &goes, &going).await.context("step 14: namespaces")?;

    let spec = json!({"intent": "stay"});
    usage.create_object(&stays, &service, &stays, spec).await.context("step 17")?;
    for kind in CLAIMED {
        usage.create_claimed(kind, &stays, &service, "stays").await.context("step 17")?;
    }
    let objects = objects(admin, &usage, &service).await?;
    Ok(Left { admin: admin.clone(), usage, service, objects })
}

/// The namespace that was made for the consumer's goes with it; others of that name, and one that was only used, stay.
async fn give_back(admin: &Client, usage: &Use, namespace: &str, service: &str) -> Result<()> {
    let settings = usage.settings;
    let borrows = settings.isolation == Isolation::None && settings.informers == Scope::Cluster;
    if borrows {
        borrow(admin, usage).await.context("an existing namespace")?;
    }
    usage.release(admin, namespace, service).await?;
    if settings.isolation != Isolation::None {
        let namesake = object::api(admin, &core("Namespace"), None).get(namespace).await?;
        ensure!(namesake.metadata.deletion_timestamp.is_none(), "{namespace} is terminating");
    }
    if borrows {
        usage.check_borrowed_namespace(admin, "default").await?;
    }
    Ok(())
}

/// `default` is there on both sides: it is used, not owned, and stays when the consumer's is gone.
async fn borrow(admin: &Client, usage: &Use) -> Result<()> {
    let service = usage.service_namespace("default").await?;
    usage.check_borrowed_namespace(admin, &service).await?;
    usage.create_claimed("Secret", "default", &service, usage.export.name()).await?;
    let api = usage.consumer.kube_bind("APIServiceNamespace");
    api.delete("default", &DeleteParams::default()).await?;
    object::wait_gone(&api, "default").await
}

/// Everything that a consumer has on the provider, with UIDs. Its requests are not among it: they are deleted in time.
async fn objects(admin: &Client, usage: &Use, service: &str) -> Result<BTreeSet<String>> {
    let contract = usage.contract();
    let mut kinds = Vec::new();
    for namespace in [contract, service] {
        for kind in CLAIMED {
            kinds.push((core(kind), Some(namespace)));
        }
        for kind in ["Role", "RoleBinding"] {
            kinds.push((rbac(kind), Some(namespace)));
        }
    }
    for kind in ["ClusterBinding", "APIServiceExport", "APIServiceNamespace", "BoundSchema"] {
        kinds.push((kube_bind(kind), Some(contract)));
    }
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        kinds.push((rbac(kind), None));
    }
    kinds.push((core("Namespace"), None));
    let key = usage.key(service, "");
    kinds.push((usage.exported.resource(), key.namespace.as_deref()));
    let mut objects = BTreeSet::new();
    for (resource, namespace) in &kinds {
        for object in object::list(&object::api(admin, resource, *namespace)).await? {
            let metadata = object.metadata;
            let name = metadata.name.unwrap_or_default();
            let whose = namespace.is_some()
                || resource.kind == usage.exported.kind
                || name.contains(contract)
                || name == service;
            if whose {
                let place = namespace.unwrap_or_default();
                let uid = metadata.uid.unwrap_or_default();
                let state = if metadata.deletion_timestamp.is_some() { " terminating" } else { "" };
                objects.insert(format!("{} {place}/{name} {uid}{state}", resource.kind));
            }
        }
    }
    Ok(objects)
}

/// Step 17: the konnector is gone and the backend begins anew. Once it has served a newcomer, everything is as it was.
async fn check_left(left: &Left) -> Result<()> {
    let newcomer = stack::unique("newcomer");
    binding::bind(&left.admin, &Request::new(&newcomer, &newcomer)).await?;
    let now = objects(&left.admin, &left.usage, &left.service).await?;
    let lost: Vec<_> = left.objects.difference(&now).collect();
    ensure!(lost.is_empty(), "gone or terminating: {lost:#?}");
    Ok(())
}

async fn on_kcp(
    name: &'static str,
    informers: Scope,
    isolation: Isolation,
    source: Source,
) -> Result<()> {
    let all = Settings::of(informers, isolation);
    let [scope, isolation] = all[0].flags();
    let mut provider = Provider::start(name, &[&scope, &isolation, source.flag()]).await?;
    let at = &provider;
    let left = try_join_all(all.into_iter().map(|settings| async move {
        let workspace = at.tenant(name, Claims::All).await?;
        at.serve(&workspace, source).await.context("serving the API")?;
        let admin = at.kcp.client(&workspace.cluster).await?;
        let mut request = Request::new("consumer", &workspace.cluster);
        if source == Source::Bindings {
            request.template = Some(generated(&admin, settings).await?);
        }
        let bound = binding::bind(&admin, &request).await.context("step 1: bind")?;
        let (_, elsewhere) = stack::workspace("consumer").await?;
        let elsewhere = at.kcp.client(&elsewhere.cluster).await?;
        walk(&admin, &bound.consumer, settings, GROUP, Some(&elsewhere))
            .await
            .with_context(|| format!("{settings:?}"))
    }))
    .await
    .map_err(|error| provider.backend.fail(format!("{error:#}")))?;
    provider.backend.stop().await?;
    for left in &left {
        left.usage.ask_for_namespace("meanwhile").await.context("step 16")?;
    }
    provider.backend.restart().await?;
    for left in &left {
        let served = left.usage.provided_namespace("meanwhile").await.context("step 16");
        served.map_err(|error| provider.backend.fail(format!("{error:#}")))?;
        let checked = check_left(left).await.context("step 17: unbind");
        checked.map_err(|error| provider.backend.fail(format!("{error:#}")))?;
    }
    Ok(())
}

/// The template that the backend makes of the workspace's `APIBinding`, with what an admin adds to it.
async fn generated(admin: &Client, settings: Settings) -> Result<&'static str> {
    let name = match settings.resource {
        Scope::Cluster => "wildwest.dev-cluster",
        Scope::Namespaced => "wildwest.dev-namespaced",
    };
    let templates = object::api(admin, &kube_bind("APIServiceExportTemplate"), None);
    let what = format!("template {name} to be generated");
    object::wait_for(&templates, name, &what, SOON, |_| Ok(())).await?;
    let claims = CLAIMED.map(|kind| service::claim(&core(kind).plural));
    let edited = json!({"spec": {"permissionClaims": claims}});
    object::merge_patch(&templates, name, &edited, false).await?;
    Ok(name)
}

async fn on_kubernetes() -> Result<()> {
    // Of its own: each backend would also serve the consumers of other tests.
    let name = stack::unique("exports-kubernetes");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let admin = kubernetes.client().await?;
    let base = provider::install(&kubernetes, &name).await?;
    for (informers, isolation) in Settings::flag_pairs() {
        let all = Settings::of(informers, isolation);
        let group = format!("{}.{GROUP}", stack::unique("group"));
        service::establish(&admin, &Exported::all(&group).map(|exported| exported.crd())).await?;
        // Consumers of the pairs before are still there.
        let flags = [all[0].flags().to_vec(), vec![SHARED.to_owned()], base.clone()].concat();
        let mut backend = Backend::start(&stack::unique("exports-kubernetes"), flags).await?;
        for settings in all {
            let consumer = stack::unique("consumer");
            let walked = async {
                let bound = binding::bind(&admin, &Request::new(&consumer, &consumer)).await?;
                let left = walk(&admin, &bound.consumer, settings, &group, None).await?;
                check_left(&left).await
            };
            let walked = walked.await.with_context(|| format!("{settings:?}"));
            walked.map_err(|error| backend.fail(format!("{error:#}")))?;
        }
        backend.stop().await?;
    }
    kubernetes.kill().await
}

/// A provider with CRDs in one workspace, and an admin of that.
async fn one_workspace(name: &str, settings: Settings) -> Result<(Provider, Client)> {
    let [scope, isolation] = settings.flags();
    let provider = Provider::start(name, &[&scope, &isolation, Source::Crds.flag()]).await?;
    let workspace = provider.tenant(name, Claims::All).await?;
    provider.serve(&workspace, Source::Crds).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    Ok((provider, admin))
}

async fn refused() -> Result<()> {
    let (_provider, admin) = one_workspace("exports-refused", Settings::APART).await?;
    let consumer = binding::bind(&admin, &Request::new("refused", "refused")).await?.consumer;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let usage = consumer.take_up("cow", Settings::APART, &cowboys, &["Secret"]).await?;

    let pods = driver::spec(&cowboys, &["Pod"]);
    let outcome = consumer.request_export("pods", &pods).await?;
    let condition =
        object::condition(&outcome.request, "PermissionClaim").context("no condition")?;
    let message = "Resource pods. is not a valid claimable API";
    ensure!(
        outcome.phase == "Failed" && outcome.terminal_message.starts_with(message),
        "{outcome:?}"
    );
    ensure!(
        condition["reason"] == "InvalidPermissionClaim"
            && condition["message"] == outcome.terminal_message,
        "{condition}"
    );

    let unknown = Exported { plural: "horses", kind: "Horse", ..cowboys.clone() };
    let request = consumer.submit("horses", &driver::spec(&unknown, &[])).await?;
    let requests = consumer.kube_bind("APIServiceExportRequest");
    let waiting = object::wait_for(&requests, &request, "the condition", SOON, |request| {
        object::expect_condition(request, "ExportsReady", "False")
    })
    .await?;
    let condition = object::condition(&waiting, "ExportsReady").context("no condition")?;
    ensure!(condition["reason"] == "SchemaNotFound", "{condition}");
    ensure!(waiting.data["status"]["phase"] == "Pending", "{}", object::summary(&waiting));

    // The name is taken, so the CLI's second POST gets another one; the resource is exported already.
    let again = consumer.request_export("cow", &driver::spec(&cowboys, &["Secret"])).await?;
    ensure!(again.name.starts_with("cow-") && again.phase == "Failed", "{again:?}");
    ensure!(!again.terminal_message.is_empty(), "a failure without a message");
    ensure!(consumer.bundle_view().await? == BTreeSet::from(["cow".to_owned()]));
    let now = consumer.export("cow").await?;
    let schema = |export: &driver::Export| export.schemas[0].metadata.clone();
    ensure!(schema(&now) == schema(&usage.export), "a refused request changed the BoundSchema");

    // A CRD that comes later heals what waits for it.
    service::establish(&admin, &[unknown.crd()]).await?;
    consumer.decided(&request, Instant::now()).await?.succeeded()
}

/// Step 12: with policy Always the `BoundSchema` changes first, then the export; with Never nothing does.
async fn changed_schema() -> Result<()> {
    let (_provider, admin) = one_workspace("exports-changed", Settings::APART).await?;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let mut exports = Vec::new();
    for policy in ["Always", "Never"] {
        let name = policy.to_lowercase();
        let consumer = binding::bind(&admin, &Request::new(&name, &name)).await?.consumer;
        let mut spec = driver::spec(&cowboys, &[]);
        spec["schemaUpdatePolicy"] = json!(policy);
        consumer.request_export("cow", &spec).await?.succeeded()?;
        let watches = consumer.open_watches().await?;
        let export = consumer.export("cow").await?;
        consumer.check_acknowledged(&export, &watches).await?;
        exports.push((consumer, watches, export));
    }
    let [(always, watches, before), (never, still, unchanged)] = exports.as_slice() else {
        anyhow::bail!("there are {} exports", exports.len());
    };
    let (mark, still_mark) = (watches.mark(), still.mark());

    let kind = object::crd();
    let crds = object::api(&admin, &kind, None);
    let mut versions = crds.get(&cowboys.name()).await?.data["spec"]["versions"].take();
    let pointer = "/0/schema/openAPIV3Schema/properties/spec/properties";
    let properties = versions.pointer_mut(pointer).context("no spec in the schema")?;
    properties["horse"] = json!({"type": "string"});
    let patch = json!({"spec": {"versions": versions}});
    object::merge_patch(&crds, &cowboys.name(), &patch, false).await?;

    let annotations = &before.object.metadata.annotations;
    watches
        .wait_for(mark, "APIServiceExport", "another hash", SOON, |event| {
            event.object.metadata.annotations != *annotations
        })
        .await?;
    // At the event the konnector reads the schema: it must be the new one.
    let now = always.export("cow").await?;
    now.check(Settings::APART)?;
    let [schema] = now.schemas.as_slice() else { anyhow::bail!("not one schema") };
    let horse = schema.data["spec"]["versions"].to_string().contains("horse");
    ensure!(horse, "the export was changed before its schema");
    ensure!(still.since(still_mark, "APIServiceExport")?.is_empty(), "policy Never: an event");
    let kept = never.export("cow").await?;
    let spec = |export: &driver::Export| export.schemas[0].data["spec"].clone();
    ensure!(spec(&kept) == spec(unchanged), "policy Never: the schema has changed");
    Ok(())
}

/// What lets the second consumer in.
#[derive(Clone, Copy)]
enum Way {
    Flag,
    Removal,
}

/// Two consumers that could read or delete each other's objects: the later one waits, and knows why.
async fn second_waits(isolation: Isolation, claims: &[&'static str], way: Way) -> Result<()> {
    let settings = Settings { informers: Scope::Cluster, isolation, resource: Scope::Namespaced };
    ensure!(settings.refuses_second(!claims.is_empty()), "{settings:?} is served");
    let name = stack::unique("exports-second");
    let (mut provider, admin) = one_workspace(&name, settings).await?;
    let exported = Exported::of(GROUP, settings.resource);

    let first = binding::bind(&admin, &Request::new("first", "first")).await?;
    let usage = first.consumer.take_up("cow", settings, &exported, claims).await?;
    next_second(&admin, first.consumer.namespace()).await?;
    let second = binding::bind(&admin, &Request::new("second", "second")).await?.consumer;
    let begin = Instant::now();
    let request = second.submit("cow", &driver::spec(&exported, claims)).await?;
    let requests = second.kube_bind("APIServiceExportRequest");
    let waiting = object::wait_for(&requests, &request, "the refusal", SOON, |request| {
        object::expect_condition(request, "ExportsReady", "False")
    })
    .await?;
    let condition = object::condition(&waiting, "ExportsReady").context("no condition")?;
    ensure!(condition["reason"] == "SharedClusterScope", "{condition}");
    let message = condition["message"].as_str().unwrap_or_default();
    ensure!(message.contains(SHARED), "the message does not name the flag: {message}");
    ensure!(waiting.data["status"]["phase"] == "Pending", "{}", object::summary(&waiting));
    ensure!(second.bundle_view().await?.is_empty(), "a refused request made an export");
    let mut resources = vec![(exported.group.clone(), exported.plural.to_owned())];
    resources.extend(claims.iter().map(|kind| (String::new(), core(kind).plural)));
    for (group, plural) in resources {
        ensure!(
            !second.may("list", &group, &plural, None).await?,
            "a refused request gave rights to list {plural}.{group}"
        );
    }
    let service = usage.service_namespace("wild-west").await?;
    usage.check_rights_kept(&admin, &[&service]).await.context("the first consumer")?;

    match way {
        Way::Flag => {
            provider.backend.stop().await?;
            let flags = provider.flags.iter().map(String::as_str).chain([SHARED]);
            provider.backend = Backend::start(&format!("{name}-shared"), flags).await?;
        }
        Way::Removal => {
            let namespaces = object::api(&admin, &core("Namespace"), None);
            let contract = first.consumer.namespace();
            namespaces.delete(contract, &DeleteParams::default()).await?;
            object::wait_gone(&namespaces, contract).await?;
        }
    }
    let outcome = second.decided(&request, begin).await?;
    outcome.succeeded().map_err(|error| provider.backend.fail(format!("{error:#}")))
}

/// Waits until a Namespace is a second old: the order of consumers is that of creation times.
async fn next_second(admin: &Client, namespace: &str) -> Result<()> {
    let namespace = object::api(admin, &core("Namespace"), None).get(namespace).await?;
    let created = namespace.metadata.creation_timestamp.context("no creationTimestamp")?;
    wait::eventually("the next second", Duration::from_secs(3), async || {
        let age = jiff::Timestamp::now().as_second() - created.0.as_second();
        if age > 0 { Ok(()) } else { Err(format!("{age} s")) }
    })
    .await
}
