//! A kcp of two shards with a cache server behind a front proxy: real processes that can be killed one by one.
//!
//! `sharded-test-server` of kcp makes the certificates, the kubeconfigs, the data and the command lines. It ends when
//! a shard ends, and what it started cannot write to its log any more and ends as well. So it is used for the first
//! start only: its processes are ended and started again from here, each with the command line that it had.
//!
//! Its ports are fixed ([`PORTS`]): there is one such kcp on a machine at a time, beside any number of others.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Deref;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::audit::{self, Audit};
use crate::client::{self, Access};
use crate::kcp::Workspaces;
use crate::object::{self, resource};
use crate::process::{Process, Spec};
use crate::tools;
use crate::wait::{SOON, eventually};

/// Front proxy, shards, the etcds of the shards, and the cache server with its own etcd.
pub const PORTS: [u16; 10] = [6443, 6444, 6445, 2379, 2380, 2381, 2382, 8010, 8011, 8012];

/// From nothing to ready: 50 s alone on two cores.
const START: Duration = Duration::from_mins(4);
/// For another run on this machine to end.
const TURN: Duration = Duration::from_mins(8);

const ADMIN: &str = "e2e-kcp-admin-token";
const SHARD_ADMIN: &str = "e2e-shard-admin-token";

/// A user that is no service account: every shard knows it by itself.
pub const USER: &str = "kube-bind-backend";
/// The token of [`USER`].
pub const USER_TOKEN: &str = "e2e-kube-bind-backend-token";

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shard {
    /// The one with the workspace `root`.
    Root,
    /// The other one.
    Second,
}

impl Shard {
    /// Its label `region`, by which a workspace asks for it.
    #[must_use]
    pub fn region(self) -> &'static str {
        // As sharded-test-server labels them.
        match self {
            Self::Root => "us-east-2",
            Self::Second => "us-east-1",
        }
    }

    /// Base URL, of its virtual workspaces too.
    #[must_use]
    pub fn url(self) -> &'static str {
        match self {
            Self::Root => "https://127.0.0.1:6444",
            Self::Second => "https://127.0.0.1:6445",
        }
    }

    fn index(self) -> usize {
        self as usize
    }

    fn dir(self, work: &Path) -> PathBuf {
        work.join(format!(".kcp-{}", self.index()))
    }
}

/// The kcp; as [`Workspaces`] what is reached through the front proxy. Dropping it kills all processes.
#[derive(Debug)]
pub struct Shards {
    workspaces: Workspaces,
    dir: PathBuf,
    ca: String,
    specs: [Spec; 2],
    running: [Mutex<Option<Process>>; 2],
    others: Mutex<Vec<Process>>,
    turn: Mutex<()>,
    _alone: File,
}

impl Deref for Shards {
    type Target = Workspaces;

    fn deref(&self) -> &Workspaces {
        &self.workspaces
    }
}

