//! `Healthy` of a consumer: beside the konnector's conditions, at the deadline, and without a quarrel.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Bound, Request};
use e2e::driver::Watches;
use e2e::kcp::Claims;
use e2e::object;
use e2e::provider::{PLATFORM, Provider};
use e2e::wait::eventually;
use futures::FutureExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{PAUSE, SOON, Tenant, end, expect_requests, says};
use crate::Test;

const KIND: &str = "ClusterBinding";

pub(crate) fn tests() -> Vec<Test> {
    vec![("faults::health_follows_the_heartbeat_and_nobody_answers_himself", || {
        health_follows_the_heartbeat_and_nobody_answers_himself().boxed()
    })]
}

async fn health_follows_the_heartbeat_and_nobody_answers_himself() -> Result<()> {
    let provider = Provider::start("health", PLATFORM).await?;
    let outcome = health(&provider).await;
    end(provider, outcome).await
}

async fn health(provider: &Provider) -> Result<()> {
    let tenant = Tenant::new(provider, "alive", Claims::All).await?;
    let bound = binding::bind(&tenant.admin, &Request::new("bind", "consumer")).await?;
    tenant.awaits_heartbeat(bound.consumer.namespace()).await?;
    let write =
        format!("patch clusterbindings.kube-bind.io/status {}/cluster", bound.consumer.namespace());
    let watches = bound.consumer.open_watches().await?;
    let case = Case { provider, tenant: &tenant, bound: &bound, watches: &watches };

    // The first heartbeat, in the konnector's own form; one answer, after which both writers agree.
    case.step(2, &[&write], async || {
        bound.consumer.heartbeat().await?;
        case.wait(&json!({"type": "Healthy", "status": "True"})).await
    })
    .await
    .context("the first heartbeat")?;
    bound.consumer.check_conditions().await?;
    case.step(1, &[], async || case.beat("5m0s").await.map(drop))
        .await
        .context("a further heartbeat")?;

    // The deadline comes without an event: 2 x 2 s after the heartbeat was seen.
    case.step(2, &[&write], async || case.times_out().await).await.context("a missed heartbeat")?;
    case.step(2, &[&write], async || {
        case.beat("5m0s").await?;
        case.wait(&json!({"type": "Healthy", "status": "True"})).await?;
        case.wait(&json!({"type": "Ready", "status": "True"})).await
    })
    .await
    .context("the heartbeat after a missed one")?;

    // A condition of the konnector that it forgot in its summary.
    let invalid = json!({
        "status": "False", "severity": "Warning", "reason": "ProviderSecretInvalid", "message": "no kubeconfig",
    });
    case.step(2, &[&write], async || {
        case.set("SecretValid", &invalid).await?;
        let mut ready = invalid.clone();
        ready["type"] = json!("Ready");
        case.wait(&ready).await
    })
    .await
    .context("a condition of the konnector")
}

struct Case<'a> {
    provider: &'a Provider,
    tenant: &'a Tenant,
    bound: &'a Bound,
    watches: &'a Watches,
}

impl Case<'_> {
    /// Takes a step, waits until all is at rest, and counts: events of the binding, and writes of the backend.
    async fn step<F>(&self, events: usize, writes: &[&str], step: impl FnOnce() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let (mark, audit) = (self.watches.mark(), self.provider.kcp.audit().mark()?);
        step().await?;
        expect_requests(&self.tenant.writes(self.provider, audit).await?, writes)?;
        let seen = self.watches.quiet(mark, KIND, PAUSE, SOON).await?;
        let texts: Vec<String> = seen.iter().map(|event| object::summary(&event.object)).collect();
        ensure!(seen.len() == events, "{} events, not {events}:\n{}", seen.len(), texts.join("\n"));
        Ok(())
    }

    /// A heartbeat that changes neither conditions nor anything else, a second or more after the last one.
    async fn beat(&self, interval: &str) -> Result<DynamicObject> {
        let api = self.bound.consumer.kube_bind(KIND);
        eventually("a new second", SOON, async || {
            let binding = api.get("cluster").await?;
            let now = now();
            ensure!(binding.data["status"]["lastHeartbeatTime"] != now.as_str(), "still {now}");
            let patch = json!({
                "metadata": {"uid": binding.metadata.uid, "resourceVersion": binding.metadata.resource_version},
                "status": {"lastHeartbeatTime": now, "heartbeatInterval": interval},
            });
            Ok(object::merge_patch(&api, "cluster", &patch, true).await?)
        })
        .await
    }

    async fn times_out(&self) -> Result<()> {
        let mark = self.watches.mark();
        let began = Instant::now();
        let beat = self.beat("2s").await?;
        let written = began.elapsed();
        let last = beat.data["status"]["lastHeartbeatTime"].as_str().unwrap_or_default();
        let timeout = |kind: &str| {
            json!({
                "type": kind, "status": "False", "severity": "Error", "reason": "HeartbeatTimeout",
                "message": format!("Heartbeat timeout: expected heartbeat within 2s, but last one has been at {last}"),
            })
        };
        let event = self
            .watches
            .wait_for(mark, KIND, "the deadline", SOON, |event| {
                says(&event.object, &timeout("Healthy")).is_ok()
            })
            .await?;
        says(&event.object, &timeout("Ready")).map_err(anyhow::Error::msg)?;
        for own in ["SecretValid", "ValidVersion"] {
            object::expect_condition(&event.object, own, "True").map_err(anyhow::Error::msg)?;
        }
        let after = event.at.duration_since(began);
        let deadline = Duration::from_secs(4);
        ensure!(
            after >= deadline && after < written + deadline + Duration::from_secs(15),
            "timed out {after:?} after a heartbeat with an interval of 2 s, which took {written:?} to write"
        );
        Ok(())
    }

    /// Writes one condition and leaves the others, the summary too, as they are.
    async fn set(&self, kind: &str, fields: &Value) -> Result<()> {
        let api = self.bound.consumer.kube_bind(KIND);
        let binding = api.get("cluster").await?;
        let mut conditions = binding.data["status"]["conditions"].clone();
        for condition in conditions.as_array_mut().context("no conditions")? {
            if condition["type"] == kind {
                *condition = fields.clone();
                condition["type"] = json!(kind);
                condition["lastTransitionTime"] = json!(now());
            }
        }
        let patch = json!({
            "metadata": {"resourceVersion": binding.metadata.resource_version},
            "status": {"conditions": conditions},
        });
        object::merge_patch(&api, "cluster", &patch, true).await?;
        Ok(())
    }

    async fn wait(&self, condition: &Value) -> Result<()> {
        let api = self.bound.consumer.kube_bind(KIND);
        let what = format!("the condition {condition}");
        object::wait_for(&api, "cluster", &what, SOON, |binding| says(binding, condition)).await?;
        Ok(())
    }
}

/// As heartbeats have it: whole seconds.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
