//! Schemas that change (contract konnector.md 3 and objects.md 5): who follows, how far, and that consumers beside it
//! notice nothing.

mod limits;
mod sources;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::driver::{Consumer, Event, Watches};
use e2e::kubernetes::Kubernetes;
use e2e::object::{self, kube_bind};
use e2e::provider;
use e2e::service::{self, Source, VERSION, request_spec, version};
use e2e::{dirs, stack};
use futures::FutureExt as _;
use kube::Client;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use crate::Test;
use crate::suite::said::{
    self, Bystander, EXPORT, HASH, Held, Place, SOON, annotation, cowboys, definitions, expire,
    horses, wait_source,
};

const SCHEMA: &str = "BoundSchema";
/// Of a request for `cowboys`, and so of its export.
const NAME: &str = "cow";
/// How long nothing must happen.
const QUIET: Duration = Duration::from_secs(3);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("schemas::a_change_reaches_those_who_follow_and_no_one_else", || on_kcp().boxed()),
        ("schemas::a_change_reaches_followers_on_kubernetes_too", || on_kubernetes().boxed()),
        ("schemas::the_version_that_consumers_sync_stays_first_or_the_schema_is_held", || {
            versions().boxed()
        }),
        ("schemas::a_source_that_goes_is_said_and_followed_when_it_comes_again", || {
            sources::source_goes().boxed()
        }),
        ("schemas::a_conversion_webhook_reaches_no_consumer", || sources::webhook().boxed()),
        ("schemas::sixty_four_versions_are_served", || limits::many_versions().boxed()),
        ("schemas::a_schema_that_is_too_large_waits_until_it_is_smaller_and_harms_no_one", || {
            limits::too_large().boxed()
        }),
        ("schemas::a_schema_is_made_again_and_its_status_is_the_consumers", || repaired().boxed()),
        ("schemas::of_several_api_resource_schemas_the_newest_is_followed", || {
            sources::newest().boxed()
        }),
    ]
}

/// A version whose schema has one more field.
fn with_field(mut version: Value, field: &str) -> Value {
    version["schema"]["openAPIV3Schema"]["properties"][field] = json!({"type": "string"});
    version
}

fn unserved(mut version: Value) -> Value {
    version["served"] = json!(false);
    version
}

/// Gives the CRD of `cowboys` other versions.
async fn change(admin: &Client, versions: &[Value]) -> Result<()> {
    let patch = json!({"spec": {"versions": versions}});
    let name = cowboys().name();
    let changed = object::merge_patch(&definitions(admin), &name, &patch, false).await;
    changed.map(drop).context("changing the CRD")
}

/// A consumer whose schema of `cowboys` follows its source.
struct Follower {
    consumer: Consumer,
    watches: Watches,
}

impl Follower {
    async fn new(admin: &Client) -> Result<Self> {
        Self::asking(admin, VERSION).await
    }

    /// The same for a source without the usual version.
    async fn asking(admin: &Client, version: &str) -> Result<Self> {
        let consumer = said::consumer(admin, "follower").await?;
        let wanted = [SCHEMA, EXPORT].map(|kind| (kube_bind(kind), Some(consumer.namespace())));
        let watches = Watches::open(admin, &wanted).await?;
        consumer.request_export(NAME, &always(version)).await?.succeeded()?;
        Ok(Self { consumer, watches })
    }

    async fn export(&self) -> Result<DynamicObject> {
        Ok(self.consumer.kube_bind(EXPORT).get(NAME).await?)
    }

    async fn schema(&self) -> Result<DynamicObject> {
        Ok(self.consumer.kube_bind(SCHEMA).get(&cowboys().name()).await?)
    }

    /// Waits until the schema has these versions and the export its hash, in this order; nothing else of the export's
    /// own has changed.
    async fn follows(&self, mark: usize, versions: &[Value]) -> Result<()> {
        let versions = json!(versions);
        let changed = |event: &Event| event.object.data["spec"]["versions"] == versions;
        let what = "the changed schema";
        let schema = self.watches.wait_for(mark, SCHEMA, what, SOON, changed).await?;
        let hash = annotation(&schema.object, HASH)?;
        let noted = |event: &Event| annotation(&event.object, HASH).is_ok_and(|seen| seen == hash);
        let what = "the export's hash";
        let export = self.watches.wait_for(mark, EXPORT, what, SOON, noted).await?;
        // Both are of one store, so their resource versions are comparable.
        let (first, second) = (revision(&schema.object)?, revision(&export.object)?);
        ensure!(first < second, "the export was changed at {second}, its schema at {first}");
        // A new generation would make the konnector start anew.
        ensure!(export.object.metadata.generation == Some(1), "the export's spec has changed");
        let now = self.schema().await?;
        ensure!(now.data["spec"]["versions"] == versions, "the schema was changed back");
        ensure!(annotation(&self.export().await?, HASH)? == hash, "the hash was changed back");
        Ok(())
    }