impl Shards {
    /// Starts it with its data and logs in `dir`, and waits until it is ready.
    pub async fn start(dir: &Path) -> Result<Self> {
        let alone = alone().await?;
        for port in PORTS {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            free.with_context(|| {
                format!("a kcp with two shards needs the fixed ports {PORTS:?}; {port} is taken")
            })?;
        }
        let commands = first_start(dir).await?;
        let command = |name: &str, tool: &str, is: &dyn Fn(&[OsString]) -> bool| -> Result<Spec> {
            let found = commands.iter().find(|command| command[0] == *tool && is(&command[1..]));
            let found = found.with_context(|| format!("sharded-test-server started no {name}"))?;
            Ok(Spec::new(name, tools::path(tool)?, dir).args(found[1..].iter().cloned()))
        };
        let is_second = |args: &[OsString]| args.iter().any(|arg| arg == "--shard-name=shard-1");
        let policy = dir.join("audit-policy.yaml");
        fs::write(&policy, audit::POLICY).context("writing the audit policy")?;
        // Of a repeated flag the last one counts.
        let audited = [
            format!("--audit-policy-file={}", policy.display()),
            "--audit-log-mode=blocking".to_owned(),
            "--audit-log-maxsize=100000".to_owned(),
        ];
        let root = command("kcp-root", "kcp", &|args| !is_second(args))?.args(&audited);
        let second = command("kcp-second", "kcp", &is_second)?.args(&audited);
        let cache = command("cache-server", "cache-server", &|_| true)?;
        let front = command("kcp-front-proxy", "kcp-front-proxy", &|_| true)?;

        let ca = fs::read(dir.join(".kcp/serving-ca.crt")).context("reading the CA")?;
        let ca = STANDARD.encode(ca);
        let url = "https://127.0.0.1:6443";
        let kubeconfig = dir.join("tokens.kubeconfig");
        fs::write(&kubeconfig, admins(url, &ca)).context("writing the kubeconfig of the admins")?;
        let shards = Self {
            workspaces: Workspaces::new(url, dir, kubeconfig),
            dir: dir.to_owned(),
            ca,
            specs: [root, second],
            running: [Mutex::default(), Mutex::default()],
            others: Mutex::default(),
            turn: Mutex::default(),
            _alone: alone,
        };
        shards.others.lock().await.push(Process::start(&cache).await?);
        shards.resume(Shard::Root).await?;
        shards.resume(Shard::Second).await?;
        shards.others.lock().await.push(Process::start(&front).await?);
        eventually("the front proxy to be ready", START, async || {
            let types = resource("tenancy.kcp.io", "v1alpha1", "WorkspaceType", "workspacetypes");
            let client = shards.client("root").await?;
            object::api(&client, &types, None).get("universal").await?;
            anyhow::Ok(())
        })
        .await?;
        Ok(shards)
    }

    /// For one test at a time, since tests kill shards. Those that an earlier one left killed are started again, and
    /// those that hang go on.
    pub async fn turn(&self) -> Result<MutexGuard<'_, ()>> {
        let turn = self.turn.lock().await;
        for shard in [Shard::Root, Shard::Second] {
            if let Some(process) = &*self.running[shard.index()].lock().await {
                process.pause(false).await?;
            }
            if self.running[shard.index()].lock().await.is_none() {
                self.resume(shard).await?;
            }
        }
        Ok(turn)
    }

    /// `kill -9`; its data stays.
    pub async fn kill(&self, shard: Shard) -> Result<()> {
        match self.running[shard.index()].lock().await.take() {
            Some(mut process) => process.kill().await,
            None => bail!("{shard:?} does not run"),
        }
    }

    /// Lets a shard hang (SIGSTOP), or go on: connections are accepted and nothing is answered.
    pub async fn hang(&self, shard: Shard, hangs: bool) -> Result<()> {
        match &*self.running[shard.index()].lock().await {
            Some(process) => process.pause(hangs).await,
            None => bail!("{shard:?} does not run"),
        }
    }

    /// Starts a shard again with the same command line, and waits until it is ready.
    pub async fn resume(&self, shard: Shard) -> Result<()> {
        let mut running = self.running[shard.index()].lock().await;
        let process = &mut *running.insert(Process::start(&self.specs[shard.index()]).await?);
        let ready = eventually("a shard to be ready", START, async || {
            let client = self.access(SHARD_ADMIN, shard.url().to_owned());
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.client(client::ADMIN).await?.request_text(request).await?;
            anyhow::Ok(())
        });
        tokio::select! {
            ready = ready => ready.map_err(|error| process.fail(error)),
            why = process.ended() => Err(process.fail(why)),
        }
    }

    /// An admin client for a logical cluster (no path) that does not need the front proxy nor the other shard.
    pub async fn direct(&self, shard: Shard, cluster: &str) -> Result<Client> {
        let url = format!("{}/clusters/{cluster}", shard.url());
        self.access(ADMIN, url).client(client::ADMIN).await
    }

    /// [`USER`] in a workspace, by path or logical cluster, through the front proxy.
    #[must_use]
    pub fn user(&self, cluster: &str) -> Access {
        self.access(USER_TOKEN, format!("{}/clusters/{cluster}", self.url()))
    }

    fn access(&self, token: &str, server: String) -> Access {
        Access { server, ca: Some(self.ca.clone()), token: token.to_owned() }
    }

    /// The audit log of a shard, requests to its virtual workspaces included.
    #[must_use]
    pub fn audit(&self, shard: Shard) -> Audit {
        Audit::new(&shard.dir(&self.dir).join("audit.log"))
    }

    /// Kills all its processes.
    pub async fn end(&self) -> Result<()> {
        for running in &self.running {
            if let Some(mut process) = running.lock().await.take() {
                process.kill().await?;
            }
        }
        for mut process in self.others.lock().await.drain(..) {
            process.kill().await?;
        }
        Ok(())
    }
}

