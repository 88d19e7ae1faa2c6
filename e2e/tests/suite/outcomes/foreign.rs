//! Objects of others where the backend wants something of its own.

use anyhow::{Context as _, Result, ensure};
use e2e::driver::{Consumer, Settings};
use e2e::object::{self, kube_bind, rbac};
use e2e::service::{self, GROUP, request_spec};
use e2e::wait::{SOON, eventually};
use kube::Client;
use kube::api::{ApiResource, DeleteParams, DynamicObject};
use serde_json::{Value, json};

use crate::suite::said::{Place, RETRIED, Said, cowboys, horses, sheriffs, succeeds};

/// What the tests put where the backend wants something of its own.
struct Decoy {
    admin: Client,
    resource: ApiResource,
    namespace: Option<String>,
    made: DynamicObject,
}

impl Decoy {
    async fn new(
        admin: &Client,
        resource: ApiResource,
        namespace: Option<&str>,
        manifest: Value,
    ) -> Result<Self> {
        let made = object::create(admin, &resource, namespace, manifest).await?;
        let namespace = namespace.map(str::to_owned);
        Ok(Self { admin: admin.clone(), resource, namespace, made })
    }

    /// Deletes it, which must be what it was to the byte.
    async fn remove(self) -> Result<()> {
        let api = object::api(&self.admin, &self.resource, self.namespace.as_deref());
        let name = self.made.metadata.name.clone().unwrap_or_default();
        let now = api.get(&name).await?;
        let (before, now) = (serde_json::to_value(&self.made)?, serde_json::to_value(&now)?);
        ensure!(before == now, "before: {before:#}\nnow: {now:#}");
        api.delete(&name, &DeleteParams::default()).await?;
        // The backend may have put its own there already.
        eventually(&format!("{name} to be gone"), SOON, async || match api.get_opt(&name).await {
            Ok(Some(object)) if object.metadata.uid == self.made.metadata.uid => {
                Err(format!("still there: {}", object::summary(&object)))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}

pub(super) async fn foreign() -> Result<()> {
    let (place, bystander) = Place::wild_west("outcomes-foreign").await?;
    let outcome = async {
        foreign_schema(&place).await.context("a BoundSchema")?;
        foreign_cluster_role(&place).await.context("a ClusterRole")?;
        foreign_role(&place).await.context("a Role")?;
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}

/// Waits for the condition, which stays for as long as the decoy does, then for success without it.
async fn check_decoy(consumer: &Consumer, name: &str, said: &Said, decoy: Decoy) -> Result<()> {
    said.wait(consumer, name).await?;
    ensure!(!consumer.bundle_view().await?.contains(name), "an export without its rights");
    decoy.remove().await?;
    succeeds(consumer, name, RETRIED).await?;
    consumer.export(name).await?;
    Ok(())
}

async fn foreign_schema(place: &Place) -> Result<()> {
    let admin = &place.admin;
    let consumer = place.consumer("schema").await?;
    let name = cowboys().name();
    let mut spec = cowboys().crd()["spec"].clone();
    spec["informerScope"] = json!("Namespaced");
    spec["conversion"] = json!({"strategy": "None"});
    let manifest = json!({"metadata": {"name": name}, "spec": spec});
    let decoy = kube_bind("BoundSchema");
    let decoy = Decoy::new(admin, decoy, Some(consumer.namespace()), manifest).await?;
    consumer.submit("cow", &request_spec(&[&cowboys()], &[])).await?;
    let said = Said::pending(
        "ForeignBoundSchema",
        format!("BoundSchema {name} exists and was not made by this backend;"),
    );
    check_decoy(&consumer, "cow", &said, decoy).await?;
    consumer.export("cow").await?.check(Settings::APART)
}

async fn foreign_cluster_role(place: &Place) -> Result<()> {
    let consumer = place.consumer("wide").await?;
    let role = format!("kube-binder-claims-{}-star", consumer.namespace());
    let rules = json!([{"apiGroups": [""], "resources": ["events"], "verbs": ["get"]}]);
    let manifest = json!({"metadata": {"name": role}, "rules": rules});
    let decoy = Decoy::new(&place.admin, rbac("ClusterRole"), None, manifest).await?;
    consumer.submit("star", &request_spec(&[&sheriffs()], &[])).await?;
    let start = format!("clusterrole {role} exists and was not made by this backend");
    check_decoy(&consumer, "star", &Said::pending("ForeignRole", start), decoy).await
}

async fn foreign_role(place: &Place) -> Result<()> {
    let consumer = place.consumer("narrow").await?;
    let horses = horses();
    service::establish(&place.admin, &[horses.crd()]).await?;
    let usage = consumer.take_up("horse", Settings::APART, &horses, &[]).await?;
    let service = usage.service_namespace("wild-west").await?;
    let rules = json!([{"apiGroups": [""], "resources": ["events"], "verbs": ["get"]}]);
    let manifest = json!({"metadata": {"name": "kube-binder-claims-cow"}, "rules": rules});
    let decoy = Decoy::new(&place.admin, rbac("Role"), Some(&service), manifest).await?;
    consumer.submit("cow", &request_spec(&[&cowboys()], &[])).await?;
    let start = format!("role {service}/kube-binder-claims-cow exists and was not made by");
    check_decoy(&consumer, "cow", &Said::pending("ForeignRole", start), decoy).await?;
    let allowed = consumer.may("create", GROUP, "cowboys", Some(&service)).await?;
    ensure!(allowed, "the rights did not come with the export");
    Ok(())
}