    /// Changes the source; the schema follows and gets `expected`.
    async fn change(&self, admin: &Client, versions: &[Value], expected: &[Value]) -> Result<()> {
        let mark = self.watches.mark();
        change(admin, versions).await?;
        self.follows(mark, expected).await
    }

    /// Changes the source; the schema and the export's hash stay, and the export says why.
    async fn holds(&self, admin: &Client, versions: &[Value], held: &Held) -> Result<()> {
        let (schema, export) = (self.schema().await?, self.export().await?);
        change(admin, versions).await?;
        wait_source(&self.consumer, NAME, Some(held)).await?;
        self.unchanged(&schema, &export).await
    }

    /// Whether the schema and what the konnector sees of the export are what they were.
    async fn unchanged(&self, schema: &DynamicObject, export: &DynamicObject) -> Result<()> {
        let now = self.schema().await?;
        ensure!(serde_json::to_value(schema)? == serde_json::to_value(now)?, "the schema changed");
        let now = self.export().await?;
        ensure!(now.data["spec"] == export.data["spec"], "the export's spec changed");
        ensure!(now.metadata.annotations == export.metadata.annotations, "its annotations changed");
        Ok(())
    }
}

/// The spec of a request whose schema follows its source.
fn always(version: &str) -> Value {
    let mut spec = request_spec(&[&cowboys()], &[]);
    spec["schemaUpdatePolicy"] = json!("Always");
    spec["resources"][0]["versions"] = json!([version]);
    spec
}

fn revision(object: &DynamicObject) -> Result<u64> {
    Ok(object.metadata.resource_version.as_deref().context("no resourceVersion")?.parse()?)
}

async fn on_kcp() -> Result<()> {
    let mut place = Place::new("schemas-policies", Source::Crds).await?;
    let admin = place.admin.clone();
    let walked = policies(&admin, &mut place.provider.backend).await;
    walked.map_err(|error| place.fail(&error))
}

async fn on_kubernetes() -> Result<()> {
    // Of its own: each backend would also serve the consumers of other tests.
    let name = stack::unique("schemas-kubernetes");
    let kubernetes = Kubernetes::start(&dirs::fresh(&name)?).await?;
    let admin = kubernetes.client().await?;
    let mut flags = provider::install(&kubernetes, &name).await?;
    flags.extend(provider::NAMESPACED.iter().map(|flag| (*flag).to_owned()));
    let mut backend = Backend::start(&name, flags).await?;
    let walked = policies(&admin, &mut backend).await;
    walked.map_err(|error| backend.fail(format!("{error:#}")))?;
    backend.stop().await?;
    kubernetes.kill().await
}

/// Never and Always: at once, after the request is gone, and for what changed while no backend ran.
async fn policies(admin: &Client, backend: &mut Backend) -> Result<()> {
    let never = Bystander::new(admin, &cowboys()).await?;
    let follower = Follower::new(admin).await?;
    let with = |field: &str| [with_field(version(VERSION, true), field)];
    follower.change(admin, &with("hat"), &with("hat")).await.context("at once")?;
    never.unaffected().await?;

    expire(admin, &follower.consumer, NAME).await?;
    follower.change(admin, &with("boots"), &with("boots")).await.context("without the request")?;
    never.unaffected().await?;

    backend.stop().await?;
    let (schema, export) = (follower.schema().await?, follower.export().await?);
    let mark = follower.watches.mark();
    change(admin, &with("lasso")).await?;
    follower.unchanged(&schema, &export).await?;
    backend.restart().await?;
    follower.follows(mark, &with("lasso")).await.context("after a restart")?;
    never.unaffected().await
}

async fn versions() -> Result<()> {
    let mut place = Place::new("schemas-versions", Source::Crds).await?;
    let admin = place.admin.clone();
    let never = Bystander::new(&admin, &cowboys()).await?;
    let follower = Follower::new(&admin).await?;
    let walked = around_the_first(&admin, &follower).await;
    walked.map_err(|error| place.fail(&error))?;
    never.unaffected().await?;

    // It is dropped, once nothing is stored in it.
    let (old, new) = (version(VERSION, false), version("v1beta1", true));
    let both = [new.clone(), old.clone()];
    let expected = [old.clone(), new.clone()];
    follower.change(&admin, &both, &expected).await.context("another storage version")?;
    let stored = json!({"status": {"storedVersions": ["v1beta1"]}});
    object::merge_patch(&definitions(&admin), &cowboys().name(), &stored, true).await?;
    let dropped = dropped();
    follower.holds(&admin, &[new], &dropped).await.map_err(|error| place.fail(&error))?;
    let (schema, export) = (follower.schema().await?, follower.export().await?);
    place.provider.backend.stop().await?;
    place.provider.backend.restart().await?;
    // A newcomer who asks for what is there now is served; the other's schema is still held.
    let newcomer = Follower::asking(&admin, "v1beta1").await?;
    let served = newcomer.schema().await?;
    ensure!(served.data["spec"]["versions"] == json!([version("v1beta1", true)]));
    wait_source(&follower.consumer, NAME, Some(&dropped)).await?;
    follower.unchanged(&schema, &export).await.context("after a restart")?;
    change(&admin, &both).await?;
    wait_source(&follower.consumer, NAME, None).await.map_err(|error| place.fail(&error))?;
    never.unaffected().await
}