/// Waits for the turn of this run on the fixed ports; it ends with the file.
async fn alone() -> Result<File> {
    let path = std::env::temp_dir().join("kube-bind-e2e-shards.lock");
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    eventually("another run with two shards to end", TURN, async || match file.try_lock() {
        Ok(()) => Ok(Ok(())),
        Err(TryLockError::WouldBlock) => Err("it holds the ports"),
        Err(TryLockError::Error(error)) => Ok(Err(error)),
    })
    .await??;
    Ok(file)
}

/// Lets `sharded-test-server` make everything in `dir`; gives the command lines of its processes, which have ended.
async fn first_start(dir: &Path) -> Result<Vec<Vec<OsString>>> {
    // Its source looks for this file in the git repository that it runs in, of which it checks no more than the folder.
    let users = dir.join("test/e2e/framework");
    fs::create_dir_all(&users)?;
    fs::create_dir_all(dir.join(".git"))?;
    let text = format!(
        "{ADMIN},kcp-admin,kcp-admin,\"system:kcp:admin\"\n\
         {SHARD_ADMIN},shard-admin,shard-admin,\"system:masters\"\n\
         {USER_TOKEN},{USER},{USER},\"\"\n"
    );
    fs::write(users.join("auth-tokens.csv"), text)?;
    // It finds the servers on PATH.
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    for tool in ["kcp", "cache-server", "kcp-front-proxy"] {
        symlink(tools::path(tool)?, bin.join(tool)).with_context(|| format!("linking {tool}"))?;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path)))?;
    let name = "sharded-test-server";
    let mut spec = Spec::new(name, tools::path(name)?, dir).args([
        "--number-of-shards=2".to_owned(),
        "--quiet".to_owned(),
        format!("--work-dir-path={}", dir.display()),
    ]);
    spec.env.extend([("PATH".to_owned(), path), ("NO_GORUN".to_owned(), "1".into())]);
    let mut process = Process::start(&spec).await?;
    let made = dir.join(".kcp/ready-to-test");
    let ready = eventually("a kcp with two shards", START, async || {
        if made.exists() { Ok(()) } else { Err("not ready to test") }
    });
    tokio::select! {
        ready = ready => ready.map_err(|error| process.fail(error))?,
        why = process.ended() => return Err(process.fail(why)),
    }
    let commands = commands(process.pid())?;
    process.kill().await?;
    eventually("its processes to end", SOON, async || {
        let busy =
            PORTS.iter().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, **port)).is_err());
        busy.map_or(Ok(()), |port| Err(format!("port {port} is taken")))
    })
    .await?;
    Ok(commands)
}

/// The command lines in the process group of `leader`.
fn commands(leader: u32) -> Result<Vec<Vec<OsString>>> {
    let mut commands = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // Other processes come and go meanwhile.
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        // State, parent and group follow the closing parenthesis of the name.
        let group = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2));
        if group == Some(leader.to_string().as_str()) {
            let line = fs::read(process.join("cmdline")).context("a process of it has ended")?;
            let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0);
            commands.push(words.map(|word| OsString::from_vec(word.to_vec())).collect());
        }
    }
    // With sharded-test-server itself.
    ensure!(commands.len() == 5, "it started other processes than expected: {commands:?}");
    Ok(commands)
}

/// A kubeconfig with the contexts of [`Workspaces::new`].
fn admins(url: &str, ca: &str) -> String {
    let cluster = json!({"server": url, "certificate-authority-data": ca});
    let context = |user: &str| json!({"cluster": "front", "user": user});
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "root",
        "clusters": [{"name": "front", "cluster": cluster}],
        "contexts": [
            {"name": "root", "context": context("kcp-admin")},
            {"name": "shard-base", "context": context("shard-admin")},
        ],
        "users": [
            {"name": "kcp-admin", "user": {"token": ADMIN}},
            {"name": "shard-admin", "user": {"token": SHARD_ADMIN}},
        ],
    })
    .to_string()
}
