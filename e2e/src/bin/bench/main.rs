//! What the backend costs: requests out of kcp's audit log, memory and CPU out of `/proc`, latency as a user sees it, and
//! the same writes issued raw for comparison.
//!
//! `cargo run -p e2e --release --bin bench -- --workspaces 50 --consumers 3` starts a kcp of its own for each scope,
//! engages the workspaces, serves an API in them, binds the consumers and exports to them, is quiet for a while, and
//! restarts the backend. Every figure stands beside its budget (design section 6). Counts are exact; times are of this
//! machine, so budgets on them are ratios of two things measured in one run.

mod figures;
mod flood;
mod floor;
mod http;
mod load;
mod offers;
mod restart;
mod run;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use e2e::{client, dirs, process};

use crate::figures::Report;

#[derive(Parser)]
struct Options {
    /// Workspaces that bind the export.
    #[arg(long, default_value_t = 50)]
    workspaces: usize,
    /// Consumers that bind and export in each workspace.
    #[arg(long, default_value_t = 3)]
    consumers: usize,
    /// Only one of the two settings.
    #[arg(long)]
    scope: Option<Setting>,
    /// How long to watch the idle backend, in seconds.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Instead: 500 binds at once in 20 workspaces, in quiet and while another workspace floods.
    #[arg(long)]
    flood: bool,
    /// Instead: what workspaces bind is offered in them.
    #[arg(long)]
    offers: bool,
    /// Instead: the HTTP API.
    #[arg(long)]
    http: bool,
    /// Also write the figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How the backend runs, and what each consumer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Setting {
    /// `--consumer-scope=cluster --isolation=Prefixed`: a cluster-scoped resource and no claim. A second consumer of a
    /// workspace is served without a flag, as names are prefixed.
    Cluster,
    /// `--consumer-scope=namespaced --isolation=Prefixed`: a namespaced resource, a claim on Secrets, and the first
    /// service namespace.
    Namespaced,
}

fn main() -> Result<()> {
    let options = Options::parse();
    build()?;
    client::install_crypto();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let result = measure(&options).await;
        process::kill_all().await;
        result
    });
    if result.is_err() {
        dirs::keep();
    }
    dirs::finish();
    let reports = result?;
    for report in &reports {
        println!("{}", report.markdown());
    }
    if let Some(path) = &options.json {
        let json: Vec<_> = reports.iter().map(Report::json).collect();
        std::fs::write(path, serde_json::to_string_pretty(&json)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn measure(options: &Options) -> Result<Vec<Report>> {
    if options.flood {
        return Ok(vec![flood::measure().await?]);
    }
    if options.offers {
        return Ok(vec![offers::measure(options).await?]);
    }
    if options.http {
        return Ok(vec![http::measure().await?]);
    }
    let mut reports = Vec::new();
    for setting in [Setting::Cluster, Setting::Namespaced] {
        if options.scope.is_none_or(|only| only == setting) {
            reports.push(run::measure(options, setting).await?);
        }
    }
    Ok(reports)
}

/// The product in the profile of this program.
fn build() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package", "kube-bind-backend", "--bin", "backend"])
        .current_dir(dirs::project());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    ensure!(command.status()?.success(), "the backend does not build");
    Ok(())
}
