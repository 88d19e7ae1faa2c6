//! The HTTP API: what a bind costs the API server, how many catalogues a second, what is left of logins that nobody
//! finishes, and whether clients that send slowly harm the others.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::audit::Filter;
use e2e::dirs;
use e2e::kcp::Kcp;
use e2e::object::{self, kube_bind};
use e2e::site::{CLI_CALLBACK, Site, Visitor, bind_body};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::Setting;
use crate::figures::{Report, amount, percentile};
use crate::load::{self, Place};
use crate::run::Meter;

/// Consumers that bind each way.
const BINDS: usize = 30;
/// Requests at the same time.
const AT_ONCE: usize = 8;
/// Templates of a large catalogue.
const TEMPLATES: usize = 1000;
/// How long catalogues are asked for.
const READING: Duration = Duration::from_secs(10);
/// Logins that nobody finishes.
const LOGINS: usize = 100_000;
/// Those of one address: more are turned away.
const PER_ADDRESS: usize = 300;
/// Connections that send a byte of their headers from time to time.
const SLOW: usize = 500;
/// Catalogues and binds in quiet, and as many beside the slow connections.
const CALLS: usize = 200;

pub(crate) async fn measure() -> Result<Report> {
    let title = format!(
        "HTTP: {BINDS} binds, {TEMPLATES} templates, {LOGINS} logins, {SLOW} slow connections"
    );
    let mut report = Report::new("http", title);
    let kcp = Arc::new(Kcp::start(&dirs::fresh("bench-http")?).await?);
    let site = Site::start_on(Arc::clone(&kcp), "bench-http", &Setting::Cluster.flags()).await?;
    let meter = Meter { log: kcp.audit(), ours: Filter::backend() };
    let workspaces = load::engage(&site.provider, 2).await?;
    let places = load::serve(&site.provider, workspaces).await?;
    let [small, large] = places.as_slice() else { anyhow::bail!("not two workspaces") };
    template(small, "sheriffs").await?;
    let user = site.visitor()?.login_cli(&small.workspace.cluster, "").await?;

    binds(&mut report, &meter, small, &user).await?;
    beside_slow(&mut report, &site, small, &user).await?;
    catalogue(&mut report, &meter, &site, large).await?;
    abandoned(&mut report, &site).await?;
    drop(places);
    kcp.kill().await?;
    Ok(report)
}

async fn template(place: &Place, name: &str) -> Result<()> {
    let manifest = json!({
        "metadata": {"name": name},
        "spec": {
            "scope": "Cluster",
            "resources": [{"group": "wildwest.dev", "resource": "sheriffs", "versions": ["v1alpha1"]}],
        },
    });
    object::create(&place.admin, &kube_bind("APIServiceExportTemplate"), None, manifest).await?;
    Ok(())
}

