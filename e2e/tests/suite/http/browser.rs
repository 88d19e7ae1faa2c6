//! People: a real browser, a real identity provider, our page.
//!
//! The screenshots are in the folder of the run, which is kept with `KEEP=1`.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use e2e::client::Access;
use e2e::object::{self, core, kube_bind};
use e2e::provider::PLATFORM;
use e2e::site::Site;
use e2e::web::{Browser, Options};
use e2e::{dirs, manifest, stack};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::flow::offer;
use crate::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("http::people_log_in_bind_and_log_out_in_a_browser", || people().boxed()),
        ("http::kubectl_bind_gets_its_answer_from_the_browser", || assisted().boxed()),
    ]
}

/// Fills in the forms of the identity provider.
async fn log_in(browser: &mut Browser) -> Result<()> {
    browser.fill("User name", "ann").await?;
    browser.fill("Password", "any").await?;
    browser.click("button", "Log in").await?;
    browser.click("button", "Continue").await
}

async fn picture(browser: &mut Browser, name: &str) -> Result<()> {
    browser.screenshot(&dirs::run()?.join(format!("{name}.png"))).await?;
    ensure!(browser.overflow().await? == 0, "{name}: wider than the screen");
    Ok(())
}

/// Whatever the browser complained about of our pages, but for the 401 that says that nobody is logged in.
async fn no_problems(browser: &mut Browser, site: &Site) -> Result<()> {
    let mut problems = browser.problems().await?;
    problems.retain(|problem| problem.text.contains(&site.base) && !problem.text.contains("401"));
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(())
}

async fn people() -> Result<()> {
    let (site, _idp) = Site::start_external("http-browser", PLATFORM).await?;
    let tenant = offer(&site, "http-browser").await?;
    let cluster = tenant.cluster.as_str();
    let mut browser = Browser::start("http-browser", Options::default()).await?;
    browser.goto(&format!("{}/?cluster_id={cluster}", site.base)).await?;
    browser.wait_for("link", "Log in").await?;
    picture(&mut browser, "page-login").await?;
    browser.click("link", "Log in").await?;
    log_in(&mut browser).await?;
    browser.wait_for("heading", "APIs on offer").await?;
    browser.wait_for("button", "Bind sheriffs").await?;
    picture(&mut browser, "page-catalogue").await?;

    let cookies = browser.cookies().await?;
    let own = |cookie: &&Value| {
        cookie["name"].as_str().is_some_and(|name| name == format!("kube-bind-{cluster}"))
    };
    let session = cookies.iter().find(own).with_context(|| format!("{cookies:?}"))?;
    ensure!(session["httpOnly"] == true && session["sameSite"] == "Strict", "{session}");

    browser.fill("Name of the binding of sheriffs", "west").await?;
    browser.click("button", "Bind sheriffs").await?;
    browser.wait_for("heading", "Ready to use").await?;
    picture(&mut browser, "page-result").await?;
    browser.resize(390, 844).await?;
    picture(&mut browser, "page-result-phone").await?;
    let file = dirs::run()?.join("binding.json");
    browser.download("link", "Save binding.json", &file).await?;
    deployed(&std::fs::read_to_string(&file)?).await?;
    let shown = browser.text().await?;
    ensure!(shown.contains("kubectl get sheriffs.wildwest.dev"), "{shown}");

    browser.click("button", "Back to the APIs").await?;
    browser.wait_for("button", "Bind sheriffs").await?;
    picture(&mut browser, "page-catalogue-phone").await?;
    browser.click("button", "Log out").await?;
    browser.wait_for("link", "Log in").await?;
    let cookies = browser.cookies().await?;
    ensure!(!cookies.iter().any(|cookie| own(&cookie)), "{cookies:?}");
    no_problems(&mut browser, &site).await?;
    browser.stop().await
}

