//! What requests and exports say, as whole conditions, and bystanders: consumers that must not notice what a test does.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::driver::{Consumer, Settings, Use};
use e2e::kcp::Claims;
use e2e::object::{self, kube_bind};
use e2e::provider::Provider;
use e2e::service::{self, Exported, GROUP, Scope, Source};
use e2e::stack;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// For what the backend does at an event.
pub(crate) const SOON: Duration = Duration::from_mins(2);
/// For what it finds out by trying again.
pub(crate) const RETRIED: Duration = Duration::from_mins(4);
/// The kind that consumers create.
pub(crate) const REQUEST: &str = "APIServiceExportRequest";
/// The kind that the backend makes of it.
pub(crate) const EXPORT: &str = "APIServiceExport";

/// The annotation with the hash of a schema, or of those of an export.
pub(crate) const HASH: &str = "kube-bind.io/source-spec-hash";

/// A namespaced resource.
pub(crate) fn cowboys() -> Exported {
    Exported::of(GROUP, Scope::Namespaced)
}

/// A cluster-scoped one.
pub(crate) fn sheriffs() -> Exported {
    Exported::of(GROUP, Scope::Cluster)
}

/// Another namespaced one.
pub(crate) fn horses() -> Exported {
    Exported { plural: "horses", kind: "Horse", ..cowboys() }
}

/// What a request without an export says.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    phase: &'static str,
    condition: &'static str,
    reason: &'static str,
    start: String,
}

impl Said {
    /// Failed for good.
    pub(crate) fn failed(
        condition: &'static str,
        reason: &'static str,
        start: impl Into<String>,
    ) -> Self {
        Self { phase: "Failed", condition, reason, start: start.into() }
    }

    /// Waits for something.
    pub(crate) fn pending(reason: &'static str, start: impl Into<String>) -> Self {
        Self { phase: "Pending", condition: "ExportsReady", reason, start: start.into() }
    }

    /// Whether a request says this and nothing else: phase, both conditions whole, and the terminal message.
    pub(crate) fn check(&self, request: &DynamicObject) -> Result<(), String> {
        let status = &request.data["status"];
        let conditions = timeless(request);
        let message = conditions[0]["message"].as_str().unwrap_or_default();
        let whole = |kind: &str| {
            json!({
                "type": kind, "status": "False", "severity": "Error", "reason": self.reason,
                "message": message,
            })
        };
        let expected = json!([whole("Ready"), whole(self.condition)]);
        let terminal = if self.phase == "Failed" { json!(message) } else { Value::Null };
        let right = conditions == expected
            && status["phase"] == self.phase
            && status["terminalMessage"] == terminal
            && message.starts_with(&self.start)
            // The message tells the next step, too.
            && message.len() > self.start.len()
            && !message.contains('%');
        if right { Ok(()) } else { Err(format!("not {self:?}: {status}")) }
    }

    /// Waits until a request says this.
    pub(crate) async fn wait(&self, consumer: &Consumer, name: &str) -> Result<DynamicObject> {
        let what = format!("{} of the request {name}", self.reason);
        object::wait_for(&consumer.kube_bind(REQUEST), name, &what, SOON, |request| {
            self.check(request)
        })
        .await
    }
}

/// Waits until a request has succeeded and says nothing else.
pub(crate) async fn succeeds(
    consumer: &Consumer,
    name: &str,
    deadline: Duration,
) -> Result<DynamicObject> {
    let what = format!("the request {name} to succeed");
    object::wait_for(&consumer.kube_bind(REQUEST), name, &what, deadline, |request| {
        let status = &request.data["status"];
        let right = |kind: &str| json!({"type": kind, "status": "True"});
        let expected = json!([right("Ready"), right("ExportsReady")]);
        let well = status["phase"] == "Succeeded"
            && timeless(request) == expected
            && status["terminalMessage"].is_null();
        if well { Ok(()) } else { Err(status.to_string()) }
    })
    .await
}

