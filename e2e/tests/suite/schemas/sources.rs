//! Sources that go and come, convert by a webhook, or are several.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use e2e::manifest;
use e2e::object;
use e2e::service::{self, Exported, Source, VERSION, request_spec, version};
use kube::Client;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{Follower, NAME, SCHEMA, always, change, with_field};
use crate::suite::said::{
    self, Bystander, Held, Place, SOON, Said, annotation, cowboys, definitions, horses, succeeds,
    wait_source,
};

/// Which source a schema equals.
const SOURCE: &str = "backend.kube-bind.io/source";

pub(super) async fn source_goes() -> Result<()> {
    let place = Place::new("schemas-gone", Source::Crds).await?;
    let admin = &place.admin;
    let outcome = async {
        let bystander = Bystander::new(admin, &horses()).await?;
        service::establish(admin, &[cowboys().crd()]).await?;
        let follower = Follower::new(admin).await?;
        let never = said::consumer(admin, "never").await?;
        never.request_export(NAME, &request_spec(&[&cowboys()], &[])).await?.succeeded()?;
        let name = cowboys().name();
        let kept = never.kube_bind(SCHEMA).get(&name).await?;
        let start = format!("there is no CustomResourceDefinition for {name} with the label");
        let held = Held::new("SchemaNotFound", start);
        let both = [&follower.consumer, &never];

        let crds = definitions(admin);
        for value in ["false", "true"] {
            let label = json!({"metadata": {"labels": {"kube-bind.io/exported": value}}});
            object::merge_patch(&crds, &name, &label, false).await?;
            for consumer in both {
                let held = (value == "false").then_some(&held);
                wait_source(consumer, NAME, held).await.context("the label")?;
            }
        }
        let (schema, export) = (follower.schema().await?, follower.export().await?);
        manifest::delete_crd(admin, &name).await?;
        for consumer in both {
            wait_source(consumer, NAME, Some(&held)).await.context("the source is gone")?;
        }
        follower.unchanged(&schema, &export).await?;

        let mark = follower.watches.mark();
        let changed = with_field(version(VERSION, true), "hat");
        let mut again = cowboys().crd();
        again["spec"]["versions"] = json!([changed]);
        service::establish(admin, &[again]).await?;
        follower.follows(mark, &[changed]).await.context("the source is there again")?;
        for consumer in both {
            wait_source(consumer, NAME, None).await.context("the source is there again")?;
        }
        let uid = crds.get(&name).await?.metadata.uid.context("no UID")?;
        let schema = follower.schema().await?;
        ensure!(annotation(&schema, SOURCE)?.starts_with(&uid), "another source is noted");
        let now = never.kube_bind(SCHEMA).get(&name).await?;
        ensure!(serde_json::to_value(kept)? == serde_json::to_value(now)?, "Never is not never");
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}

pub(super) async fn webhook() -> Result<()> {
    let place = Place::new("schemas-webhook", Source::Crds).await?;
    let admin = &place.admin;
    let outcome = async {
        let bystander = Bystander::new(admin, &horses()).await?;
        let name = cowboys().name();
        let client = json!({"url": "https://webhook.example.org/convert"});
        let webhook = json!({"clientConfig": client, "conversionReviewVersions": ["v1"]});
        let webhook = json!({"strategy": "Webhook", "webhook": webhook});
        let mut crd = cowboys().crd();
        crd["spec"]["conversion"] = webhook.clone();
        service::establish(admin, &[crd]).await?;
        let start = format!("{name} converts its versions by a webhook, which consumer clusters");

        let consumer = said::consumer(admin, "early").await?;
        consumer.submit(NAME, &always(VERSION)).await?;
        let said = Said::pending("ConversionUnsupported", start.clone());
        said.wait(&consumer, NAME).await?;
        ensure!(consumer.bundle_view().await?.is_empty(), "a refused request made an export");
        let crds = definitions(admin);
        let none = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}});
        object::merge_patch(&crds, &name, &none, false).await?;
        succeeds(&consumer, NAME, SOON).await?;

        let follower = Follower::new(admin).await?;
        let (schema, export) = (follower.schema().await?, follower.export().await?);
        let patch = json!({"spec": {"conversion": webhook}});
        object::merge_patch(&crds, &name, &patch, false).await?;
        let held = Held::new("ConversionUnsupported", start);
        wait_source(&follower.consumer, NAME, Some(&held)).await?;
        change(admin, &[with_field(version(VERSION, true), "hat")]).await?;
        wait_source(&consumer, NAME, Some(&held)).await?;
        follower.unchanged(&schema, &export).await?;
        let mark = follower.watches.mark();
        object::merge_patch(&crds, &name, &none, false).await?;
        follower.follows(mark, &[with_field(version(VERSION, true), "hat")]).await?;
        wait_source(&follower.consumer, NAME, None).await?;
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}

