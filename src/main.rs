//! The backend: TLS provider, command line, run.

use std::process::ExitCode;

use kube_bind_backend::cli::{self, Command};
use kube_bind_backend::doctor::{self, Verdict};
use kube_bind_backend::http::server::quiet_panics;
use kube_bind_backend::{app, init};
use tracing_subscriber::EnvFilter;

pub(crate) fn main() -> ExitCode {
    // One library for all TLS; a second call could only find the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return failed(&err),
    };
    match command {
        Command::Run(config) => {
            log(config.verbosity);
            quiet_panics();
            match runtime.block_on(app::run(*config)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(err) => failed(&err),
            }
        }
        Command::Init(config) => match runtime.block_on(init::run(config)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => failed(&err),
        },
        // What they look at is in what they print; only what keeps them from looking is worth a log.
        Command::Doctor(config, format) => {
            log(0);
            match runtime.block_on(doctor::run(*config, format)) {
                Ok(verdict) => code(verdict),
                Err(err) => {
                    failed(&err);
                    ExitCode::from(2)
                }
            }
        }
        Command::Workspaces(config, format) => {
            log(0);
            match runtime.block_on(doctor::workspaces(*config, format)) {
                Ok(verdict) => code(verdict),
                Err(err) => failed(&err),
            }
        }
    }
}

fn code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Well => ExitCode::SUCCESS,
        Verdict::Unwell => ExitCode::from(1),
        Verdict::Unseen => ExitCode::from(2),
    }
}

fn failed(err: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {err}");
    ExitCode::FAILURE
}

/// klog verbosity to levels: up to 2 (the default) is info, 4 and more is debug, 8 and more adds the
/// libraries. `RUST_LOG` wins.
fn log(verbosity: u8) {
    let default = match verbosity {
        0 => "warn",
        1..=3 => "warn,kube_bind_backend=info,backend=info",
        4..=7 => "warn,kube_bind_backend=debug,backend=debug",
        _ => "debug",
    };
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| default.to_owned());
    // The client library logs the bodies of answers that it cannot decode, and they may be Secrets. Its
    // watcher logs each refused list, and its connector each failed connection, whereas we say once what is wrong.
    let filter = EnvFilter::new(format!(
        "{wanted},kube_client::client=error,kube_client::client::builder=off,kube_runtime::watcher=error"
    ));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}
