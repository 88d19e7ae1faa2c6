//! A backend with its HTTP API, and visitors that come to it as browsers and `kubectl bind` do.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use reqwest::header::{AUTHORIZATION, HOST, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use url::Url;

use crate::idp::{self, IdentityProvider};
use crate::kcp::Kcp;
use crate::process::free_port;
use crate::provider::Provider;
use crate::stack;

/// Where `kubectl bind` would listen. Nobody does: what would come there is read off the redirect.
pub const CLI_CALLBACK: &str = "http://127.0.0.1:54321/callback";

/// A provider on kcp whose backend serves the HTTP API with the embedded issuer.
#[derive(Debug)]
pub struct Site {
    /// What is behind it.
    pub provider: Provider,
    /// Where it is reached, `http://127.0.0.1:<port>`.
    pub base: String,
}

/// The flags of the HTTP API with the embedded issuer at a port.
#[must_use]
pub fn embedded(port: u16) -> Vec<String> {
    vec![
        "--frontend-disabled=false".to_owned(),
        format!("--listen-address=127.0.0.1:{port}"),
        "--admin-address=127.0.0.1:0".to_owned(),
        "--oidc-type=embedded".to_owned(),
        format!("--oidc-issuer-url=http://127.0.0.1:{port}/oidc"),
        format!("--oidc-callback-url=http://127.0.0.1:{port}/api/callback"),
    ]
}

impl Site {
    /// A provider of its own in the shared kcp, with these flags added.
    pub async fn start(name: &str, flags: &[&str]) -> Result<Self> {
        Self::start_on(stack::kcp().await?, name, flags).await
    }

    /// The same in a given kcp.
    pub async fn start_on(kcp: Arc<Kcp>, name: &str, flags: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let all = embedded(port);
        let all: Vec<&str> = all.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let provider = Provider::start_on(kcp, name, &all).await?;
        Ok(Self { provider, base: format!("http://127.0.0.1:{port}") })
    }

    /// The same with a real identity provider that is not ours; whoever logs in there may bind.
    pub async fn start_external(name: &str, flags: &[&str]) -> Result<(Self, IdentityProvider)> {
        let port = free_port()?;
        let base = format!("http://127.0.0.1:{port}");
        let callback = format!("{base}/api/callback");
        let idp = IdentityProvider::start(&callback).await?;
        let all = [
            "--frontend-disabled=false".to_owned(),
            format!("--listen-address=127.0.0.1:{port}"),
            "--admin-address=127.0.0.1:0".to_owned(),
            format!("--oidc-issuer-url={}", idp.issuer),
            format!("--oidc-callback-url={callback}"),
            format!("--oidc-issuer-client-id={}", idp::CLIENT_ID),
            format!("--oidc-issuer-client-secret={}", idp::CLIENT_SECRET),
            "--oidc-allowed-groups=developers".to_owned(),
        ];
        let all: Vec<&str> = all.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let provider = Provider::start_on(stack::kcp().await?, name, &all).await?;
        Ok((Self { provider, base }, idp))
    }

    /// Somebody new, without cookies.
    pub fn visitor(&self) -> Result<Visitor> {
        Visitor::new(&self.base)
    }
}

/// A browser without a page, or `kubectl bind`: keeps cookies, follows no redirect by itself.
#[derive(Debug, Clone)]
pub struct Visitor {
    base: Url,
    client: Client,
    token: Option<String>,
}

/// What an answer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
    /// `Location`.
    pub location: Option<String>,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Answer {
    async fn of(response: Response) -> Result<Self> {
        let status = response.status().as_u16();
        let headers: Vec<(String, String)> = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let location = headers.iter().find(|(name, _)| *name == LOCATION.as_str());
        let location = location.map(|(_, value)| value.clone());
        Ok(Self { status, body: response.text().await?, location, headers })
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {self:?}"))
    }

    /// All values of a header.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// Where it leads, as a URL.
    pub fn target(&self) -> Result<Url> {
        let location = self.location.as_ref().with_context(|| format!("no redirect: {self:?}"))?;
        Url::parse(location).with_context(|| format!("no URL: {location}"))
    }

    /// A query parameter of where it leads.
    pub fn parameter(&self, name: &str) -> Result<Option<String>> {
        let target = self.target()?;
        let mut pairs = target.query_pairs();
        Ok(pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()))
    }
}

impl Visitor {
    /// Of the server at this address.
    pub fn new(base: &str) -> Result<Self> {
        Self::from(base, Ipv4Addr::UNSPECIFIED)
    }

    /// One that comes from an address of this machine.
    pub fn from(base: &str, address: Ipv4Addr) -> Result<Self> {
        let client = Client::builder()
            .cookie_store(true)
            .redirect(Policy::none())
            .local_address(IpAddr::from(address))
            // Who the server is does not matter here: nobody else listens at its port.
            .tls_danger_accept_invalid_certs(base.starts_with("https://"))
            .build()?;
        Ok(Self { base: Url::parse(base)?, client, token: None })
    }

    /// The same, showing this token, and without the cookies.
    pub fn with_token(&self, token: &str) -> Result<Self> {
        let mut other = Self::new(self.base.as_str())?;
        other.token = Some(token.to_owned());
        Ok(other)
    }

