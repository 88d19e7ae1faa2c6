//! How requests end or wait (contract objects.md 3, design section 5): each outcome with its whole conditions, what
//! heals and what does not, while a consumer beside them notices nothing.

mod foreign;
mod pair;
mod templates;

use anyhow::{Context as _, Result, ensure};
use e2e::driver::{self, Consumer, Outcome, Settings};
use e2e::object::{self, kube_bind};
use e2e::service::{self, Exported, Source, claim, request_spec};
use e2e::stack;
use futures::FutureExt as _;
use kube::Client;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::Test;
use crate::suite::said::{
    Bystander, EXPORT, Place, REQUEST, SOON, Said, age, cowboys, definitions, expire, horses,
    requests, sheriffs, succeeds,
};

/// Pairs of requests that race.
const RACES: usize = 4;
const READY: &str = "ExportsReady";
const CLAIM: &str = "PermissionClaim";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("outcomes::what_only_a_new_request_can_mend_fails_for_good", || finals().boxed()),
        ("outcomes::what_the_provider_can_mend_waits_and_goes_on_by_itself", || waits().boxed()),
        ("outcomes::a_rebind_after_ten_minutes_keeps_name_and_export", || rebind().boxed()),
        ("outcomes::a_consumer_of_templates_may_ask_for_what_they_offer", || {
            templates::templates().boxed()
        }),
        ("outcomes::of_two_requests_for_one_resource_one_succeeds", || races().boxed()),
        ("outcomes::foreign_objects_in_the_way_are_said_and_left_alone", || {
            foreign::foreign().boxed()
        }),
        ("outcomes::an_export_of_two_resources_has_both", || pair::two_resources().boxed()),
    ]
}

/// The spec of a request for one resource in these versions.
fn in_versions(exported: &Exported, versions: &[&str]) -> Value {
    let mut spec = request_spec(&[exported], &[]);
    spec["resources"][0]["versions"] = json!(versions);
    spec
}

/// Requests that can never succeed, whatever the provider does: of a consumer that has `cowboys` as `cow`.
fn hopeless() -> Vec<(&'static str, Value, Said)> {
    let (cowboys, sheriffs) = (cowboys(), sheriffs());
    let claiming = |claims: &[Value]| request_spec(&[&sheriffs], claims);
    let mut grouped = claim("secrets");
    grouped["group"] = json!("apps");
    let mut named = request_spec(&[&sheriffs], &[]);
    named["namespaces"] = json!([{"name": "wild-west"}, {"name": "100%d"}]);
    vec![
        (
            "pods",
            claiming(&[claim("secrets"), claim("pods")]),
            Said::failed(
                CLAIM,
                "InvalidPermissionClaim",
                "Resource pods. is not a valid claimable API;",
            ),
        ),
        (
            "group",
            claiming(&[grouped]),
            Said::failed(
                CLAIM,
                "InvalidPermissionClaim",
                "Resource secrets.apps is not a valid claimable API;",
            ),
        ),
        (
            "twice",
            claiming(&[claim("secrets"), claim("configmaps"), claim("secrets")]),
            Said::failed(
                CLAIM,
                "DuplicatePermissionClaim",
                "Duplicate permission claim found for group/resource secrets.;",
            ),
        ),
        (
            "versionless",
            in_versions(&sheriffs, &[]),
            Said::failed(
                READY,
                "NoVersions",
                format!("No versions are given for {};", sheriffs.name()),
            ),
        ),
        (
            "namespace",
            named,
            Said::failed(READY, "InvalidNamespace", "\"100d\" in spec.namespaces is no name"),
        ),
        (
            "scopes",
            request_spec(&[&horses(), &sheriffs], &[]),
            Said::failed(READY, "DifferentScopes", "Different scopes found: Cluster;"),
        ),
        (
            "again",
            request_spec(&[&sheriffs, &cowboys], &[]),
            Said::failed(
                READY,
                "ResourceAlreadyExported",
                format!(
                    "{} is exported already by the APIServiceExport cow; use that one",
                    cowboys.name()
                ),
            ),
        ),
    ]
}

