//! Row 24: cookies where there is TLS.

use anyhow::{Context as _, Result, ensure};
use e2e::process::free_port;
use e2e::provider::Provider;
use e2e::site::{Site, Visitor, embedded};
use e2e::stack;
use futures::FutureExt as _;
use tokio::sync::OnceCell;

use super::raw;
use super::scene::{cookie, visitor};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![("http::bad::24_with_tls_cookies_are_bound_to_it_and_none_is_set_without", || {
        cookies().boxed()
    })]
}

static SITE: OnceCell<Site> = OnceCell::const_new();

/// A site that speaks TLS with the certificate of kcp, which is for 127.0.0.1 too. Its visitors believe any.
pub(super) async fn site() -> Result<&'static Site> {
    SITE.get_or_try_init(start).await
}

async fn start() -> Result<Site> {
    let kcp = stack::kcp().await?;
    let port = free_port()?;
    let certificate = kcp.certificate();
    let mut flags: Vec<String> =
        embedded(port).into_iter().map(|flag| flag.replace("http://", "https://")).collect();
    flags.push(format!("--tls-cert-file={}", certificate.display()));
    flags.push(format!("--tls-key-file={}", certificate.with_extension("key").display()));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let provider = Provider::start_on(kcp, "bad-tls", &flags).await?;
    Ok(Site { provider, base: format!("https://127.0.0.1:{port}") })
}

async fn cookies() -> Result<()> {
    let site = site().await?;
    let plain = raw::request(site, "GET /api/authorize?redirect_url=x&session_id=s", &[], "")?;
    let answer = raw::send(raw::address(site)?, plain.as_bytes()).await?;
    let text = answer.text.to_ascii_lowercase();
    ensure!(answer.status == 0 && answer.closed && !text.contains("cookie"), "{answer:?}");

    let visitor: Visitor = visitor(site, 24)?;
    let end = visitor.login("nowhere", "").await?;
    let (_, session) = cookie(&end, "-nowhere").context("no session cookie")?;
    ensure!(session.starts_with("__Host-kube-bind-nowhere="), "{session}");
    let attributes: Vec<&str> = session.split("; ").skip(1).collect();
    for needed in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
        ensure!(attributes.contains(&needed), "no {needed}: {attributes:?}");
    }
    ensure!(!attributes.iter().any(|attribute| attribute.starts_with("Domain")), "{attributes:?}");
    let hsts = end.header("strict-transport-security").collect::<Vec<_>>();
    ensure!(hsts == ["max-age=31536000"], "{hsts:?}");

    let page = format!("{}/", site.base);
    let started = super::scene::begin(&visitor, &page, "nowhere").await?;
    let (_, login) = cookie(&started, ".login").context("no login cookie")?;
    ensure!(login.starts_with("__Host-kube-bind.login=") && login.contains("; Secure"), "{login}");
    ensure!(login.contains("; SameSite=Lax"), "{login}");
    Ok(())
}
