//! The backend under test as a child process.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::dirs;
use crate::process::{Process, Spec};
use crate::wait::eventually;

/// From start to `/readyz`.
const START: Duration = Duration::from_mins(1);
/// For the end after SIGTERM: requests in flight are finished, for which the HTTP API has 12 s.
const STOP: Duration = Duration::from_secs(30);
/// For a run that ends by itself: `backend init` waits for kcp several times.
const RUN: Duration = Duration::from_mins(5);
/// For an HTTP answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What is tested.
const PRODUCT: &str = "backend";
/// The same, with an embedded issuer that does wrong on demand: for backends that run with it.
const WITH_KNOBS: &str = "backend-with-issuer-knobs";

/// A backend. Dropping it kills the process.
#[derive(Debug)]
pub struct Backend {
    spec: Spec,
    process: Process,
    address: SocketAddr,
}

impl Backend {
    /// The binary, for those who run it as a person would.
    pub fn program() -> Result<PathBuf> {
        binary(PRODUCT)
    }

    /// Starts a backend with these flags on a port of its choice, and waits for `/readyz`.
    ///
    /// `name` names its log, `<name>.log` in the folder of the run, which must be given to one backend only.
    pub async fn start<A: Into<OsString>>(
        name: &str,
        flags: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let backend = Self::launch(name, flags).await?;
        backend.ready().await?;
        Ok(backend)
    }

    /// As [`Backend::start`], with variables in its environment.
    pub async fn start_with<A: Into<OsString>>(
        name: &str,
        flags: impl IntoIterator<Item = A>,
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let backend = Self::launch_with(name, flags, env).await?;
        backend.ready().await?;
        Ok(backend)
    }

    /// As [`Backend::start`], but waits only until it listens: for a backend that is not ready yet.
    pub async fn launch<A: Into<OsString>>(
        name: &str,
        flags: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        Self::launch_with(name, flags, &[]).await
    }

    async fn launch_with<A: Into<OsString>>(
        name: &str,
        flags: impl IntoIterator<Item = A>,
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let flags: Vec<OsString> = flags.into_iter().map(Into::into).collect();
        let embedded = flags.iter().any(|flag| flag == "--oidc-type=embedded");
        // The benchmark, which is a release build, measures the product itself.
        let program = if embedded && cfg!(debug_assertions) { WITH_KNOBS } else { PRODUCT };
        let mut spec = Spec::new(name, binary(program)?, dirs::run()?);
        spec = spec.arg("--listen-address=127.0.0.1:0").args(flags);
        spec.env.push(("RUST_BACKTRACE".into(), "1".into()));
        spec.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), value.into())));
        let (process, address) = listen(&spec).await?;
        Ok(Self { spec, process, address })
    }

    /// Runs the backend with these flags and waits for its end; gives the exit code and what it printed.
    ///
    /// For flags that it refuses.
    pub async fn run_to_end<A: Into<OsString>>(
        name: &str,
        flags: impl IntoIterator<Item = A>,
    ) -> Result<(Option<i32>, String)> {
        let spec = Spec::new(name, binary(PRODUCT)?, dirs::run()?).args(flags);
        let mut process = Process::start(&spec).await?;
        let status = process.wait(RUN).await?;
        Ok((status.code(), process.output()?))
    }

    /// Starts it again with the same flags after [`Backend::stop`] or [`Backend::kill`]; the port is a new one.
    pub async fn restart(&mut self) -> Result<()> {
        (self.process, self.address) = listen(&self.spec).await?;
        self.ready().await
    }

    /// SIGTERM; an error unless it ends with exit code 0 within 10 s.
    pub async fn stop(&mut self) -> Result<()> {
        let status = self.process.terminate(STOP).await?;
        if !status.success() {
            return Err(self.process.fail(format!("ended with {status} after SIGTERM")));
        }
        Ok(())
    }

    /// `kill -9`.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// SIGSTOP and SIGCONT: a pause that the backend does not notice.
    pub async fn pause(&self, paused: bool) -> Result<()> {
        self.process.pause(paused).await
    }

    /// Waits until `/readyz` has nothing to say but ok, at the address of `--admin-address` where there is one.
    pub async fn ready(&self) -> Result<()> {
        let admin = self
            .spec
            .args
            .iter()
            .any(|arg| arg.to_str().is_some_and(|arg| arg.starts_with("--admin-address=")));
        let get = async || {
            if admin { self.get_admin("/readyz").await } else { self.get("/readyz").await }
        };
        let ready = eventually("/readyz to answer ok", START, async || match get().await {
            Ok((200, body)) if body == "ok" => Ok(()),
            Ok((code, body)) => Err(format!("{code} {}", body.trim())),
            Err(error) => Err(format!("{error:#}")),
        });
        ready.await.map_err(|error| self.process.fail(error))
    }

    /// GET of a path by plain HTTP: status code and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        tokio::time::timeout(ANSWER, get(self.address, path))
            .await
            .with_context(|| format!("no answer to GET {path} within {ANSWER:?}"))?
    }

    /// GET of a path at the address of `--admin-address`.
    pub async fn get_admin(&self, path: &str) -> Result<(u16, String)> {
        let output = self.output()?;
        let address = said_address(&output, |line| line.contains("--admin-address"))
            .context("no line says where the admin address is")?;
        tokio::time::timeout(ANSWER, get(address, path))
            .await
            .with_context(|| format!("no answer to GET {path} within {ANSWER:?}"))?
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has printed since its last start.
    pub fn output(&self) -> Result<String> {
        self.process.output()
    }

    /// An error that quotes the end of its log.
    pub fn fail(&self, why: impl std::fmt::Display) -> anyhow::Error {
        self.process.fail(why)
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.process.resident_bytes()
    }
}