/// Applies what the page gave to a consumer's cluster, where the definition of bundles is as the konnector brings it.
async fn deployed(given: &str) -> Result<()> {
    let consumer = stack::kubernetes().await?;
    let client = consumer.client().await?;
    let definition = dirs::project().join("manifests/kube-bind.io_apiservicebindingbundles.yaml");
    manifest::apply(&client, &std::fs::read_to_string(&definition)?, "default").await?;
    object::create_once(
        &client,
        &core("Namespace"),
        None,
        json!({"metadata": {"name": "kube-bind"}}),
    )
    .await?;
    let list: Value = serde_json::from_str(given)?;
    let [secret, bundle] = list["items"].as_array().context("no items")?.as_slice() else {
        bail!("not two objects");
    };
    object::create(&client, &core("Secret"), Some("kube-bind"), secret.clone()).await?;
    let kind = kube_bind("APIServiceBindingBundle");
    let bundle = object::create(&client, &kind, None, bundle.clone()).await?;
    let named = bundle.data["spec"]["kubeconfigSecretRef"].clone();
    let name = secret["metadata"]["name"].clone();
    ensure!(
        named == json!({"name": name, "key": "kubeconfig", "namespace": "kube-bind"}),
        "{named}"
    );
    let secrets = object::api(&client, &core("Secret"), Some("kube-bind"));
    let kept = secrets.get(name.as_str().unwrap_or_default()).await?;
    let kubeconfig = object::secret_text(&kept, "kubeconfig")?;
    let access = Access::from_kubeconfig(&kubeconfig, None)?;
    let kubeconfig: Value = serde_saphyr::from_str(&kubeconfig)?;
    let namespace =
        kubeconfig["contexts"][0]["context"]["namespace"].as_str().context("no namespace")?;
    // It reaches the provider.
    let provider = access.client("konnector").await?;
    let exports = object::api(&provider, &kube_bind("APIServiceExport"), Some(namespace));
    exports.get("west").await?;
    Ok(())
}

/// What waits where `kubectl bind` waits: gives the target of the first request.
async fn waiting(listener: TcpListener) -> Result<String> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut head = vec![0; 64 << 10];
        let read = stream.read(&mut head).await?;
        let head = String::from_utf8_lossy(&head[..read]).into_owned();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        // A browser also asks for an icon.
        if target.starts_with("/callback") {
            return Ok(target.to_owned());
        }
    }
}

async fn assisted() -> Result<()> {
    let (site, _idp) = Site::start_external("http-assisted", PLATFORM).await?;
    let tenant = offer(&site, "http-assisted").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let callback = format!("http://{}/callback", listener.local_addr()?);
    let answered = tokio::spawn(waiting(listener));
    let mut page = Url::parse(&site.base)?;
    page.query_pairs_mut().extend_pairs([
        ("session_id", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("redirect_url", &callback),
        ("cluster_id", &tenant.cluster),
        ("consumer_id", "uid-of-kube-system"),
    ]);
    let mut browser = Browser::start("http-assisted", Options::default()).await?;
    // Where kubectl bind opened the page, the login begins by itself.
    browser.goto(page.as_str()).await?;
    log_in(&mut browser).await?;
    browser.wait_for("button", "Bind sheriffs").await?;
    browser.click("button", "Bind sheriffs").await?;
    let target = answered.await??;
    let target = Url::parse("http://127.0.0.1")?.join(&target)?;
    let parameter = |name: &str| {
        let mut pairs = target.query_pairs();
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    ensure!(parameter("session_id").as_deref() == Some("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "{target}");
    ensure!(parameter("consumer_id").as_deref() == Some("uid-of-kube-system"), "{target}");
    // As kubectl bind v0.8.1 decodes it.
    let response = URL_SAFE.decode(parameter("binding_response").context("no response")?)?;
    let response: Value = serde_json::from_slice(&response)?;
    ensure!(response["kind"] == "BindingResponse", "{}", response["kind"]);
    ensure!(response["authentication"]["oauth2CodeGrant"].is_object(), "no code grant");
    ensure!(response["bindingName"].is_null(), "the request is the client's to make");
    no_problems(&mut browser, &site).await?;
    browser.stop().await
}
