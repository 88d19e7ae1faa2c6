//! The end-to-end tests: one table per topic in `suite/`, one run of the servers for all.

mod suite;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use e2e::{client, dirs, process, stack};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Tests that run at the same time, unless `--test-threads` says otherwise: they wait more than they compute.
const PARALLEL: usize = 4;
/// No test may take longer: the longest, which kill a backend at each of its writes, take ten minutes on two cores, and
/// those of the shards wait for each other.
const DEADLINE: Duration = Duration::from_mins(30);

/// A test: its name is a sentence, prefixed by its topic.
type Test = (&'static str, fn() -> BoxFuture<'static, Result<()>>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(PARALLEL);
    client::install_crypto();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("e2e: {error}");
                return ExitCode::FAILURE;
            }
        };
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    runtime.spawn(end_on_signal());
    let trials = suite::tests()
        .into_iter()
        .map(|(name, test)| Trial::test(name, move || runtime.block_on(run(name, test()))));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    runtime.block_on(async {
        stack::stop().await;
        process::kill_all().await;
    });
    if conclusion.has_failed() {
        dirs::keep();
    }
    dirs::finish();
    conclusion.exit_code()
}

/// Runs one test; an error, a panic or the deadline is its failure.
async fn run(name: &str, test: BoxFuture<'static, Result<()>>) -> Result<(), Failed> {
    let test = AssertUnwindSafe(test).catch_unwind();
    let outcome = match tokio::time::timeout(DEADLINE, test).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(anyhow!("{name} did not end within {DEADLINE:?}")),
    };
    outcome.map_err(|error| Failed::from(format!("{error:#}")))
}

/// Ctrl-c and SIGTERM: no server may outlive the run.
async fn end_on_signal() {
    let streams = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)))
        .context("listening for signals");
    let (mut interrupt, mut terminate) = match streams {
        Ok(streams) => streams,
        Err(error) => return eprintln!("e2e: {error:#}"),
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("e2e: interrupted; ending the servers");
    process::kill_all().await;
    dirs::keep();
    dirs::finish();
    std::process::exit(130);
}