async fn finals() -> Result<()> {
    let (mut place, bystander) = Place::wild_west("outcomes-final").await?;
    let admin = place.admin.clone();
    let horses = horses();
    service::establish(&admin, &[horses.crd()]).await?;
    let consumer = place.consumer("hopeless").await?;
    consumer.take_up("cow", Settings::APART, &cowboys(), &[]).await?;
    for (name, spec, said) in hopeless() {
        let outcome = consumer.request_export(name, &spec).await?;
        said.check(&outcome.request)
            .map_err(|error| place.fail(&anyhow::Error::msg(error).context(name)))?;
    }
    // The name is free again after ten minutes, and taken by the export.
    expire(&admin, &consumer, "cow").await?;
    let other = request_spec(&[&cowboys()], &[claim("secrets")]);
    let outcome = consumer.request_export("cow", &other).await?;
    Said::failed(READY, "ExportConflict", "the APIServiceExport cow exists with other")
        .check(&outcome.request)
        .map_err(anyhow::Error::msg)?;
    ensure!(consumer.bundle_view().await?.into_iter().eq(["cow".to_owned()]));

    // Their time has passed, and the provider has changed whatever was in their way.
    let names: Vec<_> = hopeless().into_iter().map(|(name, ..)| name).chain(["cow"]).collect();
    for name in &names {
        age(&admin, &consumer, name, 3600).await?;
    }
    let before = requests(&consumer).await?;
    ensure!(before.len() == names.len(), "{before:?}");
    let exports = object::api(&admin, &kube_bind(EXPORT), Some(consumer.namespace()));
    exports.delete("cow", &DeleteParams::default()).await?;
    object::wait_gone(&exports, "cow").await?;
    for exported in [horses, sheriffs()] {
        let touched = json!({"metadata": {"annotations": {"e2e": "touched"}}});
        object::merge_patch(&definitions(&admin), &exported.name(), &touched, false).await?;
    }
    let unchanged = async |when: &str| {
        // A newcomer of the same consumer, decided later, shows that the events have been worked on.
        let newcomer = stack::unique("newcomer");
        consumer.submit(&newcomer, &in_versions(&sheriffs(), &[])).await?;
        Said::failed(READY, "NoVersions", "No versions").wait(&consumer, &newcomer).await?;
        let now = requests(&consumer).await?;
        let lost: Vec<_> = before.difference(&now).collect();
        ensure!(lost.is_empty(), "{when}: changed or gone: {lost:?}");
        ensure!(consumer.bundle_view().await?.is_empty(), "{when}: a failed request has an export");
        Ok(())
    };
    unchanged("after changes of the provider").await.map_err(|error| place.fail(&error))?;
    bystander.unaffected().await?;
    place.provider.backend.stop().await?;
    place.provider.backend.restart().await?;
    unchanged("after a restart").await.map_err(|error| place.fail(&error))?;
    bystander.unaffected().await
}