    /// The token that it shows.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A request to a path (or a whole URL), with what a page of ours would add.
    pub fn request(&self, method: &Method, path: &str) -> Result<RequestBuilder> {
        let url = self.base.join(path)?;
        let mut request = self.client.request(method.clone(), url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        } else if *method != Method::GET {
            request = request.header("sec-fetch-site", "same-origin");
        }
        Ok(request)
    }

    /// Sends a request.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        Answer::of(request.send().await?).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(&Method::GET, path)?).await
    }

    /// GET under another name of the server.
    pub async fn get_as(&self, path: &str, host: &str) -> Result<Answer> {
        self.send(self.request(&Method::GET, path)?.header(HOST, host)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(&Method::POST, path)?.json(body)).await
    }

    /// Begins a login: the answer of `/api/authorize`.
    pub async fn authorize(&self, parameters: &[(&str, &str)]) -> Result<Answer> {
        let mut url = self.base.join("/api/authorize")?;
        url.query_pairs_mut().extend_pairs(parameters);
        self.get(url.as_str()).await
    }

    /// Follows redirects that stay at the server, the first `most` of them.
    pub async fn follow(&self, mut answer: Answer, most: usize) -> Result<Answer> {
        for _ in 0..most {
            if answer.status != StatusCode::FOUND.as_u16() {
                break;
            }
            let target = self.base.join(answer.location.as_deref().unwrap_or_default())?;
            if target.origin() != self.base.origin() {
                break;
            }
            answer = self.get(target.as_str()).await?;
        }
        Ok(answer)
    }

    /// Logs in as the page does; gives the answer of the callback, which leads back to the page. `user` are parameters of
    /// the embedded issuer's knobs, such as `user=ann&groups=a,b`.
    pub async fn login(&self, cluster: &str, user: &str) -> Result<Answer> {
        let page = self.base.join("/")?;
        let started = self
            .authorize(&[
                ("redirect_url", page.as_str()),
                ("session_id", "s1"),
                ("client_type", "ui"),
                ("cluster_id", cluster),
            ])
            .await?;
        self.through_issuer(started, user).await
    }

    /// From the answer of `/api/authorize` through the embedded issuer to the answer of the callback.
    pub async fn through_issuer(&self, started: Answer, user: &str) -> Result<Answer> {
        ensure!(started.status == 302, "no login: {started:?}");
        let mut issuer = started.target()?;
        if !user.is_empty() {
            let query = issuer.query().unwrap_or_default().to_owned();
            issuer.set_query(Some(&format!("{query}&{user}")));
        }
        let back = self.get(issuer.as_str()).await?;
        ensure!(back.status == 302, "the issuer did not send back: {back:?}");
        self.get(back.target()?.as_str()).await
    }

    /// From the answer of `/api/authorize` through the forms of a real identity provider, to where the browser comes back
    /// to us: the URL of the callback, which nobody has called yet.
    pub async fn through_forms(&self, started: &Answer, user: &str) -> Result<Url> {
        let mut at = started.target()?;
        let issuer = at.clone();
        for _ in 0..FORMS {
            let mut answer = self.get(at.as_str()).await?;
            if answer.status == 200 {
                let action = quoted(&answer.body, "action=").context("a page without a form")?;
                let sent: &[(&str, &str)] = if answer.body.contains("name=\"login\"") {
                    &[("login", user), ("password", "any")]
                } else {
                    &[("decision", "continue")]
                };
                let request = self.client.post(at.join(action)?).form(sent);
                answer = self.send(request).await?;
            }
            let location = answer.location.as_deref();
            let location =
                location.with_context(|| format!("neither form nor redirect: {answer:?}"))?;
            at = at.join(location)?;
            if at.origin() != issuer.origin() {
                return Ok(at);
            }
        }
        anyhow::bail!("the identity provider leads nowhere; last to {at}")
    }

    /// Logs in as `kubectl bind login` does; gives a visitor that shows the token.
    pub async fn login_cli(&self, cluster: &str, user: &str) -> Result<Self> {
        let mut parameters =
            vec![("redirect_url", CLI_CALLBACK), ("session_id", "s1"), ("client_type", "cli")];
        if !cluster.is_empty() {
            parameters.push(("cluster_id", cluster));
        }
        let started = self.authorize(&parameters).await?;
        let end = self.through_issuer(started, user).await?;
        let token = end.parameter("access_token")?;
        self.with_token(&token.with_context(|| format!("no token: {end:?}"))?)
    }
}

/// Steps of a login at an identity provider, at most.
const FORMS: usize = 12;

/// The value of an attribute.
fn quoted<'a>(html: &'a str, attribute: &str) -> Option<&'a str> {
    html.split_once(&format!("{attribute}\""))?.1.split_once('"').map(|(value, _)| value)
}

/// The body of a bind as `kubectl bind` sends it.
#[must_use]
pub fn bind_body(name: &str, template: &str, identity: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "templateRef": {"name": template},
            "clusterIdentity": {"identity": identity},
            "author": "",
        },
        "status": {},
    })
}
