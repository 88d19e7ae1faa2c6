//! How long a bind takes on one shard, whatever else the machine does.

use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::binding::{self, Request};
use e2e::driver::Watches;
use e2e::object::{self, core, kube_bind};
use e2e::stack;
use e2e::wait::SOON;
use kube::Client;
use serde_json::json;

const KIND: &str = "BindableResourcesRequest";
/// Binds of which the middle one counts.
const BINDS: usize = 15;
/// Requests beside each bind, which together take about as long.
const RAW: usize = 10;

/// Measures binds in a workspace, as a user sees them on a watch.
pub(super) struct Clock {
    admin: Client,
    watches: Watches,
}

/// The middle one of several binds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Typical {
    /// How long it took.
    pub(super) time: Duration,
    /// The same as a multiple of the time for [`RAW`] creations of a `ConfigMap` right before it in the same workspace. The
    /// backend has no part in those, so what makes the machine slow is in both.
    pub(super) over_raw: f64,
}

impl Clock {
    pub(super) async fn open(admin: &Client) -> Result<Self> {
        let watches = Watches::open(admin, &[(kube_bind(KIND), Some("default"))]).await?;
        Ok(Self { admin: admin.clone(), watches })
    }

    /// How long it takes to bind a new consumer.
    pub(super) async fn bind(&self) -> Result<Duration> {
        let name = stack::unique("timed");
        let request = Request::new(&name, &name);
        let (began, mark) = (Instant::now(), self.watches.mark());
        binding::create(&self.admin, &request).await?;
        let what = format!("{KIND} {name} to succeed");
        let event = self.watches.wait_for(mark, KIND, &what, SOON, |event| {
            event.object.metadata.name.as_ref() == Some(&name)
                && event.object.data["status"]["phase"] == "Succeeded"
        });
        Ok(event.await?.at.duration_since(began))
    }

    pub(super) async fn typical(&self) -> Result<Typical> {
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..BINDS {
            let raw = self.raw().await?;
            let time = self.bind().await?;
            times.push(time);
            ratios.push(time.as_secs_f64() / raw.as_secs_f64());
        }
        times.sort();
        ratios.sort_by(f64::total_cmp);
        Ok(Typical { time: times[BINDS / 2], over_raw: ratios[BINDS / 2] })
    }

    async fn raw(&self) -> Result<Duration> {
        let name = stack::unique("raw");
        let began = Instant::now();
        for at in 0..RAW {
            let manifest = json!({"metadata": {"name": format!("{name}-{at}")}});
            object::create(&self.admin, &core("ConfigMap"), Some("default"), manifest).await?;
        }
        Ok(began.elapsed())
    }
}
