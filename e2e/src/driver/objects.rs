//! Step 10: the consumer's objects on the provider (contract konnector.md 2.5 to 2.7).

use anyhow::{Context, Result, ensure};
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Change, Key, Use, Watches};
use crate::object::{self, core};
use crate::service::Scope;

/// What the konnector notes on each object.
const ANNOTATIONS: [&str; 3] = [
    "kube-bind.io/cluster-namespace",
    "kube-bind.io/consumer-namespace",
    "kube-bind.io/consumer-uid",
];

impl Use {
    /// Where the object `name` is; `service` is the service namespace of its namespace.
    #[must_use]
    pub fn key(&self, service: &str, name: &str) -> Key {
        self.settings.key(self.contract(), service, name)
    }

    /// Creates the copy of the consumer's object `namespace`/`name` as the spec syncer does.
    pub async fn create_object(
        &self,
        namespace: &str,
        service: &str,
        name: &str,
        spec: Value,
    ) -> Result<DynamicObject> {
        let key = self.key(service, name);
        // A cluster-scoped object of the consumer has no namespace there.
        let of = if self.settings.bound_scope() == Scope::Cluster { "" } else { namespace };
        let [cluster_namespace, consumer_namespace, uid] = ANNOTATIONS;
        let mut manifest = json!({
            "metadata": {"name": key.name, "annotations": {
                cluster_namespace: self.contract(),
                consumer_namespace: of,
                uid: format!("uid-of-{name}"),
            }},
            "spec": spec,
        });
        if self.settings.owned_by_contract() {
            let namespaces = object::api(self.consumer.client(), &core("Namespace"), None);
            let contract = namespaces.get(self.contract()).await.context("the owner's UID")?;
            manifest["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "Namespace", "name": self.contract(),
                "uid": contract.metadata.uid,
            }]);
        }
        let namespace = key.namespace.as_deref();
        object::create(self.consumer.client(), &self.exported.resource(), namespace, manifest).await
    }

    /// Server-side apply of the whole object as last seen, with another spec.
    pub async fn apply_object(&self, seen: &DynamicObject, spec: Value) -> Result<DynamicObject> {
        let mut wanted = seen.clone();
        wanted.metadata.managed_fields = None;
        wanted.data["spec"] = spec;
        let name = seen.metadata.name.as_deref().unwrap_or_default();
        let api = self.api_as(self.consumer.client(), seen.metadata.namespace.as_deref());
        let params = PatchParams::apply("kube-bind.io").force();
        let applied = api.patch(name, &params, &Patch::Apply(&wanted)).await;
        applied.with_context(|| format!("applying {name}"))
    }

    /// An object comes, changes, gets a status from the provider, and goes; the consumer sees all of it on its watch.
    pub async fn check_objects(
        &self,
        admin: &Client,
        informers: &Watches,
        namespace: &str,
        service: &str,
        name: &str,
    ) -> Result<()> {
        let mark = informers.mark();
        let key = self.key(service, name);
        let kind = self.exported.kind;
        let made = self.create_object(namespace, service, name, json!({"intent": "ride"})).await?;
        informers
            .wait_for_object(mark, kind, &key, "the creation", |event| {
                event.change == Change::Added
            })
            .await?;
        let applied = self.apply_object(&made, json!({"intent": "holster"})).await?;
        ensure!(applied.data["spec"] == json!({"intent": "holster"}), "{}", applied.data["spec"]);
        let status = json!({"status": {"result": "done"}});
        let provider = self.api_as(admin, key.namespace.as_deref());
        object::merge_patch(&provider, &key.name, &status, true).await?;
        informers
            .wait_for_object(mark, kind, &key, "the provider's status", |event| {
                event.object.data["status"]["result"] == "done"
            })
            .await?;
        let own = self.api_as(self.consumer.client(), key.namespace.as_deref());
        own.delete(&key.name, &DeleteParams::default()).await.context("deleting the object")?;
        informers
            .wait_for_object(mark, kind, &key, "the end", |event| event.change == Change::Deleted)
            .await?;
        ensure!(provider.get_opt(&key.name).await?.is_none(), "the object is still there");
        Ok(())
    }
}