/// The conditions of an object without their times.
pub(crate) fn timeless(object: &DynamicObject) -> Value {
    let mut conditions = object.data["status"]["conditions"].clone();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    conditions
}

/// What `SourceInSync` of an export says where the schema does not follow its source.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    reason: &'static str,
    start: String,
}

impl Held {
    /// Why a schema does not follow.
    pub(crate) fn new(reason: &'static str, start: impl Into<String>) -> Self {
        Self { reason, start: start.into() }
    }
}

/// Waits until all conditions of an export of ours are these: the schema is there, and is `held` or in sync again.
pub(crate) async fn wait_source(
    consumer: &Consumer,
    export: &str,
    held: Option<&Held>,
) -> Result<DynamicObject> {
    let what = format!("SourceInSync of the export {export}");
    object::wait_for(&consumer.kube_bind(EXPORT), export, &what, SOON, |export| {
        let conditions = timeless(export);
        let said = object::condition(export, "SourceInSync").cloned().unwrap_or_default();
        let message = said["message"].as_str().unwrap_or_default();
        let source = match held {
            None => json!({"type": "SourceInSync", "status": "True"}),
            Some(held) => json!({
                "type": "SourceInSync", "status": "False", "severity": "Warning",
                "reason": held.reason, "message": message,
            }),
        };
        let expected = json!([{"type": "ProviderInSync", "status": "True"}, source]);
        let start = held.map_or("", |held| held.start.as_str());
        let right = conditions == expected && message.starts_with(start) && !message.contains('%');
        if right { Ok(()) } else { Err(format!("not {held:?}: {conditions}")) }
    })
    .await
}

/// A workspace with one backend of its own.
pub(crate) struct Place {
    /// The backend and its export.
    pub(crate) provider: Provider,
    /// Who may do everything in the workspace.
    pub(crate) admin: Client,
}

impl Place {
    /// One whose backend keeps consumers apart and takes schemas from `source`. Nothing is exported there yet.
    pub(crate) async fn new(name: &str, source: Source) -> Result<Self> {
        Self::with(name, Settings::APART, source).await
    }

    /// The same with other settings.
    pub(crate) async fn with(name: &str, settings: Settings, source: Source) -> Result<Self> {
        let [scope, isolation] = settings.flags();
        let provider = Provider::start(name, &[&scope, &isolation, source.flag()]).await?;
        let workspace = provider.tenant(name, Claims::All).await?;
        let admin = provider.kcp.client(&workspace.cluster).await?;
        Ok(Self { provider, admin })
    }

    /// Exports `cowboys` and `sheriffs` from CRDs, and binds a bystander to them.
    pub(crate) async fn wild_west(name: &str) -> Result<(Self, Bystander)> {
        let place = Self::new(name, Source::Crds).await?;
        let [cowboys, sheriffs] = Exported::all(GROUP);
        service::establish(&place.admin, &[sheriffs.crd()]).await?;
        let bystander = Bystander::new(&place.admin, &cowboys).await?;
        Ok((place, bystander))
    }

    /// A new consumer.
    pub(crate) async fn consumer(&self, name: &str) -> Result<Consumer> {
        consumer(&self.admin, name).await
    }

    /// An error that quotes the end of the backend's log.
    pub(crate) fn fail(&self, error: &anyhow::Error) -> anyhow::Error {
        self.provider.backend.fail(format!("{error:#}"))
    }
}

/// Binds a new consumer.
pub(crate) async fn consumer(admin: &Client, name: &str) -> Result<Consumer> {
    let name = stack::unique(name);
    Ok(binding::bind(admin, &Request::new(&name, &name)).await?.consumer)
}

/// A consumer with an export that must stay as it is to the byte.
pub(crate) struct Bystander {
    consumer: Consumer,
    before: Vec<Value>,
}