fn dropped() -> Held {
    let start = format!("{} no longer serves {VERSION}, the version that", cowboys().name());
    Held::new("FirstServedVersionDropped", start)
}

/// Versions come behind and in front of the one that consumers sync, and that is not served for a while.
async fn around_the_first(admin: &Client, follower: &Follower) -> Result<()> {
    let first = version(VERSION, true);
    let other = |name| version(name, false);
    let behind = [first.clone(), other("v1beta1")];
    follower.change(admin, &behind, &behind).await.context("one behind")?;
    let front = [other("v2"), first.clone(), other("v1beta1")];
    let expected = [first.clone(), other("v2"), other("v1beta1")];
    follower.change(admin, &front, &expected).await.context("one in front")?;
    let last = [other("v2"), other("v1beta1"), with_field(first.clone(), "hat")];
    let expected = [with_field(first.clone(), "hat"), other("v2"), other("v1beta1")];
    follower.change(admin, &last, &expected).await.context("the last")?;

    let held = [other("v2"), unserved(first.clone())];
    follower.holds(admin, &held, &dropped()).await.context("not served")?;
    let again = [other("v2"), with_field(first.clone(), "boots")];
    let expected = [with_field(first, "boots"), other("v2")];
    follower.change(admin, &again, &expected).await.context("served again")?;
    wait_source(&follower.consumer, NAME, None).await.map(drop)
}

async fn repaired() -> Result<()> {
    let place = Place::new("schemas-repaired", Source::Crds).await?;
    let admin = &place.admin;
    let outcome = async {
        let bystander = Bystander::new(admin, &horses()).await?;
        service::establish(admin, &[cowboys().crd()]).await?;
        let follower = Follower::new(admin).await?;
        let consumer = &follower.consumer;
        let (before, export) = (follower.schema().await?, follower.export().await?);
        let name = cowboys().name();
        let schemas = object::api(admin, &kube_bind(SCHEMA), Some(consumer.namespace()));
        let mark = follower.watches.mark();
        schemas.delete(&name, &DeleteParams::default()).await?;
        let made = |event: &Event| event.object.metadata.uid != before.metadata.uid;
        let what = "another BoundSchema";
        let made = follower.watches.wait_for(mark, SCHEMA, what, SOON, made).await?.object;
        ensure!(made.data["spec"] == before.data["spec"], "another spec");
        let (made, old) = (&made.metadata, &before.metadata);
        ensure!(made.owner_references == old.owner_references, "{:?}", made.owner_references);
        ensure!(made.labels == old.labels && made.annotations == old.annotations, "{made:?}");
        object::wait_for(&consumer.kube_bind(EXPORT), NAME, "ProviderInSync", SOON, |export| {
            object::expect_condition(export, "ProviderInSync", "True")
        })
        .await?;
        ensure!(follower.export().await?.metadata.annotations == export.metadata.annotations);

        // The status is the consumer's; it wakes no one.
        let mark =
            follower.watches.quiet(0, EXPORT, QUIET, SOON).await.map(|events| events.len())?;
        for round in ["one", "two"] {
            let condition = json!({
                "type": "Established", "status": "False", "severity": "Error", "reason": round,
                "message": round, "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            let status = json!({"status": {"conditions": [condition]}});
            object::merge_patch(&consumer.kube_bind(SCHEMA), &name, &status, true).await?;
        }
        let events = follower.watches.quiet(0, EXPORT, QUIET, SOON).await?;
        ensure!(events.len() == mark, "{} events of the export", events.len() - mark);
        let schema = follower.schema().await?;
        let reason = &schema.data["status"]["conditions"][0]["reason"];
        ensure!(*reason == "two", "the consumer's status is {reason}");
        let change = [with_field(version(VERSION, true), "hat")];
        follower.change(admin, &change, &change).await?;
        let schema = follower.schema().await?;
        let reason = &schema.data["status"]["conditions"][0]["reason"];
        ensure!(*reason == "two", "the consumer's status is {reason} after a change");
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}
