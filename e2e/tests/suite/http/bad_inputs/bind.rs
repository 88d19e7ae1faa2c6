//! Rows 36, 37, 39 and 41 to 44: what a bind makes, and what it leaves alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::audit::{Mark, listing};
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, core, kube_bind};
use e2e::provider::PLATFORM;
use e2e::site::{Answer, Site, bind_body};
use e2e::stack;
use e2e::wait::{GONE, SOON, eventually};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::Client;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::forged::parts;
use super::raw;
use super::scene::{at, bind, field, namespaces_of, offer, scene, visitor};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::36_a_consumer_whose_name_another_has_gets_nothing_of_it", || {
            collision().boxed()
        }),
        ("http::bad::37_a_namespace_of_somebody_else_is_left_alone", || squatters().boxed()),
        ("http::bad::39_a_template_that_is_unknown_or_denied_leaves_no_namespace", || {
            templates().boxed()
        }),
        ("http::bad::41_a_hundred_binds_at_once_make_one_consumer", || crowd().boxed()),
        ("http::bad::42_binds_in_many_workspaces_never_mix_their_clusters", || mixed().boxed()),
        ("http::bad::43_a_client_that_hangs_up_leaves_nothing_half_made", || gone().boxed()),
        ("http::bad::44_a_kubeconfig_leads_to_its_own_namespace_only", || kubeconfig().boxed()),
    ]
}

/// The kubeconfig of an answer.
pub(super) fn kubeconfig_of(answer: &Answer) -> Result<String> {
    Ok(String::from_utf8(STANDARD.decode(field(answer, "kubeconfig")?)?)?)
}

/// Of two identities whose hashes are equal, the first has the namespace. No two such identities are known, so the
/// first is a namespace that is the backend's own in everything and says another identity.
async fn collision() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(36, &scene.open, "ann36").await?;
    let name = field(&bind(&cli, &scene.open, "id-36").await?, "providerNamespace")?;
    let original = object::api(&scene.admin(&scene.open).await?, &core("Namespace"), None);
    let mut first = original.get(&name).await?.metadata.annotations.unwrap_or_default();
    first.retain(|key, _| key.starts_with("backend.kube-bind.io/"));
    let said = first.insert("backend.kube-bind.io/identity".to_owned(), "id-36-first".to_owned());
    ensure!(said.as_deref() == Some("id-36"), "the namespace says the identity {said:?}");
    let mut labels = original.get(&name).await?.metadata.labels.unwrap_or_default();
    labels.retain(|key, _| key.starts_with("backend.kube-bind.io/"));
    ensure!(!labels.is_empty(), "namespaces of the backend have no label");
    let metadata = json!({"name": name, "annotations": first, "labels": labels});
    stays_as_it_is(36, "id-36", &metadata).await
}

async fn squatters() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(37, &scene.open, "ann37").await?;
    for (identity, annotations) in [
        ("id-37-foreign", json!({"backend.kube-bind.io/identity": "somebody-else"})),
        ("id-37-unlabelled", json!({"backend.kube-bind.io/identity": "id-37-unlabelled"})),
        ("id-37-legacy", json!({"example-backend.kube-bind.io/identity": "id-37-legacy"})),
        ("id-37-bare", json!({})),
    ] {
        // The name is made of the identity alone, so another workspace tells it.
        let name = field(&bind(&cli, &scene.open, identity).await?, "providerNamespace")?;
        stays_as_it_is(37, identity, &json!({"name": name, "annotations": annotations})).await?;
    }
    Ok(())
}

/// Makes a namespace of the name that the identity has; a bind is refused, and nothing is written in it.
async fn stays_as_it_is(row: u8, identity: &str, metadata: &Value) -> Result<()> {
    let scene = scene().await?;
    let here = scene.cli(row, &scene.strict, "ann").await?;
    let admin = scene.admin(&scene.strict).await?;
    let namespaces = object::api(&admin, &core("Namespace"), None);
    let name = metadata["name"].as_str().context("no name")?;
    object::create(&admin, &core("Namespace"), None, json!({"metadata": metadata})).await?;
    let mark = scene.site.provider.kcp.audit().mark()?;
    let answer = bind(&here, &scene.strict, identity).await?;
    ensure!(answer.status == 409, "{identity}: {answer:?}");
    ensure!(answer.body.contains(name), "{answer:?}");
    let after = namespaces.get(name).await?.metadata;
    for (field, after) in [("annotations", after.annotations), ("labels", after.labels)] {
        let after = after.unwrap_or_default();
        for (key, value) in metadata[field].as_object().into_iter().flatten() {
            ensure!(after.get(key).map(String::as_str) == value.as_str(), "{key}: {after:?}");
        }
    }
    for kind in ["ServiceAccount", "Secret"] {
        let inside = object::list(&object::api(&admin, &core(kind), Some(name))).await?;
        let mut names = inside.iter().filter_map(|object| object.metadata.name.as_deref());
        ensure!(names.all(|name| name == "default"), "{identity}: {kind} {inside:?}");
    }
    // Until its watch tells it, the backend may try to create the namespace; that is refused.
    let mut written = scene.done(mark, &scene.strict, name)?;
    written.retain(|request| request.is_write() && request.code != 409);
    ensure!(written.is_empty(), "{}", listing(&written));
    Ok(())
}

