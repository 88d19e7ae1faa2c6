//! Child processes that do not outlive the test run, whatever ends it.
//!
//! - Each one is the leader of its own process group, so that ctrl-c reaches the test process only; that one then ends
//!   its children in order.
//! - Dropping a [`Process`] kills it; [`kill_all`] kills what is left, on SIGTERM and at the end.
//! - Where `setpriv` (util-linux) exists, the kernel kills the child when the test process dies by SIGKILL.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Bytes of a log that an error message quotes.
const TAIL: usize = 6_000;
/// How long SIGKILL may take before that is an error.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

static RUNNING: LazyLock<Mutex<BTreeSet<u32>>> = LazyLock::new(Mutex::default);

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Names the process in messages, and its log file.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to the environment.
    pub env: Vec<(String, OsString)>,
    /// Working folder; also where `<name>.log` goes. Standard output and error are appended to that file.
    pub dir: PathBuf,
}

impl Spec {
    /// A process without arguments yet.
    #[must_use]
    pub fn new(name: &str, program: PathBuf, dir: &Path) -> Self {
        let dir = dir.to_path_buf();
        Self { name: name.to_owned(), program, args: Vec::new(), env: Vec::new(), dir }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    log: PathBuf,
    log_start: u64,
}

impl Process {
    /// Starts the process. Its log file is appended to, so that a restart keeps the history.
    pub async fn start(spec: &Spec) -> Result<Self> {
        Self::spawn(spec, false).await
    }

    /// Starts a process that is talked to over its standard input and output; its log holds standard error only.
    pub async fn start_piped(spec: &Spec) -> Result<(Self, ChildStdin, ChildStdout)> {
        let mut process = Self::spawn(spec, true).await?;
        let pipes = process.child.stdin.take().zip(process.child.stdout.take());
        let (stdin, stdout) = pipes.with_context(|| format!("{} has no pipes", spec.name))?;
        Ok((process, stdin, stdout))
    }

    async fn spawn(spec: &Spec, piped: bool) -> Result<Self> {
        let log = spec.dir.join(format!("{}.log", spec.name));
        let (out, log_start) = open_log(&log)?;
        let mut command = tie_to_us(&spec.program);
        command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&spec.dir)
            .stdin(if piped { Stdio::piped() } else { Stdio::null() })
            .stderr(out.try_clone().with_context(|| format!("duplicating {}", log.display()))?)
            .stdout(if piped { Stdio::piped() } else { out.into() })
            .process_group(0)
            .kill_on_drop(true);
        // The death signal follows the thread that forks: that must be a worker of the runtime, which lives as long as
        // the run, and not the thread of one test.
        let program = spec.program.display().to_string();
        let child = tokio::spawn(async move { command.spawn() })
            .await
            .context("spawning")?
            .with_context(|| format!("starting {} ({program})", spec.name))?;
        let pid = child.id().with_context(|| format!("{} ended at once", spec.name))?;
        registry(|running| running.insert(pid));
        Ok(Self { name: spec.name.clone(), child, pid, log, log_start })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has printed since its (last) start.
    pub fn output(&self) -> Result<String> {
        let bytes =
            fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        let start = usize::try_from(self.log_start)?.min(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[start..]).into_owned())
    }

    /// An error that quotes the end of the log.
    pub fn fail(&self, why: impl std::fmt::Display) -> anyhow::Error {
        let output = self.output().unwrap_or_else(|error| format!("{error:#}"));
        let from = output.ceil_char_boundary(output.len().saturating_sub(TAIL));
        let (name, log) = (&self.name, self.log.display());
        anyhow!("{name}: {why}\n--- end of {log} ---\n{}\n---", output[from..].trim_end())
    }

    /// An error if the process has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.fail(format!("ended with {status}"))),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Resolves when the process has ended by itself, with the reason for a message. To be raced against a wait.
    pub fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let (pid, name) = (self.pid, self.name.clone());
        async move {
            while is_alive(pid) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            format!("{name} ended before it was ready")
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        signal("TERM", &self.pid.to_string()).await?;
        self.wait(deadline).await.context("after SIGTERM")
    }

    /// Waits for the end.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => {
                registry(|running| running.remove(&self.pid));
                status.with_context(|| format!("waiting for {}", self.name))
            }
            Err(_) => Err(self.fail(format!("still runs after {deadline:?}"))),
        }
    }

    /// `kill -9`, for the whole process group.
    pub async fn kill(&mut self) -> Result<()> {
        if self.child.id().is_some() {
            signal("KILL", &format!("-{}", self.pid)).await?;
            timeout(KILL_DEADLINE, self.child.wait())
                .await
                .with_context(|| format!("{} survives SIGKILL", self.name))??;
        }
        registry(|running| running.remove(&self.pid));
        Ok(())
    }

    /// Stops the process (SIGSTOP), or lets it go on (SIGCONT): a pause that it does not notice.
    pub async fn pause(&self, paused: bool) -> Result<()> {
        signal(if paused { "STOP" } else { "CONT" }, &self.pid.to_string()).await
    }

    /// Resident memory in bytes: `VmRSS` of `/proc/<pid>/status`.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid);
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.with_context(|| format!("no VmRSS in {path}"))?.parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // kill_on_drop sends the signal; forgetting the id keeps kill_all from hitting a process that reuses it.
        registry(|running| running.remove(&self.pid));
    }
}

/// Kills every process group that is still registered. For the signal handler and the end of the run.
pub async fn kill_all() {
    let left: Vec<u32> = registry(|running| std::mem::take(running).into_iter().collect());
    for pid in left {
        if let Err(error) = signal("KILL", &format!("-{pid}")).await {
            eprintln!("e2e: {error:#}");
        }
    }
}

/// A TCP port on 127.0.0.1 that is free now and that no other caller in this run gets.
///
/// Taken below the range from which the kernel serves outgoing connections, so that none of these takes it meanwhile.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        // Two runs at the same time start in different places.
        AtomicU16::new(
            u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0),
        )
    });
    for _ in 0..COUNT {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// Whether a process exists and is no zombie, that is one which ended and was not waited for.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The field after the closing parenthesis of the command.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn open_log(path: &Path) -> Result<(File, u64)> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let start = file.metadata()?.len();
    Ok((file, start))
}

/// A command for `program` that the kernel kills together with us, where `setpriv` is to be had.
fn tie_to_us(program: &Path) -> Command {
    static SETPRIV: LazyLock<bool> = LazyLock::new(|| {
        let dry =
            std::process::Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).output();
        dry.is_ok_and(|output| output.status.success())
    });
    if *SETPRIV {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Sends a signal through the shell's own `kill`: doing it from here would need unsafe code or one more dependency.
async fn signal(signal: &str, target: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" -- \"$1\"", signal, target])
        .stderr(Stdio::null())
        .status()
        .await
        .with_context(|| format!("sending SIG{signal} to {target}"))?;
    if !status.success() {
        bail!("SIG{signal} to process {target} failed: it has ended already");
    }
    Ok(())
}

fn registry<T>(with: impl FnOnce(&mut BTreeSet<u32>) -> T) -> T {
    with(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner))
}