/// Makes a labelled schema of `cowboys` with one more field; gives the versions that a consumer gets.
async fn offer(admin: &Client, exported: &Exported, prefix: &str, field: &str) -> Result<Value> {
    let mut crd = exported.crd();
    crd["spec"]["versions"] = json!([with_field(version(VERSION, true), field)]);
    let schema = service::api_resource_schema(&crd, prefix, true);
    let versions = schema["spec"]["versions"].clone();
    object::create(admin, &object::schemas(), None, schema).await?;
    Ok(versions)
}

pub(super) async fn newest() -> Result<()> {
    let place = Place::new("schemas-newest", Source::Schemas).await?;
    let admin = &place.admin;
    let outcome = async {
        let early = said::consumer(admin, "early").await?;
        early.submit(NAME, &always(VERSION)).await?;
        let nothing = Said::pending("SchemaNotFound", "Schema not found; the provider offers");
        nothing.wait(&early, NAME).await?;
        let first = offer(admin, &cowboys(), "today", "hat").await?;
        succeeds(&early, NAME, SOON).await?;
        let follower = Follower::new(admin).await?;
        ensure!(follower.schema().await?.data["spec"]["versions"] == first, "not the source");
        let never = said::consumer(admin, "never").await?;
        never.request_export(NAME, &request_spec(&[&cowboys()], &[])).await?.succeeded()?;
        let name = cowboys().name();
        let kept = never.kube_bind(SCHEMA).get(&name).await?;

        // Of another resource, and then a newer one of this.
        offer(admin, &horses(), "tomorrow", "bridle").await?;
        let mark = follower.watches.mark();
        let second = offer(admin, &cowboys(), "tomorrow", "boots").await?;
        let list = |versions: &Value| versions.as_array().cloned().unwrap_or_default();
        follower.follows(mark, &list(&second)).await.context("a newer schema")?;
        let mark = follower.watches.mark();
        let schemas = object::api(admin, &object::schemas(), None);
        schemas.delete(&format!("tomorrow.{name}"), &DeleteParams::default()).await?;
        follower.follows(mark, &list(&first)).await.context("the newer schema is gone")?;
        schemas.delete(&format!("today.{name}"), &DeleteParams::default()).await?;
        let start = format!("there is no APIResourceSchema for {name} with the label");
        let held = Held::new("SchemaNotFound", start);
        for consumer in [&follower.consumer, &early, &never] {
            wait_source(consumer, NAME, Some(&held)).await?;
        }
        let now = never.kube_bind(SCHEMA).get(&name).await?;
        ensure!(serde_json::to_value(kept)? == serde_json::to_value(now)?, "Never is not never");
        let names: BTreeSet<_> = follower.consumer.bundle_view().await?;
        ensure!(names == BTreeSet::from([NAME.to_owned()]), "{names:?}");
        Ok(())
    };
    outcome.await.map_err(|error| place.fail(&error))
}
