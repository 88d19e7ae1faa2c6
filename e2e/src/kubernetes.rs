//! A real Kubernetes control plane without nodes: etcd, kube-apiserver, kube-controller-manager. Service account token
//! Secrets, garbage collection, namespace deletion and role aggregation work.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use tokio::sync::Mutex;

use crate::audit::{self, Audit};
use crate::client::{self, Access};
use crate::object;
use crate::process::{Process, Spec, free_port};
use crate::tools;
use crate::wait::eventually;

/// From nothing to ready: 12 s alone on two cores.
const START: Duration = Duration::from_mins(2);
/// The admin's static token. The server listens on 127.0.0.1 only and lives as long as a test run.
const TOKEN: &str = "e2e-admin";

/// A Kubernetes control plane. Dropping it kills its processes.
#[derive(Debug)]
pub struct Kubernetes {
    dir: PathBuf,
    url: String,
    processes: Mutex<Vec<Process>>,
}

impl Kubernetes {
    /// Starts the three processes with data and logs in `dir`, and waits until they work.
    pub async fn start(dir: &Path) -> Result<Self> {
        let (etcd_port, port) = (free_port()?, free_port()?);
        write_inputs(dir)?;
        let etcd = Process::start(&etcd(dir, etcd_port)?).await?;
        let apiserver = Process::start(&apiserver(dir, etcd_port, port)?).await?;
        let url = format!("https://127.0.0.1:{port}");
        let this = Self { dir: dir.to_owned(), url, processes: Mutex::default() };
        let ready = eventually("kube-apiserver to be ready", START, async || {
            let client = this.client().await?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await.map(drop).map_err(anyhow::Error::from)
        });
        tokio::select! {
            ready = ready => ready.map_err(|error| apiserver.fail(error))?,
            why = etcd.ended() => return Err(etcd.fail(why)),
            why = apiserver.ended() => return Err(apiserver.fail(why)),
        }
        this.access()?.write(&dir.join("admin.kubeconfig"))?;
        let manager = Process::start(&controller_manager(dir)?).await?;
        // Each namespace gets its `default` service account from the controller manager.
        let accounts =
            object::api(&this.client().await?, &object::core("ServiceAccount"), Some("default"));
        let ready =
            object::wait_for(&accounts, "default", "the first service account", START, |_| Ok(()));
        tokio::select! {
            ready = ready => ready.map_err(|error| manager.fail(error))?,
            why = manager.ended() => return Err(manager.fail(why)),
        };
        this.processes.lock().await.extend([manager, apiserver, etcd]);
        Ok(this)
    }

    /// Kills all three; nothing of it is needed again.
    pub async fn kill(&self) -> Result<()> {
        for mut process in std::mem::take(&mut *self.processes.lock().await) {
            process.kill().await?;
        }
        Ok(())
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit::new(&self.dir.join("audit.log"))
    }

    /// Access as `system:masters`.
    pub fn access(&self) -> Result<Access> {
        let path = self.dir.join("certs/apiserver.crt");
        let ca = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Access { server: self.url.clone(), ca: Some(STANDARD.encode(ca)), token: TOKEN.into() })
    }

    /// An admin client.
    pub async fn client(&self) -> Result<Client> {
        self.access()?.client(client::ADMIN).await
    }

    /// The path of an admin kubeconfig.
    #[must_use]
    pub fn kubeconfig_file(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }
}

/// Key of the service account tokens, the admin's token, the audit policy.
fn write_inputs(dir: &Path) -> Result<()> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).context("making a key")?;
    let public =
        AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).context("encoding a key")?;
    let private = key.to_pkcs8v1().context("encoding a key")?;
    let pem = |label: &str, der: &[u8]| {
        let body = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    fs::write(dir.join("sa.key"), pem("PRIVATE KEY", private.as_ref()))?;
    fs::write(dir.join("sa.pub"), pem("PUBLIC KEY", public.as_ref()))?;
    fs::write(dir.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    fs::write(dir.join("audit-policy.yaml"), audit::POLICY)?;
    Ok(())
}

fn etcd(dir: &Path, port: u16) -> Result<Spec> {
    let (client, peer) =
        (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
    Ok(Spec::new("etcd", tools::path("etcd")?, dir).args([
        "--data-dir=etcd".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // A test run survives no power failure anyway.
        "--unsafe-no-fsync".to_owned(),
    ]))
}

fn apiserver(dir: &Path, etcd_port: u16, port: u16) -> Result<Spec> {
    Ok(Spec::new("kube-apiserver", tools::path("kube-apiserver")?, dir).args([
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // Nothing reaches the `kubernetes` Service here, and a loopback address would be refused in its endpoints.
        "--endpoint-reconciler-type=none".to_owned(),
        "--cert-dir=certs".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--service-account-key-file=sa.pub".to_owned(),
        "--service-account-signing-key-file=sa.key".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--token-auth-file=tokens.csv".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // It would want an issued token for each Pod; there are none.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--audit-policy-file=audit-policy.yaml".to_owned(),
        "--audit-log-path=audit.log".to_owned(),
        "--audit-log-maxsize=100000".to_owned(),
    ]))
}

fn controller_manager(dir: &Path) -> Result<Spec> {
    const CONTROLLERS: &str = "serviceaccount-token-controller,serviceaccount-controller,namespace-controller,\
        garbage-collector-controller,clusterrole-aggregation-controller,root-ca-certificate-publisher-controller";
    let program = tools::path("kube-controller-manager")?;
    Ok(Spec::new("kube-controller-manager", program, dir).args([
        "--kubeconfig=admin.kubeconfig".to_owned(),
        "--service-account-private-key-file=sa.key".to_owned(),
        "--root-ca-file=certs/apiserver.crt".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        format!("--controllers={CONTROLLERS}"),
    ]))
}