async fn templates() -> Result<()> {
    let scene = scene().await?;
    let admin = scene.admin(&scene.strict).await?;
    let (ann, lim) =
        (scene.cli(39, &scene.strict, "ann").await?, scene.cli(39, &scene.strict, "lim").await?);
    let path = at("bind", &scene.strict);
    for (cli, template, status) in
        [(&ann, "unknown", 404), (&lim, "unknown", 403), (&lim, "cows", 403)]
    {
        for identity in ["id-39", "ui-identity"] {
            let answer = cli.post(&path, &bind_body("west", template, identity)).await?;
            ensure!(answer.status == status, "{template}: {answer:?}");
        }
    }
    let own = format!("{}/oidc/", scene.site.base);
    for identity in ["id-39".to_owned(), format!("{own}ann"), format!("{own}lim")] {
        let left = namespaces_of(&admin, &identity).await?;
        ensure!(left.is_empty(), "{identity}: {left:?}");
    }
    let allowed = lim.post(&path, &bind_body("west", "sheriffs", "id-39-lim")).await?;
    ensure!(allowed.status == 200, "{allowed:?}");
    Ok(())
}

async fn crowd() -> Result<()> {
    let scene = scene().await?;
    let admin = scene.admin(&scene.open).await?;
    let cli = scene.cli(41, &scene.open, "ann41").await?;
    let binds = (0..100).map(|_| bind(&cli, &scene.open, "id-41"));
    let answers = futures::future::try_join_all(binds).await?;
    let bodies: BTreeSet<(u16, String)> =
        answers.iter().map(|answer| (answer.status, answer.body.clone())).collect();
    ensure!(
        bodies.len() == 1 && answers[0].status == 200,
        "{} answers: {:?}",
        bodies.len(),
        answers[0]
    );
    let namespaces = namespaces_of(&admin, "id-41").await?;
    let [namespace] = &namespaces[..] else { anyhow::bail!("{namespaces:?}") };
    let done = scene.done(Mark::START, &scene.open, namespace)?;
    for resource in ["namespaces.core", "serviceaccounts.core"] {
        let made =
            done.iter().filter(|request| request.resource == resource && request.verb == "create");
        ensure!(made.count() == 1, "{resource}:\n{}", listing(&done));
    }
    Ok(())
}

async fn mixed() -> Result<()> {
    let kcp = stack::kcp().await?;
    let address = format!("--external-address={}", kcp.url());
    let flags: Vec<&str> = PLATFORM.iter().copied().chain([address.as_str()]).collect();
    let site = &Site::start("bad-mixed", &flags).await?;
    let tenants: Vec<Workspace> = stream::iter(0..20)
        .map(async |_| {
            let tenant = site.provider.tenant("bad-mixed", Claims::All).await?;
            offer(&kcp.client(&tenant.cluster).await?).await?;
            Ok::<_, anyhow::Error>(tenant)
        })
        .buffer_unordered(5)
        .try_collect()
        .await?;
    let mut clients = Vec::new();
    for (user, tenant) in (1..).zip(&tenants) {
        let cli = visitor(site, user)?.login_cli(&tenant.cluster, &format!("user=u{user}")).await?;
        clients.push((cli, tenant));
    }
    // Neighbours in the list of binds are of different workspaces. A busy kcp may need more than the minute that a request
    // has; who is told to try again does, and gets what was begun.
    let binds = (0..10).flat_map(|consumer| {
        clients.iter().map(move |(cli, tenant)| async move {
            let identity = format!("id-{consumer}");
            let answer = eventually("a bind that ends in time", GONE, async || {
                let answer = bind(cli, tenant, &identity).await?;
                ensure!(![503, 504].contains(&answer.status), "{answer:?}");
                Ok(answer)
            });
            Ok::<_, anyhow::Error>((tenant, answer.await?))
        })
    });
    let answers = futures::future::try_join_all(binds).await?;
    ensure!(answers.len() == 200);
    for (tenant, answer) in answers {
        let config: Value = serde_saphyr::from_str(&kubeconfig_of(&answer)?)?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().context("no server")?;
        let own = format!("{}/clusters/{}", kcp.url(), tenant.cluster);
        ensure!(server == own, "{server} instead of {own}");
        let token = config["users"][0]["user"]["token"].as_str().context("no token")?;
        let (_, claims) = parts(token)?;
        let cluster = &claims["kubernetes.io/serviceaccount/clusterName"];
        let of = cluster.as_str().or(claims["kubernetes.io"]["clusterName"].as_str());
        ensure!(of == Some(&tenant.cluster), "a token of {of:?} in {}: {claims}", tenant.cluster);
    }
    Ok(())
}

