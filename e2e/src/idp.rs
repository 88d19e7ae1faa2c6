//! A real OpenID Connect provider that is not ours: the certified `oidc-provider` of npm (`e2e/web/provider.mjs`).

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::dirs;
use crate::process::free_port;

/// Node has to load the package.
const START: Duration = Duration::from_mins(1);

/// The client that a backend is there.
pub const CLIENT_ID: &str = "kube-bind";
/// Its secret.
pub const CLIENT_SECRET: &str = "secret-of-the-client-in-the-tests";

/// A provider with one confidential client. Everybody can log in, with any password; the groups of everybody are
/// `developers` and `system:masters`. It ends when this is dropped.
#[derive(Debug)]
pub struct IdentityProvider {
    /// Its issuer, `http://127.0.0.1:<port>`.
    pub issuer: String,
    _process: Child,
    _stdin: ChildStdin,
}

impl IdentityProvider {
    /// One that sends browsers back to this URL.
    pub async fn start(callback: &str) -> Result<Self> {
        let script = dirs::project().join("e2e/web/provider.mjs");
        let mut process = Command::new("node")
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting node; run scripts/tools web")?;
        let mut stdin = process.stdin.take().context("no stdin")?;
        let client = json!({
            "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": [callback],
        });
        let first = json!({ "port": free_port()?, "clients": [client] });
        stdin.write_all(format!("{first}\n").as_bytes()).await?;
        let stdout = process.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let line =
            timeout(START, lines.next_line()).await.context("the provider does not start")??;
        let Some(line) = line else { bail!("the provider ended; run scripts/tools web") };
        let said: Value = serde_json::from_str(&line).with_context(|| format!("it said {line}"))?;
        let issuer = said["issuer"].as_str().with_context(|| format!("it said {line}"))?.to_owned();
        Ok(Self { issuer, _process: process, _stdin: stdin })
    }
}
