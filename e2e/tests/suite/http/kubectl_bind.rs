//! `kubectl bind` v0.8.1 as far as it talks to the backend: the requests that it sends, in their order, and of the answers
//! no more than it reads (contract http.md 4.3 and 6.2). What it does without looking, this does without looking.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::client;
use e2e::object::{self, kube_bind};
use e2e::site::Visitor;
use e2e::wait::{SOON, eventually};
use kube::config::Kubeconfig;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use url::Url;

/// Where it listens during a login. Nothing does here: what the browser would send there is read from the redirect.
const CALLBACK: &str = "http://127.0.0.1:40123/callback";
/// A token that ends sooner, in seconds, is not shown to the backend.
const LEFT: u64 = 300;

/// One that has logged in: an entry of `~/.kube-bind/config`.
struct KubectlBind {
    http: reqwest::Client,
    url: String,
    cluster: String,
    authorization: String,
}

impl KubectlBind {
    /// `kubectl bind login <address> [--cluster <cluster>]`, with a browser that opens what it is told.
    async fn login(address: &str, cluster: Option<&str>, browser: &Visitor) -> Result<Self> {
        let mut exports = Url::parse(address.strip_suffix('/').unwrap_or(address))?;
        if !exports.path().contains("/api/exports") {
            exports.set_path("/api/exports");
        }
        // Go's own client, whatever the flags say.
        let found = client_named("Go-http-client/1.1")?.get(exports.clone()).send().await?;
        ensure!(found.status() == 200, "{exports}: {}", found.status());
        let found: Value = found.json().await?;
        let methods = found["authenticationMethods"].as_array().context("no methods")?;
        let grant = methods.iter().find(|method| method["method"] == "OAuth2CodeGrant");
        let grant = &grant.context("no OAuth2CodeGrant")?["oauth2CodeGrant"];
        let mut login = Url::parse(grant["authenticatedURL"].as_str().unwrap_or_default())?;

        let mut query: BTreeMap<String, String> = login.query_pairs().into_owned().collect();
        let session = "ABCDEFGHIJKLMNOPQRSTUVWXYZ".to_owned();
        query.extend([
            ("redirect_url".to_owned(), CALLBACK.to_owned()),
            ("session_id".to_owned(), session),
            ("client_type".to_owned(), "cli".to_owned()),
        ]);
        query.extend(cluster.map(|cluster| ("cluster_id".to_owned(), cluster.to_owned())));
        login.query_pairs_mut().clear().extend_pairs(query);
        let started = browser.get(login.as_str()).await?;
        let back = browser.through_issuer(started, "").await?.target()?;

        ensure!(back.as_str().starts_with(CALLBACK), "the browser is sent to {back}");
        let read: BTreeMap<_, _> = back.query_pairs().into_owned().collect();
        let read = |name: &str| read.get(name).cloned().unwrap_or_default();
        if !read("error").is_empty() {
            bail!("authentication failed: {} - {}", read("error"), read("error_description"));
        }
        let expires: u64 = read("expires_in").parse().context("expires_in is no number")?;
        ensure!(expires > LEFT, "the token is refused locally, it ends in {expires} s");
        let kind = Some(read("token_type")).filter(|kind| !kind.is_empty());
        Ok(Self {
            http: client_named("kubectl-bind-cli")?,
            url: exports.origin().ascii_serialization(),
            cluster: read("cluster_id"),
            authorization: format!(
                "{} {}",
                kind.as_deref().unwrap_or("Bearer"),
                read("access_token")
            ),
        })
    }

    /// GET of `templates` or `collections`: the names of the items.
    async fn list(&self, what: &str) -> Result<Vec<String>> {
        let list = self.send(self.http.get(self.api(what)?)).await?;
        let items = list["items"].as_array().context("no items")?;
        let names = items.iter().map(|item| item["metadata"]["name"].as_str());
        names.map(|name| name.map(str::to_owned).context("an item without name")).collect()
    }

