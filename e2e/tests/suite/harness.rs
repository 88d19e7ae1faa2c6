//! The harness itself: if these fail, nothing else means anything.

use e2e::wait::SOON;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{self, Filter};
use e2e::kcp::{Claims, Kcp};
use e2e::object::{self, core, kcp_apis, resource};
use e2e::service::{self, Exported, GROUP, Offer, Scope, Source};
use e2e::{client, dirs, manifest, stack};
use futures::FutureExt as _;
use kube::api::ListParams;
use serde_json::json;

use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("harness::a_workspace_is_created_and_served", || {
            a_workspace_is_created_and_served().boxed()
        }),
        ("harness::requests_of_a_user_agent_are_counted", || {
            requests_of_a_user_agent_are_counted().boxed()
        }),
        ("harness::a_binding_is_bound_with_its_claims", || {
            a_binding_is_bound_with_its_claims().boxed()
        }),
        ("harness::an_api_is_served_in_a_workspace_by_a_binding_of_its_own_or_by_crds", || {
            an_api_is_served().boxed()
        }),
        ("harness::a_killed_kcp_comes_back_with_its_data", || {
            a_killed_kcp_comes_back_with_its_data().boxed()
        }),
        ("harness::kubernetes_fills_a_token_secret", || kubernetes_fills_a_token_secret().boxed()),
        ("harness::a_folder_of_manifests_is_applied", || {
            a_folder_of_manifests_is_applied().boxed()
        }),
    ]
}

async fn a_workspace_is_created_and_served() -> Result<()> {
    let (kcp, workspace) = stack::workspace("served").await?;
    let by_id = kcp.client(&workspace.cluster).await?;
    object::create(
        &by_id,
        &core("ConfigMap"),
        Some("default"),
        json!({"metadata": {"name": "here"}}),
    )
    .await?;
    let by_path = kcp.client(&workspace.path).await?;
    object::api(&by_path, &core("ConfigMap"), Some("default")).get("here").await?;
    Ok(())
}

async fn requests_of_a_user_agent_are_counted() -> Result<()> {
    let (kcp, workspace) = stack::workspace("counted").await?;
    let agent = format!("{}self-test", audit::BACKEND);
    let client = kcp.access(&workspace.cluster)?.client(&agent).await?;
    let maps = object::api(&client, &core("ConfigMap"), Some("default"));
    let (log, filter) = (kcp.audit(), Filter::agent(&agent).cluster(&workspace.cluster));
    let mark = log.mark()?;
    object::create(
        &client,
        &core("ConfigMap"),
        Some("default"),
        json!({"metadata": {"name": "one"}}),
    )
    .await?;
    maps.list(&ListParams::default()).await?;
    maps.get_opt("missing").await?;
    let requests = log.quiet(mark, &filter, Duration::from_secs(1), SOON, |_| false).await?;
    let seen: Vec<_> =
        requests.iter().map(|r| (r.verb.as_str(), r.object.as_str(), r.code)).collect();
    ensure!(
        seen == [
            ("create", "default/one", 201),
            ("list", "default/", 200),
            ("get", "default/missing", 404)
        ],
        "{}",
        audit::listing(&requests)
    );
    ensure!(requests.iter().filter(|request| request.is_write()).count() == 1);
    Ok(())
}

async fn a_binding_is_bound_with_its_claims() -> Result<()> {
    let (kcp, provider) = stack::workspace("provider").await?;
    let client = kcp.client(&provider.cluster).await?;
    let schema = json!({
        "metadata": {"name": "today.widgets.example.org"},
        "spec": {
            "group": "example.org",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"type": "object"}}],
        },
    });
    let schemas = object::schemas();
    object::create(&client, &schemas, None, schema).await?;
    let export = json!({
        "metadata": {"name": "example.org"},
        "spec": {
            "resources": [{"group": "example.org", "name": "widgets",
                "schema": "today.widgets.example.org", "storage": {"crd": {}}}],
            "permissionClaims": [
                {"resource": "configmaps", "verbs": ["*", "get", "list", "watch", "create", "update", "patch", "delete"]},
                {"resource": "secrets", "verbs": ["*", "get", "list"]},
            ],
        },
    });
    object::create(&client, &kcp_apis("APIExport"), None, export).await?;
    for claims in [Claims::All, Claims::Explicit, Claims::Some(&["configmaps"])] {
        let (_, consumer) = stack::workspace("consumer").await?;
        kcp.bind_export(&consumer, &provider.path, "example.org", claims)
            .await
            .with_context(|| format!("{claims:?}"))?;
        let url = kcp.endpoint_url(&provider.path, "example.org").await?;
        let access =
            kcp.access(&consumer.cluster)?.at(format!("{url}/clusters/{}", consumer.cluster));
        let client = access.client(client::ADMIN).await?;
        let maps = object::api(&client, &core("ConfigMap"), Some("default"));
        object::wait_for(&maps, "kube-root-ca.crt", "a claimed ConfigMap", SOON, |_| Ok(()))
            .await?;
        let made = json!({"metadata": {"name": "made"}});
        object::create(&client, &core("ConfigMap"), Some("default"), made)
            .await
            .with_context(|| format!("{claims:?}"))?;
    }
    Ok(())
}

