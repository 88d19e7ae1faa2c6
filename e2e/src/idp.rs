//! A real OpenID Connect provider that is not ours: the certified `oidc-provider` of npm (`e2e/web/provider.mjs`).

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::process::free_port;
use crate::stack;
use crate::web::Program;

/// The client that a backend is there.
pub const CLIENT_ID: &str = "kube-bind";
/// Its secret.
pub const CLIENT_SECRET: &str = "secret-of-the-client-in-the-tests";

/// How ID tokens are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with P-256.
    #[default]
    Es256,
    /// RSA with 2048 bits.
    Rs256,
}

/// What a provider is like, beside its one client.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Claims by user name: `{"jane": {"email": .., "groups": [..]}}`. Whoever is not listed has the groups `developers`
    /// and `system:masters`.
    pub accounts: Option<Value>,
    /// How ID tokens are signed.
    pub algorithm: Algorithm,
    /// PEM files with certificate and key for 127.0.0.1; without them it serves plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A provider with one confidential client. Everybody can log in, with any password. Dropping it kills the process.
#[derive(Debug)]
pub struct IdentityProvider {
    /// Its issuer, `http://127.0.0.1:<port>` or `https://127.0.0.1:<port>`.
    pub issuer: String,
    name: String,
    first: Value,
    program: Program,
}

impl IdentityProvider {
    /// One that sends browsers back to this URL.
    pub async fn start(callback: &str) -> Result<Self> {
        Self::start_with(callback, &Settings::default()).await
    }

    /// The same with settings.
    pub async fn start_with(callback: &str, settings: &Settings) -> Result<Self> {
        let client = json!({
            "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": [callback],
        });
        let alg = match settings.algorithm {
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
        };
        let mut first = json!({ "port": free_port()?, "clients": [client], "alg": alg });
        if let Some(accounts) = &settings.accounts {
            first["accounts"] = accounts.clone();
        }
        if let Some((cert, key)) = &settings.tls {
            first["tls"] = json!({ "cert": cert, "key": key });
        }
        let name = stack::unique("identity-provider");
        let (program, issuer) = serve(&name, &first).await?;
        Ok(Self { issuer, name, first, program })
    }

    /// Ends it.
    pub async fn stop(&mut self) -> Result<()> {
        self.program.stop().await
    }

    /// Starts it again after [`IdentityProvider::stop`]: the same issuer with new keys, to which nobody is logged in.
    pub async fn restart(&mut self) -> Result<()> {
        (self.program, self.issuer) = serve(&self.name, &self.first).await?;
        Ok(())
    }
}

async fn serve(name: &str, first: &Value) -> Result<(Program, String)> {
    let (program, answer) = Program::start(name, "provider.mjs", &[], first).await?;
    let issuer = answer["issuer"].as_str().with_context(|| format!("it said {answer}"));
    let issuer = issuer.map_err(|error| program.fail(error))?.to_owned();
    Ok((program, issuer))
}