/// The requests of a bind, over HTTP and by an object.
async fn binds(report: &mut Report, meter: &Meter, place: &Place, user: &Visitor) -> Result<()> {
    // The first consumer of a workspace also makes what all share.
    bind(place, user, "first").await?;
    meter.settled(meter.log.mark()?).await?;
    let mark = meter.log.mark()?;
    let names = (0..BINDS).map(|index| format!("http-{index}"));
    stream::iter(names)
        .map(|name| async move { bind(place, user, &name).await })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let requests = meter.settled(mark).await?;
    report.add_requests(
        "requests_bind_http",
        "requests per bind over HTTP",
        &requests,
        BINDS,
        None,
    );

    let mark = meter.log.mark()?;
    stream::iter(0..BINDS)
        .map(|index| async move {
            let name = format!("object-{index}");
            let since = load::ask(place, &name).await?;
            load::bound(place, &name, since).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let requests = meter.settled(mark).await?;
    let what = "requests per bind by a BindableResourcesRequest";
    report.add_requests("requests_bind_object", what, &requests, BINDS, None);
    Ok(())
}

async fn bind(place: &Place, user: &Visitor, name: &str) -> Result<Duration> {
    let since = Instant::now();
    let path = format!("/api/bind?cluster_id={}", place.workspace.cluster);
    let answer = user.post(&path, &bind_body(name, "sheriffs", name)).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(since.elapsed())
}

/// Catalogues and binds, in quiet and beside clients that hold every connection that they can get.
async fn beside_slow(
    report: &mut Report,
    site: &Site,
    place: &Place,
    user: &Visitor,
) -> Result<()> {
    let quiet = calls(place, user, "quiet").await?;
    let slow = Slow::start(site).await?;
    let beside = calls(place, user, "beside").await?;
    let left = slow.stop();
    report.add("slow_connections", "slow connections meanwhile", amount(left), "", None);
    for (key, what, quiet, beside) in
        [("templates", "catalogue", &quiet.0, &beside.0), ("bind", "bind", &quiet.1, &beside.1)]
    {
        report.add_latency(
            &format!("{key}_quiet"),
            &format!("latency of a {what} in quiet"),
            quiet,
        );
        report.add_latency(
            &format!("{key}_slow"),
            &format!("latency of a {what} beside the slow connections"),
            beside,
        );
        let ratio = percentile(beside, 99).as_secs_f64() / percentile(quiet, 99).as_secs_f64();
        let what = format!("p99 of a {what} beside the slow connections over p99 in quiet");
        report.add(&format!("{key}_slow_over_quiet"), &what, ratio, "x", Some(2.0));
    }
    Ok(())
}

async fn calls(
    place: &Place,
    user: &Visitor,
    name: &str,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let path = format!("/api/templates?cluster_id={}", place.workspace.cluster);
    let reads = stream::iter(0..CALLS)
        .map(|_| async {
            let since = Instant::now();
            let answer = user.get(&path).await?;
            ensure!(answer.status == 200, "{answer:?}");
            anyhow::Ok(since.elapsed())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let binds = stream::iter(0..BINDS)
        .map(|index| async move { bind(place, user, &format!("{name}-{index}")).await })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok((reads, binds))
}

/// Connections whose headers never end. One that is closed is opened again.
struct Slow {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Slow {
    async fn start(site: &Site) -> Result<Self> {
        let server = site.provider.backend.address();
        let (opened, mut seen) = tokio::sync::mpsc::channel(SLOW);
        let tasks = (0..SLOW)
            .map(|_| {
                let opened = opened.clone();
                tokio::spawn(async move {
                    loop {
                        let Ok(mut stream) = connect(Ipv4Addr::new(127, 0, 0, 2), server).await
                        else {
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            continue;
                        };
                        let _ = opened.try_send(());
                        let head = format!("GET /api/templates HTTP/1.1\r\nHost: {server}\r\nX: ");
                        let mut alive = stream.write_all(head.as_bytes()).await.is_ok();
                        while alive {
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            alive = stream.write_all(b"x").await.is_ok();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..SLOW {
            seen.recv().await.context("no slow connection was opened")?;
        }
        Ok(Self { tasks })
    }

    fn stop(self) -> usize {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        self.tasks.len()
    }
}

async fn connect(from: Ipv4Addr, to: std::net::SocketAddr) -> Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    Ok(socket.connect(to).await?)
}

/// Catalogues of a thousand templates.
async fn catalogue(report: &mut Report, meter: &Meter, site: &Site, place: &Place) -> Result<()> {
    let names: Vec<String> = (0..TEMPLATES).map(|index| format!("template-{index:04}")).collect();
    stream::iter(&names)
        .map(|name| template(place, name))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let user = site.visitor()?.login_cli(&place.workspace.cluster, "").await?;
    let path = format!("/api/templates?cluster_id={}", place.workspace.cluster);
    let seen = async || {
        let answer = user.get(&path).await?.json()?;
        anyhow::Ok(answer["items"].as_array().map_or(0, Vec::len))
    };
    while seen().await? < TEMPLATES {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    meter.settled(meter.log.mark()?).await?;
    let mark = meter.log.mark()?;
    let since = Instant::now();
    let (user, path) = (&user, &path);
    let done: Vec<usize> = stream::iter(0..AT_ONCE)
        .map(|_| async move {
            let mut count = 0;
            while since.elapsed() < READING {
                let answer = user.get(path).await?;
                ensure!(answer.status == 200, "{}", answer.status);
                count += 1;
            }
            anyhow::Ok(count)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let count: usize = done.iter().sum();
    let rate = amount(count) / since.elapsed().as_secs_f64();
    let what = format!("catalogues of {TEMPLATES} templates per second");
    report.add("catalogues", &what, rate, "/s", None);
    let requests = meter.settled(mark).await?;
    let what = format!("API requests for {count} catalogues: one review in 5 s");
    report.add_requests("catalogue_requests", &what, &requests, 1, Some(3.0));
    Ok(())
}

/// Logins that are begun and never finished, from as many addresses as it takes to be let in.
async fn abandoned(report: &mut Report, site: &Site) -> Result<()> {
    let backend = &site.provider.backend;
    let before = backend.resident_bytes()?;
    let addresses = LOGINS.div_ceil(PER_ADDRESS);
    let counts: Vec<(usize, usize)> = stream::iter(0..addresses)
        .map(|index| from_address(site, index))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let begun: usize = counts.iter().map(|(begun, _)| begun).sum();
    let refused: usize = counts.iter().map(|(_, refused)| refused).sum();
    report.add("logins_begun", "logins begun and abandoned", amount(begun), "", None);
    report.add("logins_refused", "logins turned away with 429", amount(refused), "", None);
    let grown = backend.resident_bytes()?.saturating_sub(before);
    let grown = amount(usize::try_from(grown)?) / 1024.0 / 1024.0;
    report.add("logins_memory", "memory that they took", grown, "MiB", Some(10.0));
    Ok(())
}

async fn from_address(site: &Site, index: usize) -> Result<(usize, usize)> {
    let [_, _, high, low] = u32::try_from(index + 256)?.to_be_bytes();
    let visitor = Visitor::from(&site.base, Ipv4Addr::new(127, 1, high, low))?;
    let (mut begun, mut refused) = (0, 0);
    for login in 0..PER_ADDRESS {
        let session = format!("{index}-{login}");
        let answer = visitor
            .authorize(&[
                ("redirect_url", CLI_CALLBACK),
                ("session_id", &session),
                ("client_type", "cli"),
                ("cluster_id", "1a2b3c4d5e6f7g8h"),
            ])
            .await?;
        match answer.status {
            302 => begun += 1,
            429 => refused += 1,
            _ => anyhow::bail!("{answer:?}"),
        }
    }
    Ok((begun, refused))
}
