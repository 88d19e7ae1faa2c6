//! Clients for the servers, each under a user agent that the audit log tells apart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::stack;

/// The user agent of checks and preparations that play no part in the product.
pub const ADMIN: &str = "kube-bind-e2e-admin";

/// How to reach one API server as somebody.
#[derive(Clone)]
pub struct Access {
    /// Base URL, with `/clusters/<cluster>` for kcp.
    pub server: String,
    /// Its CA, PEM in base64 as a kubeconfig has it.
    pub ca: Option<String>,
    /// Bearer token.
    pub token: String,
}

impl Access {
    /// The current context of a kubeconfig that holds a token.
    pub fn from_kubeconfig(text: &str, context: Option<&str>) -> Result<Self> {
        let config: serde_json::Value =
            serde_saphyr::from_str(text).context("the kubeconfig is no YAML")?;
        let named = |list: &str, name: &str, part: &str| {
            let entries = config[list].as_array().into_iter().flatten();
            entries.clone().find(|entry| entry["name"] == name).map(|entry| entry[part].clone())
        };
        let current =
            context.or(config["current-context"].as_str()).context("no current context")?;
        let context = named("contexts", current, "context")
            .with_context(|| format!("no context {current}"))?;
        let cluster = named("clusters", context["cluster"].as_str().unwrap_or_default(), "cluster")
            .context("the context's cluster is missing")?;
        let user = named("users", context["user"].as_str().unwrap_or_default(), "user")
            .context("the context's user is missing")?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Ok(Self {
            server: text(&cluster["server"]).context("no server")?,
            ca: text(&cluster["certificate-authority-data"]),
            token: text(&user["token"]).context("no token")?,
        })
    }

    /// The same person at another URL of the same server.
    #[must_use]
    pub fn at(&self, server: String) -> Self {
        Self { server, ..self.clone() }
    }

    /// Somebody else at the same URL.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// A kubeconfig with the one context `default` (JSON, which is YAML).
    #[must_use]
    pub fn kubeconfig(&self, namespace: Option<&str>) -> String {
        let mut cluster = json!({"server": self.server});
        if let Some(ca) = &self.ca {
            cluster["certificate-authority-data"] = json!(ca);
        }
        let mut context = json!({"cluster": "default", "user": "default"});
        if let Some(namespace) = namespace {
            context["namespace"] = json!(namespace);
        }
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "default",
            "clusters": [{"name": "default", "cluster": cluster}],
            "contexts": [{"name": "default", "context": context}],
            "users": [{"name": "default", "user": {"token": self.token}}],
        })
        .to_string()
    }

    /// Writes [`Access::kubeconfig`] to a file, for a process that takes `--kubeconfig`.
    pub fn write(&self, path: &Path) -> Result<()> {
        // Tests share some of these files: a process that was started with one must never find it half written.
        let draft = path.with_extension(stack::unique("draft"));
        fs::write(&draft, self.kubeconfig(None))
            .and_then(|()| fs::rename(&draft, path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// A client for it.
    pub async fn client(&self, user_agent: &str) -> Result<Client> {
        from_kubeconfig(&self.kubeconfig(None), user_agent).await
    }
}

/// A client for the current context of a kubeconfig.
///
/// Nothing is retried, so that a test sees each 403, 409 and 503 that the server gives.
pub async fn from_kubeconfig(text: &str, user_agent: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(text).context("reading a kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("reading a kubeconfig")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.headers.push((USER_AGENT, HeaderValue::from_str(user_agent)?));
    Client::try_from(config).context("building a client")
}

/// Makes rustls use aws-lc-rs, as the product does. Once per process, before the first client.
pub fn install_crypto() {
    // An error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