    /// What `kubectl bind apiservice --template-name <template>` asks of the backend: gives its answer.
    async fn bind(&self, name: &str, template: &str, identity: &str) -> Result<Value> {
        let body = json!({
            "metadata": {"name": name},
            "spec": {
                "templateRef": {"name": template},
                "clusterIdentity": {"identity": identity},
                "author": "",
            },
            "status": {},
        });
        let request = self.http.post(self.api("bind")?).header(CONTENT_TYPE, "application/json");
        self.send(request.body(body.to_string())).await
    }

    fn api(&self, what: &str) -> Result<Url> {
        let mut url = Url::parse(&format!("{}/api/{what}", self.url))?;
        if !self.cluster.is_empty() {
            url.query_pairs_mut().append_pair("cluster_id", &self.cluster);
        }
        Ok(url)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let request = request.header(AUTHORIZATION, &self.authorization);
        let answer = request.header(ACCEPT, "application/json").send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status == 200, "{status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }
}

fn client_named(name: &str) -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().user_agent(name).build()?)
}

/// What it does with an answer of the backend: creates the request, and waits until that is decided. Gives the phase.
async fn request(answer: &Value) -> Result<Value> {
    let grant = &answer["authentication"]["oauth2CodeGrant"];
    ensure!(!grant.is_null(), "no authentication.oauth2CodeGrant in {answer}");
    let kubeconfig = answer["kubeconfig"].as_str().context("no kubeconfig")?;
    let kubeconfig = String::from_utf8(STANDARD.decode(kubeconfig)?)?;
    let namespace = namespace_of(&kubeconfig)?;
    let provider = client::from_kubeconfig(&kubeconfig, "kubectl-bind").await?;
    let requests = answer["requests"].as_array().context("no requests")?;
    ensure!(requests.len() == 1, "{} requests", requests.len());
    let request = &requests[0];
    ensure!(request["apiVersion"] == "kube-bind.io/v1alpha2", "{request}");
    let kind = kube_bind("APIServiceExportRequest");
    // The credential is good at once: there is no second try.
    let made = object::create(&provider, &kind, Some(&namespace), request.clone()).await?;
    let name = made.metadata.name.context("a request without name")?;
    let api = object::api(&provider, &kind, Some(&namespace));
    let decided = object::wait_for(&api, &name, "the request to be decided", SOON, |now| {
        let phase = &now.data["status"]["phase"];
        let over = phase == "Succeeded" || phase == "Failed";
        over.then_some(()).ok_or_else(|| object::summary(now))
    });
    Ok(decided.await?.data["status"]["phase"].clone())
}

/// The namespace of the current context.
fn namespace_of(kubeconfig: &str) -> Result<String> {
    let config = Kubeconfig::from_yaml(kubeconfig)?;
    let current = config.current_context.context("no current context")?;
    let named = config.contexts.into_iter().find(|context| context.name == current);
    let context = named.and_then(|named| named.context);
    context.and_then(|context| context.namespace).context("no namespace in the context")
}

/// Login, catalogue and bind of the only template on offer; a second bind gets the bytes of the first.
pub(super) async fn binds(base: &str, cluster: Option<&str>, template: &str) -> Result<()> {
    // As people type it: a slash at the end, and a path that is lost.
    for address in [format!("{base}/"), format!("{base}/sub/path")] {
        let cli = KubectlBind::login(&address, cluster, &Visitor::new(base)?).await?;
        ensure!(cli.cluster == cluster.unwrap_or_default(), "cluster {:?}", cli.cluster);
    }
    let cli = KubectlBind::login(base, cluster, &Visitor::new(base)?).await?;
    // At the first start ever, the rights of users come a moment after the backend is ready.
    eventually("the rights of users", SOON, async || cli.list("templates").await).await?;
    for (what, expected) in [("templates", &[template][..]), ("collections", &[])] {
        let found = cli.list(what).await?;
        ensure!(found == expected, "{what}: {found:?}");
    }
    let identity = "9d0c71a5-2f0d-4a4c-8d0c-8a3b8d2c1a10";
    let first = cli.bind("west", template, identity).await?;
    let phase = request(&first).await?;
    ensure!(phase == "Succeeded", "the request is {phase}");
    let second = cli.bind("west", template, identity).await?;
    ensure!(first == second, "a repeated bind differs");
    Ok(())
}
