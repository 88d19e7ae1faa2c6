//! What the backend costs: requests out of kcp's audit log, memory and CPU out of `/proc`.
//!
//! `cargo run -p e2e --release --bin bench -- --workspaces 50 --consumers 2` starts a kcp of its own, engages the
//! workspaces, binds the consumers in each, and is quiet for a while. Every figure stands beside its budget. Counts are
//! exact; times depend on the machine and are not printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use e2e::audit::{Audit, Filter, Mark, Request, count};
use e2e::backend::Backend;
use e2e::kcp::{Claims, Kcp, Workspace};
use e2e::object::{self, kube_bind};
use e2e::{client, dirs, process, provider, wait};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::ListParams;
use serde_json::{Value, json};

/// Workspaces that are made at the same time: more only queue up in kcp.
const PARALLEL: usize = 8;
const DEADLINE: Duration = Duration::from_mins(10);

#[derive(Parser)]
struct Options {
    /// Workspaces that bind the export.
    #[arg(long, default_value_t = 50)]
    workspaces: usize,
    /// Consumers that bind in each workspace.
    #[arg(long, default_value_t = 2)]
    consumers: usize,
    /// How long to watch the idle backend, in seconds.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Also write the figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One row of the result.
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    budget: Option<f64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    build()?;
    client::install_crypto();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let result = run(&options).await;
        process::kill_all().await;
        result
    });
    if result.is_err() {
        dirs::keep();
    }
    dirs::finish();
    let figures = result?;
    print(&options, &figures);
    if let Some(path) = &options.json {
        let json: Vec<Value> = figures.iter().map(json_of).collect();
        std::fs::write(path, serde_json::to_string_pretty(&json)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
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

async fn run(options: &Options) -> Result<Vec<Figure>> {
    let kcp = Arc::new(Kcp::start(&dirs::fresh("bench-kcp")?).await?);
    let (export, flags) = provider::init(&kcp, "kube-bind").await?;
    let flags = flags.into_iter().chain(provider::PLATFORM.iter().map(|f| (*f).to_owned()));
    let backend = Backend::start("bench-backend", flags).await?;
    let (log, ours) = (kcp.audit(), Filter::backend());
    let mut figures = vec![memory("memory at start", &backend, Some(30.0))?];

    let mark = log.mark()?;
    let workspaces = engage(&kcp, &export, options.workspaces).await?;
    let requests = settled(&log, mark, &ours).await?;
    eprintln!("bench: engaged\n{}", by_kind(&requests));
    figures.push(per("requests per engaged workspace", &requests, options.workspaces, 2.0));
    let budget = 30.0 + 30.0 * amount(options.workspaces) / 1024.0;
    figures.push(memory("memory with the workspaces engaged", &backend, Some(budget))?);

    let mark = log.mark()?;
    let cpu = cpu_seconds(&backend)?;
    bind(&kcp, &workspaces, options.consumers).await?;
    let requests = settled(&log, mark, &ours).await?;
    let binds = options.workspaces * options.consumers;
    eprintln!("bench: bound\n{}", by_kind(&requests));
    figures.push(per("requests per bind", &requests, binds, 12.0));
    let used = (cpu_seconds(&backend)? - cpu) * 1000.0 / amount(binds.max(1));
    figures.push(Figure {
        what: "CPU per bind".into(),
        value: used,
        unit: "ms",
        budget: Some(8.0),
    });
    let budget = budget + 15.0 * amount(binds) / 1024.0;
    figures.push(memory("memory with the consumers bound", &backend, Some(budget))?);

    let mark = log.mark()?;
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    let idle = log.requests(mark, &ours)?;
    let what = format!("requests in {} s of idling, without watches", options.idle);
    figures.push(Figure { what, value: amount(idle.len()), unit: "", budget: Some(0.0) });
    Ok(figures)
}

async fn engage(kcp: &Arc<Kcp>, export: &Workspace, count: usize) -> Result<Vec<Workspace>> {
    let made = stream::iter(0..count).map(|index| async move {
        let workspace = kcp.create_workspace("root", &format!("tenant-{index}")).await?;
        kcp.bind_export(&workspace, &export.path, provider::EXPORT, Claims::All).await?;
        let client = kcp.client(&workspace.cluster).await?;
        let clusters = object::api(&client, &kube_bind("Cluster"), None);
        let what = format!("{} to be served", workspace.path);
        object::wait_for(&clusters, "default", &what, DEADLINE, |_| Ok(())).await?;
        anyhow::Ok(workspace)
    });
    made.buffer_unordered(PARALLEL).try_collect().await
}

/// All requests at once; ends when each has succeeded.
async fn bind(kcp: &Arc<Kcp>, workspaces: &[Workspace], consumers: usize) -> Result<()> {
    let all = stream::iter(workspaces).map(|workspace| async move {
        let client = kcp.client(&workspace.cluster).await?;
        let kind = kube_bind("BindableResourcesRequest");
        for index in 0..consumers {
            let manifest = json!({
                "metadata": {"name": format!("consumer-{index}")},
                "spec": {
                    "author": "bench",
                    "clusterIdentity": {"identity": format!("{}-{index}", workspace.cluster)},
                },
            });
            object::create(&client, &kind, Some("default"), manifest).await?;
        }
        let requests = object::api(&client, &kind, Some("default"));
        let what = format!("the requests of {}", workspace.path);
        wait::eventually(&what, DEADLINE, async || {
            let list = requests.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
            let open = list.items.iter().find(|r| r.data["status"]["phase"] != "Succeeded");
            open.map_or(Ok(()), |request| Err(object::summary(request)))
        })
        .await
    });
    all.buffer_unordered(PARALLEL).try_collect().await
}

/// Our requests since the mark, once there are no more.
async fn settled(log: &Audit, mark: Mark, ours: &Filter) -> Result<Vec<Request>> {
    log.quiet(mark, ours, Duration::from_secs(5), DEADLINE, |_| false).await
}

fn by_kind(requests: &[Request]) -> String {
    let counts: BTreeMap<_, _> = count(requests);
    let mut text = String::new();
    for ((verb, resource), count) in counts {
        let _ = writeln!(text, "  {count:>6} {verb} {resource}");
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
fn amount(count: usize) -> f64 {
    count as f64
}

fn per(what: &str, requests: &[Request], divisor: usize, budget: f64) -> Figure {
    let value = amount(requests.len()) / amount(divisor.max(1));
    Figure { what: what.to_owned(), value, unit: "", budget: Some(budget) }
}

fn memory(what: &str, backend: &Backend, budget: Option<f64>) -> Result<Figure> {
    let bytes = usize::try_from(backend.resident_bytes()?)?;
    let value = amount(bytes) / 1024.0 / 1024.0;
    Ok(Figure { what: what.to_owned(), value, unit: "MiB", budget })
}

/// User and system time so far (`proc(5)`: fields 14 and 15 of stat, in ticks of 10 ms on Linux).
fn cpu_seconds(backend: &Backend) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", backend.pid()))?;
    let after_name = stat.rsplit_once(") ").context("an odd /proc/<pid>/stat")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks =
        |index: usize| -> Result<f64> { Ok(fields.get(index).context("too short")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn print(options: &Options, figures: &[Figure]) {
    println!("{} workspaces, {} consumers in each\n", options.workspaces, options.consumers);
    println!("| figure | measured | budget |\n|---|---|---|");
    for figure in figures {
        let budget =
            figure.budget.map_or(String::new(), |budget| format!("{budget:.1} {}", figure.unit));
        println!("| {} | {:.1} {} | {budget} |", figure.what, figure.value, figure.unit);
    }
}

fn json_of(figure: &Figure) -> Value {
    json!({
        "figure": figure.what, "value": figure.value, "unit": figure.unit, "budget": figure.budget,
    })
}