impl Bystander {
    /// Makes the CRD and the export.
    pub(crate) async fn new(admin: &Client, exported: &Exported) -> Result<Self> {
        service::establish(admin, &[exported.crd()]).await?;
        let consumer = consumer(admin, "bystander").await?;
        let usage = consumer.take_up("bystander", Settings::APART, exported, &["Secret"]).await?;
        Self::of(&usage).await
    }

    /// Of a use that exists: from now on it is one.
    pub(crate) async fn of(usage: &Use) -> Result<Self> {
        let consumer = usage.consumer.clone();
        let settled = json!([{"type": "ProviderInSync", "status": "True"}]);
        let exports = consumer.kube_bind(EXPORT);
        object::wait_for(&exports, usage.export.name(), "its conditions", SOON, |export| {
            let conditions = timeless(export);
            if conditions == settled { Ok(()) } else { Err(conditions.to_string()) }
        })
        .await?;
        let before = belongings(&consumer).await?;
        Ok(Self { consumer, before })
    }

    /// Whether its exports and schemas are what they were, to the byte.
    pub(crate) async fn unaffected(&self) -> Result<()> {
        let now = belongings(&self.consumer).await?;
        ensure!(now == self.before, "before: {:#?}\nnow: {now:#?}", self.before);
        Ok(())
    }
}

/// All exports and schemas of a consumer.
async fn belongings(consumer: &Consumer) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for kind in [EXPORT, "BoundSchema"] {
        let list = consumer.kube_bind(kind).list(&ListParams::default()).await?;
        ensure!(!list.items.is_empty(), "no {kind}");
        for object in list.items {
            all.push(serde_json::to_value(object)?);
        }
    }
    Ok(all)
}

/// Sets back the time since when a request has been what it is: the clock of its expiry.
pub(crate) async fn age(
    admin: &Client,
    consumer: &Consumer,
    name: &str,
    seconds: i64,
) -> Result<i64> {
    let requests = object::api(admin, &kube_bind(REQUEST), Some(consumer.namespace()));
    let request = requests.get(name).await?;
    let since = jiff::Timestamp::now().as_second() - seconds;
    let time = jiff::Timestamp::from_second(since)?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut conditions = request.data["status"]["conditions"].clone();
    let list = conditions.as_array_mut().context("no conditions")?;
    ensure!(!list.is_empty(), "no condition");
    for condition in list {
        condition["lastTransitionTime"] = json!(time);
    }
    let patch = json!({"status": {"conditions": conditions}});
    object::merge_patch(&requests, name, &patch, true).await?;
    Ok(since)
}

/// Lets the ten minutes of a request that succeeded end in a few seconds, and waits until the backend has deleted it.
pub(crate) async fn expire(admin: &Client, consumer: &Consumer, name: &str) -> Result<()> {
    const LIFE: i64 = 600;
    let since = age(admin, consumer, name, LIFE - 4).await?;
    object::wait_gone(&consumer.kube_bind(REQUEST), name).await?;
    let lived = jiff::Timestamp::now().as_second() - since;
    ensure!(lived >= LIFE, "the request {name} was deleted after {lived} s");
    Ok(())
}

/// The names of all requests of a consumer with their resource versions.
pub(crate) async fn requests(consumer: &Consumer) -> Result<BTreeSet<(String, String)>> {
    let list = consumer.kube_bind(REQUEST).list(&ListParams::default()).await?;
    let named = list.items.into_iter().map(|request| {
        let metadata = request.metadata;
        (metadata.name.unwrap_or_default(), metadata.resource_version.unwrap_or_default())
    });
    Ok(named.collect())
}

/// CRDs of a cluster.
pub(crate) fn definitions(admin: &Client) -> Api<DynamicObject> {
    object::api(admin, &object::crd(), None)
}

/// An annotation of an object.
pub(crate) fn annotation<'a>(object: &'a DynamicObject, key: &str) -> Result<&'a str> {
    let annotations = object.metadata.annotations.as_ref();
    let value = annotations.and_then(|annotations| annotations.get(key));
    value.map(String::as_str).with_context(|| format!("no annotation {key}"))
}