/// Everything that a bind makes.
async fn complete(admin: &Client, namespace: &str) -> Result<(), String> {
    let kinds = [
        (core("ServiceAccount"), "kube-binder"),
        (core("Secret"), "kube-binder"),
        (core("Secret"), "kubeconfig"),
        (object::rbac("RoleBinding"), "kube-binder"),
        (kube_bind("ClusterBinding"), "cluster"),
    ];
    for (kind, name) in kinds {
        let found = object::api(admin, &kind, Some(namespace)).get_opt(name).await;
        if found.map_err(|error| error.to_string())?.is_none() {
            return Err(format!("no {} {name}", kind.kind));
        }
    }
    Ok(())
}

async fn gone() -> Result<()> {
    let scene = scene().await?;
    let admin = scene.admin(&scene.open).await?;
    let cli = scene.cli(43, &scene.open, "ann43").await?;
    let token = format!("Authorization: Bearer {}", cli.token().context("no token")?);
    let mut begun = 0;
    for pause in [0, 5, 20, 50, 100, 2000] {
        let identity = format!("id-43-{pause}");
        let body = bind_body("west", "sheriffs", &identity).to_string();
        let line = format!("POST {}", at("bind", &scene.open));
        let headers = [token.as_str(), "Content-Type: application/json"];
        let request = raw::request(&scene.site, &line, &headers, &body)?;
        let mut stream = TcpStream::connect(raw::address(&scene.site)?).await?;
        stream.write_all(request.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        drop(stream);
        // It was begun or not; what was begun is brought to its end without the client.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let [namespace] = &namespaces_of(&admin, &identity).await?[..] {
            begun += 1;
            eventually("a bind without its client to end", SOON, || complete(&admin, namespace))
                .await?;
        }
        field(&bind(&cli, &scene.open, &identity).await?, "kubeconfig")?;
    }
    ensure!(begun > 0, "no bind was begun before its client had gone");
    Ok(())
}

async fn kubeconfig() -> Result<()> {
    let scene = scene().await?;
    let cli = scene.cli(44, &scene.open, "ann44").await?;
    let answer = bind(&cli, &scene.open, "id-44").await?;
    let namespace = field(&answer, "providerNamespace")?;
    let config: Value = serde_saphyr::from_str(&kubeconfig_of(&answer)?)?;
    for list in ["contexts", "clusters", "users"] {
        let length = config[list].as_array().map(Vec::len);
        ensure!(length == Some(1), "{length:?} {list}");
    }
    let context = &config["contexts"][0]["context"];
    ensure!(config["current-context"] == config["contexts"][0]["name"], "another context");
    ensure!(context["namespace"] == namespace.as_str(), "namespace {}", context["namespace"]);
    let cluster = &config["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().unwrap_or_default();
    ensure!(server.starts_with("https://") && server.ends_with(&scene.open.cluster), "{server}");
    let ca = STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap_or_default())?;
    ensure!(ca.starts_with(b"-----BEGIN CERTIFICATE-----"), "no CA");
    let keys: Vec<&String> = cluster.as_object().into_iter().flat_map(|map| map.keys()).collect();
    ensure!(keys.len() == 2, "{keys:?}");
    let user = config["users"][0]["user"].as_object().context("no user")?;
    ensure!(user.keys().collect::<Vec<_>>() == ["token"], "{:?}", user.keys());
    let (_, claims) = parts(user["token"].as_str().context("no token")?)?;
    let in_namespace = &claims["kubernetes.io/serviceaccount/namespace"];
    ensure!(*in_namespace == json!(namespace), "a token of {in_namespace}");
    Ok(())
}
