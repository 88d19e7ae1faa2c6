//! The programs of `e2e/web`, which run in Node: JSON lines to their standard input, JSON lines from their standard
//! output, and standard error is their log.

mod browser;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::dirs;
use crate::process::{Process, Spec};

pub use browser::{Browser, Control, Focus, Options, Problem};

/// For one answer: Chromium has to start, on a machine that is busy. The programs give up on a step earlier.
const ANSWER: Duration = Duration::from_mins(1);
/// For the end once standard input is closed.
const STOP: Duration = Duration::from_secs(20);

/// A program that answers each line with one line. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Program {
    process: Process,
    stdin: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts `e2e/web/<script>` with the first line that it reads, and gives its first answer.
    ///
    /// `name` names its log, `<name>.log` in the folder of the run.
    pub(crate) async fn start(
        name: &str,
        script: &str,
        env: &[(&str, PathBuf)],
        first: &Value,
    ) -> Result<(Self, Value)> {
        let script = scripts()?.join(script);
        let mut spec = Spec::new(name, node(), dirs::run()?).arg(script);
        spec.env.extend(env.iter().map(|(key, value)| ((*key).to_owned(), value.into())));
        let (process, stdin, stdout) = Process::start_piped(&spec).await?;
        let answers = BufReader::new(stdout).lines();
        let mut program = Self { process, stdin: Some(stdin), answers };
        let answer = program.ask(first).await?;
        Ok((program, answer))
    }

    /// Writes one line and reads one; an error quotes the log, never the line, which may hold a secret.
    pub(crate) async fn ask(&mut self, question: &Value) -> Result<Value> {
        let asked = timeout(ANSWER, self.exchange(question)).await;
        let answer = asked.unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER:?}")));
        answer.map_err(|error| self.process.fail(format!("{error:#}")))
    }

    async fn exchange(&mut self, question: &Value) -> Result<Value> {
        let stdin = self.stdin.as_mut().context("it was stopped")?;
        stdin.write_all(format!("{question}\n").as_bytes()).await.context("writing to it")?;
        let line = self.answers.next_line().await.context("reading from it")?;
        let line = line.context("it ended")?;
        serde_json::from_str(&line).with_context(|| format!("it said {line}"))
    }

    /// An error that quotes the end of its log.
    pub(crate) fn fail(&self, why: impl std::fmt::Display) -> anyhow::Error {
        self.process.fail(why)
    }

    /// Closes its standard input and waits for the end.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.process.wait(STOP).await?;
        if !status.success() {
            return Err(self.process.fail(format!("ended with {status}")));
        }
        Ok(())
    }
}

/// `NODE`, else the node of the path.
fn node() -> PathBuf {
    env::var_os("NODE").filter(|own| !own.is_empty()).unwrap_or_else(|| "node".into()).into()
}

/// `e2e/web`, if what its programs import is there as the lock file says.
fn scripts() -> Result<PathBuf> {
    let web = dirs::project().join("e2e/web");
    let wanted = fs::read(web.join("package-lock.json")).context("reading the lock file")?;
    // The stamp of scripts/tools.
    if !fs::read(web.join("node_modules/.built-from")).is_ok_and(|built| built == wanted) {
        bail!("{} is missing or old: run scripts/tools web", web.join("node_modules").display());
    }
    Ok(web)
}