/// Starts the process and waits for its line that contains `listening` and the field `address=127.0.0.1:PORT`.
async fn listen(spec: &Spec) -> Result<(Process, SocketAddr)> {
    let mut process = Process::start(spec).await?;
    let found = eventually("the backend to listen", START, || {
        let seen = match (process.output(), process.check_alive()) {
            (Err(error), _) => Err(format!("{error:#}")),
            (Ok(output), alive) => match (listen_address(&output), alive) {
                (Some(address), _) => Ok(Ok(address)),
                (None, Err(ended)) => Ok(Err(ended)),
                (None, Ok(())) => Err("no line with `listening` and `address=`".to_owned()),
            },
        };
        std::future::ready(seen)
    });
    match found.await {
        Ok(address) => Ok((process, address?)),
        Err(error) => Err(process.fail(error)),
    }
}

/// The address of the public listener; that of `--admin-address` is a line of its own.
fn listen_address(output: &str) -> Option<SocketAddr> {
    said_address(output, |line| !line.contains("--admin-address"))
}

fn said_address(output: &str, wanted: impl Fn(&str) -> bool) -> Option<SocketAddr> {
    let said = |line: &&str| line.contains("listening") && line.contains("address=");
    let line = output.lines().filter(said).find(|line| wanted(line))?;
    let value = line.split("address=").nth(1)?.split_whitespace().next()?;
    value.trim_matches('"').parse().ok()
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.context("connecting to the backend")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split_whitespace().nth(1).context("no HTTP status")?;
    Ok((code.parse()?, body.to_owned()))
}

/// `BACKEND_BIN` for the product, else the binary that cargo put beside the tests.
fn binary(program: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os("BACKEND_BIN").filter(|_| program == PRODUCT) {
        return Ok(path.into());
    }
    let test = env::current_exe()?;
    // Tests are in target/<profile>/deps, the benchmark is beside the product.
    let beside = test.parent().context("a program outside target/")?;
    let deps = beside.file_name().is_some_and(|name| name == "deps");
    let profile = if deps { beside.parent() } else { Some(beside) };
    let binary = profile.context("a test outside target/")?.join(program);
    let built = fs::metadata(&binary)
        .and_then(|data| data.modified())
        .with_context(|| format!("{} is missing: run scripts/test", binary.display()))?;
    let (newest, source) = newest_source(&dirs::project().join("src"))?;
    if newest > built {
        let (binary, source) = (binary.display(), source.display());
        bail!("{binary} is older than {source}: run scripts/test");
    }
    Ok(binary)
}

fn newest_source(dir: &Path) -> Result<(SystemTime, PathBuf)> {
    let mut newest = (SystemTime::UNIX_EPOCH, dir.to_owned());
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = if entry.file_type()?.is_dir() {
            newest_source(&entry.path())?
        } else {
            (entry.metadata()?.modified()?, entry.path())
        };
        newest = newest.max(found);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_listening_line() {
        let line =
            "2026-01-01T00:00:00Z  INFO backend::http: listening address=127.0.0.1:4711 tls=false";
        assert_eq!(listen_address(&format!("first\n{line}\n")), "127.0.0.1:4711".parse().ok());
        assert_eq!(listen_address("starting address=127.0.0.1:1"), None);
    }
}
