//! Which bindings are offered, and that what is offered is what they bind.

use anyhow::{Result, ensure};
use e2e::object::{self, kube_bind};
use e2e::service::{Exported, GROUP, Offer, Scope};
use e2e::wait::{SOON, eventually};
use futures::FutureExt as _;

use super::{COWBOYS, Place};
use crate::Test;

/// The group of a second API provider.
const OTHER: &str = "other.dev";

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("offers::a_schema_of_the_same_name_from_another_provider_is_never_copied", || {
            shadowed().boxed()
        }),
        ("offers::bindings_whose_names_begin_alike_have_templates_of_their_own", || {
            alike().boxed()
        }),
        ("offers::a_binding_with_an_ignored_prefix_is_not_offered", || ignored().boxed()),
    ]
}

/// A second API provider.
async fn other(place: &Place) -> Result<Offer> {
    let crds = Exported::all(OTHER).map(|exported| exported.crd()).to_vec();
    Offer::create(&place.provider.kcp, "root", crds).await
}

/// The second provider adds a schema to its export that has the name of the first one's, and other content.
async fn shadowed() -> Result<()> {
    let mut place = Place::new("offers-shadowed").await?;
    let kcp = &place.provider.kcp;
    let second = other(&place).await?;
    place.provider.backend.stop().await?;
    let kcp = std::sync::Arc::clone(kcp);
    place.bind().await?;
    second.serve(&kcp, &place.workspace).await?;
    let false_one = Exported { scope: Scope::Cluster, ..Exported::of(GROUP, Scope::Namespaced) };
    let [cowboys, sheriffs] = Exported::all(OTHER);
    let wanted = [(&cowboys, "today"), (&sheriffs, "today"), (&false_one, "today")];
    second.exports(&kcp, &wanted).await?;

    place.provider.backend.restart().await?;
    let original = place.original(COWBOYS).await?;
    let (schemas, clusters) = (place.schemas(), place.api(&kube_bind("Cluster")));
    // Which of the two kcp shows is by chance.
    let seen = eventually("a copy, or why there is none", SOON, async || {
        let cluster = clusters.get("default").await.map_err(|error| error.to_string())?;
        let condition = object::condition(&cluster, "ServicesOffered");
        if condition.is_some_and(|condition| condition["reason"] == "SchemaAmbiguous") {
            return Ok(None);
        }
        let copy = schemas.get(COWBOYS).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(Some(copy))
    });
    let seen = seen.await.map_err(|error| place.provider.backend.fail(error))?;
    if let Some(copy) = seen {
        ensure!(copy.data["spec"] == original.data["spec"], "{:#}", copy.data["spec"]);
    }
    place.unbind(OTHER).await?;
    let copy = place.exported(COWBOYS).await?;
    ensure!(copy.data["spec"] == original.data["spec"], "{:#}", copy.data["spec"]);
    place.template("wildwest.dev-namespaced", &["cowboys"]).await.map(drop)
}

async fn alike() -> Result<()> {
    let place = Place::new("offers-alike").await?;
    let second = other(&place).await?;
    place.bind_as("x", &place.offer).await?;
    place.bind_as("x-cluster", &second).await?;
    for (scope, resource) in [("cluster", "sheriffs"), ("namespaced", "cowboys")] {
        let first = place.template(&format!("x-{scope}"), &[resource]).await?;
        let second = place.template(&format!("x-cluster-{scope}"), &[resource]).await?;
        let group =
            |of: &kube::api::DynamicObject| of.data["spec"]["resources"][0]["group"].clone();
        ensure!((group(&first), group(&second)) == (GROUP.into(), OTHER.into()), "{first:?}");
    }
    place.exported("today.cowboys.other.dev").await?;
    place.unbind("x").await?;
    for name in ["x-cluster", "x-namespaced"] {
        place.gone(&kube_bind("APIServiceExportTemplate"), name).await?;
    }
    place.gone(&object::schemas(), COWBOYS).await?;
    place.template("x-cluster-cluster", &["sheriffs"]).await?;
    place.template("x-cluster-namespaced", &["cowboys"]).await?;
    place.exported("today.cowboys.other.dev").await.map(drop)
}

async fn ignored() -> Result<()> {
    let place = Place::new("offers-ignored").await?;
    let second = other(&place).await?;
    place.bind_as("kube-bind.io-wild", &place.offer).await?;
    place.bind_as("wild", &second).await?;
    // All of a workspace is looked at together.
    place.template("wild-namespaced", &["cowboys"]).await?;
    place.exported("today.cowboys.other.dev").await?;
    for template in object::list(&place.templates()).await? {
        let name = template.metadata.name.unwrap_or_default();
        ensure!(!name.starts_with("kube-bind.io"), "{name}");
    }
    ensure!(place.schemas().get_opt(COWBOYS).await?.is_none(), "its schema was copied");
    Ok(())
}
