//! Schemas at the limits of what a server stores.

use anyhow::{Context as _, Result, ensure};
use e2e::driver::Settings;
use e2e::object;
use e2e::service::{self, Exported, GROUP, Source, VERSION, request_spec, version};
use kube::Client;
use serde_json::{Value, json};

use super::{Follower, NAME, always, with_field};
use crate::suite::said::{
    self, Bystander, Held, Place, RETRIED, Said, cowboys, definitions, horses, succeeds,
    wait_source,
};

pub(super) async fn many_versions() -> Result<()> {
    let place = Place::new("schemas-many", Source::Crds).await?;
    let bystander = Bystander::new(&place.admin, &horses()).await?;
    let walked = with_many_versions(&place.admin).await;
    walked.map_err(|error| place.fail(&error))?;
    bystander.unaffected().await
}

async fn with_many_versions(admin: &Client) -> Result<()> {
    let versions: Vec<_> = (1..=64).map(|n| version(&format!("v{n}"), n == 1)).collect();
    let mut crd = cowboys().crd();
    crd["spec"]["versions"] = json!(versions);
    service::establish(admin, &[crd]).await?;
    let follower = Follower::asking(admin, "v64").await?;
    let schema = follower.schema().await?;
    ensure!(schema.data["spec"]["versions"] == json!(versions), "not the versions of the source");
    let changed: Vec<_> = versions.into_iter().map(|v| with_field(v, "hat")).collect();
    let mut reversed = changed.clone();
    reversed.reverse();
    let mut expected = reversed.clone();
    expected.rotate_right(1);
    follower.change(admin, &reversed, &expected).await
}

/// A version whose schema has a description of so many bytes.
fn of_size(bytes: usize) -> Value {
    let mut version = version(VERSION, true);
    version["schema"]["openAPIV3Schema"]["description"] = json!("x".repeat(bytes));
    version
}

/// The most bytes of a description with which the server still stores a CRD of the same names' lengths as `cowboys`.
async fn largest(admin: &Client) -> Result<usize> {
    /// Sizes are found out to so many bytes.
    const EXACT: usize = 16;
    let mut plain = Exported { plural: "coyotes", kind: "Coyote", ..cowboys() }.crd();
    plain["metadata"]["labels"] = json!({"kube-bind.io/exported": "false"});
    service::establish(admin, &[plain]).await?;
    let (crds, name) = (definitions(admin), format!("coyotes.{GROUP}"));
    let stored = async |bytes: usize| {
        let patch = json!({"spec": {"versions": [of_size(bytes)]}});
        match object::merge_patch(&crds, &name, &patch, false).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.message.contains("too large") => Ok(false),
            Err(error) => Err(error),
        }
    };
    // Around the 1.5 MiB that etcd takes.
    let (mut fits, mut refused) = (1_500_000, 1_600_000);
    ensure!(stored(fits).await? && !stored(refused).await?, "another limit than expected");
    while refused - fits > EXACT {
        let middle = usize::midpoint(fits, refused);
        if stored(middle).await? { fits = middle } else { refused = middle }
    }
    Ok(fits - EXACT)
}

/// The source is as large as can be; with what belongs to a `BoundSchema` it is too large.
pub(super) async fn too_large() -> Result<()> {
    let place = Place::new("schemas-refused", Source::Crds).await?;
    let admin = &place.admin;
    let outcome = async {
        let bystander = Bystander::new(admin, &horses()).await?;
        let large = of_size(largest(admin).await?);
        service::establish(admin, &[cowboys().crd()]).await?;
        let follower = Follower::new(admin).await?;
        let text = "etcdserver: request is too large; make it smaller";
        let name = cowboys().name();
        let start = format!("the changed schema of {name} cannot be given to consumers: {text}");
        let held = Held::new("BoundSchemaRefused", start);
        follower.holds(admin, &[large], &held).await.context("a change")?;

        let start = "the schema cannot be given to consumers: refused as invalid: etcdserver: ";
        let said = Said::pending("BoundSchemaRefused", start);
        let mut heavy = Vec::new();
        for policy in ["Always", "Never"] {
            let consumer = said::consumer(admin, "heavy").await?;
            let mut spec = always(VERSION);
            spec["schemaUpdatePolicy"] = json!(policy);
            consumer.submit(NAME, &spec).await?;
            said.wait(&consumer, NAME).await.context("a request")?;
            heavy.push(consumer);
        }
        let late = said::consumer(admin, "late").await?;
        late.request_export("horse", &request_spec(&[&horses()], &[])).await?.succeeded()?;

        let small = [with_field(version(VERSION, true), "hat")];
        follower.change(admin, &small, &small).await.context("small again")?;
        wait_source(&follower.consumer, NAME, None).await?;
        for consumer in heavy {
            succeeds(&consumer, NAME, RETRIED).await.context("small again")?;
            let export = consumer.export(NAME).await?;
            export.check(Settings::APART)?;
            ensure!(export.schemas[0].data["spec"]["versions"] == json!(small), "another schema");
        }
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}