async fn waits() -> Result<()> {
    let place = Place::new("outcomes-wait", Source::Crds).await?;
    let admin = &place.admin;
    let outcome = async {
        let early = place.consumer("early").await?;
        let exported = cowboys();
        early.submit("cow", &request_spec(&[&exported], &[])).await?;
        let nothing = Said::pending("SchemaNotFound", "Schema not found; the provider offers");
        nothing.wait(&early, "cow").await.context("nothing at all is exported")?;
        let mut unlabelled = exported.crd();
        unlabelled["metadata"]["labels"] = json!({"kube-bind.io/exported": "false"});
        service::establish(admin, &[unlabelled]).await?;

        // Another resource is exported: it is the resource that is missing now.
        let bystander = Bystander::new(admin, &horses()).await?;
        let missing = format!("Schema {} not found; the provider offers", exported.name());
        let missing = Said::pending("SchemaNotFound", missing);
        missing.wait(&early, "cow").await.context("the CRD has no label")?;
        ensure!(early.bundle_view().await?.is_empty(), "an export without a schema");
        let label = json!({"metadata": {"labels": {"kube-bind.io/exported": "true"}}});
        object::merge_patch(&definitions(admin), &exported.name(), &label, false).await?;
        succeeds(&early, "cow", SOON).await.context("the CRD is labelled")?;

        let late = place.consumer("late").await?;
        let sheriffs = sheriffs();
        late.submit("star", &request_spec(&[&sheriffs], &[])).await?;
        let missing = format!("Schema {} not found; the provider offers", sheriffs.name());
        Said::pending("SchemaNotFound", missing).wait(&late, "star").await?;
        service::establish(admin, &[sheriffs.crd()]).await?;
        succeeds(&late, "star", SOON).await.context("the CRD is created")?;

        other_versions(&place).await?;
        elsewhere(admin).await?;
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}

/// Versions that are not there or not served; one that is served is enough.
async fn other_versions(place: &Place) -> Result<()> {
    let exported = cowboys();
    let consumer = place.consumer("versions").await?;
    consumer.submit("old", &in_versions(&exported, &["v9", "v10"])).await?;
    let start = format!("Schema {} serves none of the versions asked for;", exported.name());
    let said = Said::pending("SchemaNotFound", start);
    said.wait(&consumer, "old").await.context("no such version")?;
    let mut unserved = service::version("v9", false);
    unserved["served"] = json!(false);
    let (crds, name) = (definitions(&place.admin), exported.name());
    let versions = [service::version(service::VERSION, true), unserved];
    let patch = json!({"spec": {"versions": versions}});
    object::merge_patch(&crds, &name, &patch, false).await?;
    // A later request of another kind is decided, this one still waits.
    consumer.submit("later", &in_versions(&exported, &[])).await?;
    Said::failed(READY, "NoVersions", "No versions").wait(&consumer, "later").await?;
    let requests = consumer.kube_bind(REQUEST);
    said.check(&requests.get("old").await?).map_err(anyhow::Error::msg)?;
    let versions = [service::version(service::VERSION, true), service::version("v9", false)];
    let patch = json!({"spec": {"versions": versions}});
    object::merge_patch(&crds, &name, &patch, false).await?;
    succeeds(&consumer, "old", SOON).await.context("v9 is served").map(drop)
}

/// A request in a namespace that is no contract namespace.
async fn elsewhere(admin: &Client) -> Result<()> {
    let spec = request_spec(&[&cowboys()], &[]);
    let manifest = json!({"metadata": {"name": "stray"}, "spec": spec});
    object::create(admin, &kube_bind(REQUEST), Some("default"), manifest).await?;
    let said = Said::pending("NoContractNamespace", "this namespace is no contract namespace");
    let requests = object::api(admin, &kube_bind(REQUEST), Some("default"));
    object::wait_for(&requests, "stray", "NoContractNamespace", SOON, |r| said.check(r)).await?;
    let exports = object::api(admin, &kube_bind(EXPORT), Some("default"));
    ensure!(exports.get_opt("stray").await?.is_none(), "an export without a contract");
    Ok(())
}

async fn rebind() -> Result<()> {
    let (place, bystander) = Place::wild_west("outcomes-rebind").await?;
    let consumer = place.consumer("faithful").await?;
    let spec = driver::spec(&cowboys(), &["Secret"]);
    let usage = consumer.take_up("cow", Settings::APART, &cowboys(), &["Secret"]).await?;
    let before = Bystander::of(&usage).await?;
    for round in 0..2 {
        expire(&place.admin, &consumer, "cow").await.map_err(|error| place.fail(&error))?;
        let again = consumer.request_export("cow", &spec).await?;
        ensure!(again.name == "cow", "round {round}: the request became {}", again.name);
        again.succeeded()?;
        succeeds(&consumer, "cow", SOON).await?;
        let export = consumer.export("cow").await?;
        ensure!(export.object.metadata.uid == usage.export.object.metadata.uid, "another export");
        before.unaffected().await.with_context(|| format!("round {round}"))?;
    }
    bystander.unaffected().await
}

async fn races() -> Result<()> {
    let (place, bystander) = Place::wild_west("outcomes-races").await?;
    for round in 0..RACES {
        let consumer = place.consumer("racer").await?;
        let spec = request_spec(&[&cowboys()], &[claim("secrets")]);
        let (left, right) = futures::try_join!(
            consumer.request_export("left", &spec),
            consumer.request_export("right", &spec)
        )?;
        let (won, lost) = if left.phase == "Succeeded" { (left, right) } else { (right, left) };
        check_race(&consumer, &won, &lost)
            .await
            .with_context(|| format!("round {round}"))
            .map_err(|error| place.fail(&error))?;
    }
    bystander.unaffected().await
}

async fn check_race(consumer: &Consumer, won: &Outcome, lost: &Outcome) -> Result<()> {
    won.succeeded()?;
    let start = format!(
        "{} is exported already by the APIServiceExport {}; use that one",
        cowboys().name(),
        won.name
    );
    let said = Said::failed(READY, "ResourceAlreadyExported", start);
    said.check(&lost.request).map_err(anyhow::Error::msg)?;
    ensure!(consumer.bundle_view().await?.into_iter().eq([won.name.clone()]));
    // Which also says that the schema belongs to the winner.
    consumer.export(&won.name).await?.check(Settings::APART)
}
