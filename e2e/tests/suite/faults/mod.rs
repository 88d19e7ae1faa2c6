//! What goes wrong in one workspace, or with one object, stays there.

mod claims;
mod health;
mod leaving;
mod objects;
mod twins;
mod unreadable;

use e2e::wait::SOON;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::audit::{self, Filter, Mark, Request};
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, kcp_apis, kube_bind};
use e2e::provider::{EXPORT, Provider};
use kube::api::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::Test;

/// Without a request for this long, nothing is going on.
const PAUSE: Duration = Duration::from_secs(3);

/// All tests of the topic.
pub(crate) fn tests() -> Vec<Test> {
    [
        claims::tests(),
        twins::tests(),
        health::tests(),
        objects::tests(),
        unreadable::tests(),
        leaving::tests(),
    ]
    .concat()
}

/// A workspace that bound the export, and its admin.
struct Tenant {
    workspace: Workspace,
    admin: Client,
}

impl Tenant {
    async fn new(provider: &Provider, name: &str, claims: Claims<'_>) -> Result<Self> {
        let workspace = provider.tenant(name, claims).await?;
        let admin = provider.kcp.client(&workspace.cluster).await?;
        Ok(Self { workspace, admin })
    }

    /// An API of a kube-bind kind, cluster-wide.
    fn kube_bind(&self, kind: &str) -> Api<DynamicObject> {
        object::api(&self.admin, &kube_bind(kind), None)
    }

    /// The requests in the namespace `default`.
    fn requests(&self) -> Api<DynamicObject> {
        requests(&self.admin)
    }

    /// The `APIBinding`s.
    fn bindings(&self) -> Api<DynamicObject> {
        object::api(&self.admin, &kcp_apis("APIBinding"), None)
    }

    /// Waits until the backend has said that a new consumer has not been heard yet: its last write of a bind.
    async fn awaits_heartbeat(&self, namespace: &str) -> Result<()> {
        let bindings = object::api(&self.admin, &kube_bind("ClusterBinding"), Some(namespace));
        let what = "the backend to wait for the first heartbeat";
        object::wait_for(&bindings, "cluster", what, SOON, |binding| {
            let expected = json!({
                "type": "Healthy", "status": "False", "severity": "Info",
                "reason": "FirstHeartbeatPending", "message": "Waiting for first heartbeat",
            });
            says(binding, &expected)
        })
        .await?;
        Ok(())
    }

    /// Accepts or rejects the permission claims of these resources; all of them if none is named.
    async fn decide(&self, resources: &[&str], state: &str) -> Result<()> {
        let mut claims = self.bindings().get(EXPORT).await?.data["spec"]["permissionClaims"].take();
        for claim in claims.as_array_mut().context("no claims")? {
            let name = claim["resource"].as_str().unwrap_or_default();
            if resources.is_empty() || resources.contains(&name) {
                claim["state"] = Value::from(state);
            }
        }
        let patch = json!({"spec": {"permissionClaims": claims}});
        object::merge_patch(&self.bindings(), EXPORT, &patch, false).await?;
        Ok(())
    }

    /// What the backend wrote here since `mark`, once it has come to rest.
    async fn writes(&self, provider: &Provider, mark: Mark) -> Result<Vec<Request>> {
        let filter = Filter::backend().cluster(&self.workspace.cluster);
        let log = provider.kcp.audit();
        let mut requests = log.quiet(mark, &filter, PAUSE, SOON, |_| false).await?;
        requests.retain(Request::is_write);
        Ok(requests)
    }
}

fn requests(admin: &Client) -> Api<DynamicObject> {
    object::api(admin, &kube_bind("BindableResourcesRequest"), Some("default"))
}

/// Fails unless the requests are these, each as `<verb> <resource> <object>` with a success code.
fn expect_requests(requests: &[Request], expected: &[&str]) -> Result<()> {
    let seen: Vec<String> = requests
        .iter()
        .map(|r| {
            let failed = if r.code < 300 { String::new() } else { format!(" -> {}", r.code) };
            format!("{} {} {}{failed}", r.verb, r.resource, r.object)
        })
        .collect();
    anyhow::ensure!(
        seen == expected,
        "expected {expected:?}, but the backend sent:\n{}",
        audit::listing(requests)
    );
    Ok(())
}

/// A condition without its time, to be compared as a whole; null where it is missing.
fn condition(object: &DynamicObject, kind: &str) -> Value {
    let mut condition = object::condition(object, kind).cloned().unwrap_or_default();
    if let Some(fields) = condition.as_object_mut() {
        fields.remove("lastTransitionTime");
    }
    condition
}

/// Whether a condition is this one, apart from its time; else what the conditions are.
fn says(object: &DynamicObject, expected: &Value) -> Result<(), String> {
    let kind = expected["type"].as_str().unwrap_or_default();
    let found = condition(object, kind);
    if found == *expected { Ok(()) } else { Err(format!("{kind} is {found}, not {expected}")) }
}

/// Waits until a request is pending with `Ready` False for this reason. Returns it.
async fn refused(admin: &Client, name: &str, reason: &str) -> Result<DynamicObject> {
    let what = format!("BindableResourcesRequest {name} to be refused as {reason}");
    object::wait_for(&requests(admin), name, &what, SOON, |request| {
        let ready = condition(request, "Ready");
        let phase = &request.data["status"]["phase"];
        if ready["status"] == "False" && ready["reason"] == reason && phase == "Pending" {
            Ok(())
        } else {
            Err(object::summary(request))
        }
    })
    .await
}

/// Ends a test: quotes the backend's log if it failed, else stops the backend, which must end well.
async fn end(mut provider: Provider, outcome: Result<()>) -> Result<()> {
    match outcome {
        Ok(()) => provider.backend.stop().await,
        Err(error) => Err(provider.backend.fail(format!("{error:#}"))),
    }
}