async fn an_api_is_served() -> Result<()> {
    let kcp = stack::kcp().await?;
    let offer = Offer::wild_west(&kcp, "root").await?;
    for source in [Source::Schemas, Source::Schemas, Source::Crds] {
        let (_, tenant) = stack::workspace("served").await?;
        let client = kcp.client(&tenant.cluster).await?;
        if source == Source::Schemas {
            offer.serve(&kcp, &tenant).await?;
            offer.copy_schemas(&kcp, &tenant).await?;
            let labelled = ListParams::default().labels("kube-bind.io/exported=true");
            let schemas = object::schemas();
            let copies = object::api(&client, &schemas, None).list(&labelled).await?;
            let names: Vec<_> =
                copies.items.iter().map(|copy| &copy.data["spec"]["names"]).collect();
            ensure!(names.len() == 2, "{names:?}");
        } else {
            // Again, as tests that share a cluster do.
            let crds = Exported::all(GROUP).map(|resource| resource.crd());
            service::establish(&client, &crds).await?;
            service::establish(&client, &crds).await?;
        }
        for exported in Exported::all(GROUP) {
            let namespace = (exported.scope == Scope::Namespaced).then_some("default");
            let manifest = json!({"metadata": {"name": "one"}, "spec": {"intent": "ride"}});
            object::create(&client, &exported.resource(), namespace, manifest).await?;
            let api = object::api(&client, &exported.resource(), namespace);
            let status = json!({"status": {"result": "gone"}});
            object::merge_patch(&api, "one", &status, true).await?;
            let one = api.get("one").await?;
            let (spec, status) = (&one.data["spec"], &one.data["status"]);
            ensure!(*spec == json!({"intent": "ride"}) && *status == json!({"result": "gone"}));
        }
    }
    Ok(())
}

async fn a_killed_kcp_comes_back_with_its_data() -> Result<()> {
    let kcp = Kcp::start(&dirs::fresh(&stack::unique("kcp"))?).await?;
    let workspace = kcp.create_workspace("root", "kept").await?;
    let maps = async |kcp: &Kcp| -> Result<_> {
        Ok(object::api(&kcp.client(&workspace.cluster).await?, &core("ConfigMap"), Some("default")))
    };
    object::create(
        &kcp.client(&workspace.cluster).await?,
        &core("ConfigMap"),
        Some("default"),
        json!({"metadata": {"name": "kept"}}),
    )
    .await?;
    kcp.kill().await?;
    kcp.resume().await?;
    let maps = maps(&kcp).await?;
    object::wait_for(&maps, "kept", "the ConfigMap after a kill", SOON, |_| Ok(())).await?;
    kcp.stop().await?;
    ensure!(maps.get("kept").await.is_err(), "kcp answers after it was stopped");
    Ok(())
}

async fn kubernetes_fills_a_token_secret() -> Result<()> {
    let kubernetes = stack::kubernetes().await?;
    let client = kubernetes.client().await?;
    let namespace = stack::unique("tokens");
    object::create(&client, &core("Namespace"), None, json!({"metadata": {"name": namespace}}))
        .await?;
    object::create(
        &client,
        &core("ServiceAccount"),
        Some(&namespace),
        json!({"metadata": {"name": "robot"}}),
    )
    .await?;
    let secret = json!({
        "metadata": {"name": "robot", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token",
    });
    object::create(&client, &core("Secret"), Some(&namespace), secret).await?;
    let secrets = object::api(&client, &core("Secret"), Some(&namespace));
    let token = object::wait_for(&secrets, "robot", "a token", SOON, |secret| {
        secret.data["data"]["token"].as_str().map(drop).ok_or_else(|| "no token".to_owned())
    })
    .await?;
    let token = e2e::object::secret_text(&token, "token")?;
    let robot = kubernetes.access()?.with_token(&token).client("robot").await?;
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/api", "verb": "get"}}});
    let reviews = resource(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
    );
    let answer = object::create(&robot, &reviews, None, review).await?;
    ensure!(answer.data["status"]["allowed"] == true, "{}", answer.data);
    Ok(())
}

async fn a_folder_of_manifests_is_applied() -> Result<()> {
    let kubernetes = stack::kubernetes().await?;
    let client = kubernetes.client().await?;
    let dir = dirs::fresh(&stack::unique("manifests"))?;
    std::fs::write(
        dir.join("1.yaml"),
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: applied}
",
    )?;
    std::fs::write(
        dir.join("2.yaml"),
        "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: one}\nspec: {size: 1}\n",
    )?;
    for _ in 0..2 {
        manifest::apply_dir(&client, &dir, "applied").await?;
    }
    let widgets = resource("example.org", "v1", "Widget", "widgets");
    let one = object::api(&client, &widgets, Some("applied")).get("one").await?;
    ensure!(one.data["spec"] == json!({"size": 1}), "{}", one.data);
    Ok(())
}
