//! Steps 3, 6, 7 and 13: from the request to the export, and the konnector's answers to it (contract konnector.md 2.3,
//! 2.4 and 6).

use crate::wait::SOON;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::api::{DynamicObject, PostParams};
use kube::core::Status;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{ATTEMPTS, Consumer, Settings, Watches, conditions};
use crate::object;
use crate::service::VERSION;

const REQUEST: &str = "APIServiceExportRequest";
const EXPORT: &str = "APIServiceExport";
const HASH: &str = "kube-bind.io/source-spec-hash";
/// Between two looks of the CLI.
const POLL: Duration = Duration::from_secs(1);

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its name, which the export and the consumer's binding get too.
    pub name: String,
    /// `Succeeded`, `Failed`, or `Pending` if it was not decided in time.
    pub phase: String,
    /// `status.terminalMessage`.
    pub terminal_message: String,
    /// The object when last seen.
    pub request: DynamicObject,
    /// From the POST to the end.
    pub took: Duration,
}

/// An export with its schemas.
#[derive(Debug, Clone)]
pub struct Export {
    /// The `APIServiceExport`.
    pub object: DynamicObject,
    /// Its `BoundSchema`s in the order of `spec.resources`.
    pub schemas: Vec<DynamicObject>,
}

impl Outcome {
    /// An error that says why, unless the request has succeeded and says so in its condition too.
    pub fn succeeded(&self) -> Result<()> {
        ensure!(
            self.phase == "Succeeded",
            "after {:?}: {}, terminalMessage `{}`",
            self.took,
            object::summary(&self.request),
            self.terminal_message
        );
        object::expect_condition(&self.request, "ExportsReady", "True").map_err(anyhow::Error::msg)
    }
}

impl Consumer {
    /// Requests an export as the CLI does, and waits until the request is decided, for 30 s.
    pub async fn request_export(&self, name: &str, spec: &Value) -> Result<Outcome> {
        let begin = Instant::now();
        let name = self.submit(name, spec).await?;
        self.decided(&name, begin).await
    }

    /// Only the POST, and a second one with `generateName` where the name is taken; gives the name.
    pub async fn submit(&self, name: &str, spec: &Value) -> Result<String> {
        let made = match self.post_request(json!({"name": name}), spec).await {
            Err(kube::Error::Api(status)) if is_taken(&status) => {
                self.post_request(json!({"generateName": format!("{name}-")}), spec).await
            }
            made => made,
        };
        let made = made.with_context(|| format!("creating the request {name}"))?;
        made.metadata.name.context("a request without name")
    }

    /// Looks at a request each second until it is decided, for 30 s. Time counts from `begin`.
    pub async fn decided(&self, name: &str, begin: Instant) -> Result<Outcome> {
        let api = self.kube_bind(REQUEST);
        let end = Instant::now() + SOON;
        loop {
            let request = api.get(name).await.with_context(|| format!("polling request {name}"))?;
            let text =
                |field: &str| request.data["status"][field].as_str().unwrap_or_default().to_owned();
            let (phase, terminal_message) = (text("phase"), text("terminalMessage"));
            if matches!(phase.as_str(), "Succeeded" | "Failed") || Instant::now() > end {
                let (name, took) = (name.to_owned(), begin.elapsed());
                return Ok(Outcome { name, phase, terminal_message, request, took });
            }
            // What the CLI does; an object that is decided sooner is not seen sooner.
            sleep(POLL).await;
        }
    }

    async fn post_request(&self, metadata: Value, spec: &Value) -> kube::Result<DynamicObject> {
        let resource = object::kube_bind(REQUEST);
        let manifest = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": metadata, "spec": spec,
        });
        let request = serde_json::from_value(manifest).map_err(kube::Error::SerdeError)?;
        self.kube_bind(REQUEST).create(&PostParams::default(), &request).await
    }

    /// The names of all exports: what the bundle controller sees every 15 s (konnector.md 4).
    pub async fn bundle_view(&self) -> Result<BTreeSet<String>> {
        let list = object::list(&self.kube_bind(EXPORT)).await?;
        Ok(list.into_iter().filter_map(|export| export.metadata.name).collect())
    }

    /// The export of a request that has succeeded, with its schemas. Everything is there at the first look.
    pub async fn export(&self, name: &str) -> Result<Export> {
        let list = object::list(&self.kube_bind(EXPORT)).await?;
        let named = |export: &DynamicObject| export.metadata.name.as_deref() == Some(name);
        let object = list.into_iter().find(named);
        let object = object.with_context(|| format!("there is no export {name}"))?;
        let mut schemas = Vec::new();
        for resource in object.data["spec"]["resources"].as_array().into_iter().flatten() {
            let group = resource["group"].as_str().filter(|group| !group.is_empty());
            let plural = resource["resource"].as_str().unwrap_or_default();
            let schema = format!("{plural}.{}", group.unwrap_or("core"));
            let found = self.kube_bind("BoundSchema").get(&schema).await;
            schemas.push(found.with_context(|| format!("reading BoundSchema {schema}"))?);
        }
        Ok(Export { object, schemas })
    }

    /// Step 7: the konnector's conditions on the export, and the status that each schema gets from the consumer's CRD.
    /// Returns the export as written.
    pub async fn acknowledge(&self, export: &Export) -> Result<DynamicObject> {
        for schema in &export.schemas {
            self.put_schema_status(schema).await?;
        }
        let name = export.name();
        for _ in 0..ATTEMPTS {
            let current = self.export(name).await?.object;
            match self.patch_export_status(&current).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                written => return written.with_context(|| format!("status of export {name}")),
            }
        }
        bail!("{ATTEMPTS} writes of export {name} in a row met a conflict")
    }

    /// [`Consumer::acknowledge`], after which the backend must not touch the export: an event would make the konnector
    /// look at everything again.
    pub async fn check_acknowledged(&self, export: &Export, watches: &Watches) -> Result<()> {
        let window = Duration::from_secs(3);
        let api = self.kube_bind(EXPORT);
        object::wait_for(&api, export.name(), "the backend's status", SOON, |export| {
            object::expect_condition(export, "ProviderInSync", "True")
        })
        .await?;
        watches.quiet(0, EXPORT, window, SOON).await?;
        let mark = watches.mark();
        let written = self.acknowledge(export).await?;
        // The write above, and nothing else.
        let events = watches.quiet(mark, EXPORT, window, SOON).await?;
        let versions: Vec<_> =
            events.iter().map(|event| &event.object.metadata.resource_version).collect();
        ensure!(versions == [&written.metadata.resource_version], "{} events", versions.len());
        for kind in ["Connected", "ConsumerInSync", "ProviderInSync"] {
            object::expect_condition(&events[0].object, kind, "True")
                .map_err(anyhow::Error::msg)?;
        }
        let now = self.export(export.name()).await?;
        for (before, after) in export.schemas.iter().zip(&now.schemas) {
            ensure!(before.data["spec"] == after.data["spec"], "a schema's spec has changed");
            object::expect_condition(after, "Ready", "True").map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    async fn patch_export_status(&self, export: &DynamicObject) -> kube::Result<DynamicObject> {
        let now = conditions::now();
        let mut list = conditions::existing(export);
        for kind in ["Connected", "ConsumerInSync"] {
            conditions::set_true(&mut list, kind, &now);
        }
        conditions::sort(&mut list);
        let patch = json!({
            "metadata": {
                "uid": export.metadata.uid,
                "resourceVersion": export.metadata.resource_version,
            },
            "status": {"conditions": list},
        });
        let name = export.metadata.name.as_deref().unwrap_or_default();
        object::merge_patch(&self.kube_bind(EXPORT), name, &patch, true).await
    }

    async fn put_schema_status(&self, schema: &DynamicObject) -> Result<DynamicObject> {
        let name = schema.metadata.name.as_deref().unwrap_or_default();
        let api = self.kube_bind("BoundSchema");
        let stored = versions(schema).find(|version| version["storage"] == true);
        let stored = &stored.context("no stored version")?["name"];
        for _ in 0..ATTEMPTS {
            let mut current = api.get(name).await?;
            let now = conditions::now();
            let mut list = conditions::existing(&current);
            for kind in ["Established", "NamesAccepted"] {
                conditions::set_true(&mut list, kind, &now);
            }
            conditions::summarise(&mut list, &now);
            current.data["status"] = json!({
                "acceptedNames": schema.data["spec"]["names"],
                "storedVersions": [stored],
                "conditions": list,
            });
            match api.replace_status(name, &PostParams::default(), &current).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                written => return written.with_context(|| format!("status of BoundSchema {name}")),
            }
        }
        bail!("{ATTEMPTS} writes of BoundSchema {name} in a row met a conflict")
    }
}

impl Export {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// The reference that makes something go when the export goes.
    #[must_use]
    pub fn owner(&self) -> Value {
        json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": EXPORT, "name": self.name(),
            "uid": self.object.metadata.uid, "controller": true, "blockOwnerDeletion": true,
        })
    }

    /// Step 6: export and schemas say what the flags say, belong together, and can be used.
    pub fn check(&self, settings: Settings) -> Result<()> {
        let spec = &self.object.data["spec"];
        ensure!(
            spec["informerScope"] == settings.informers.name()
                && spec["isolation"] == settings.isolation.name(),
            "informerScope {}, isolation {}",
            spec["informerScope"],
            spec["isolation"]
        );
        ensure!(!self.schemas.is_empty(), "the export has no resources");
        for schema in &self.schemas {
            self.check_schema(schema, settings)
                .with_context(|| schema.metadata.name.clone().unwrap_or_default())?;
        }
        let hash = hash(&self.object)?;
        let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(hash.len() == 64 && hex(hash), "the export's hash is {hash}");
        if let [schema] = self.schemas.as_slice() {
            ensure!(self::hash(schema)? == hash, "the hash of the export is not its schema's");
        }
        Ok(())
    }

    fn check_schema(&self, schema: &DynamicObject, settings: Settings) -> Result<()> {
        let spec = &schema.data["spec"];
        ensure!(
            spec["scope"] == settings.bound_scope().name()
                && spec["informerScope"] == settings.informers.name(),
            "scope {}, informerScope {}",
            spec["scope"],
            spec["informerScope"]
        );
        let owners = schema.metadata.owner_references.iter().flatten();
        let owners: Vec<_> = owners.filter(|owner| owner.controller == Some(true)).collect();
        ensure!(
            serde_json::to_value(&owners)? == json!([self.owner()]),
            "its controllers are {owners:?}"
        );
        let stored = versions(schema).filter(|version| version["storage"] == true).count();
        ensure!(stored == 1, "{stored} stored versions");
        Ok(())
    }

    /// The version that the konnector syncs: the first served one of the first resource.
    pub fn version(&self) -> Result<&str> {
        let schema = self.schemas.first().context("no schema")?;
        let served = versions(schema).find(|version| version["served"] != false);
        let version = served.and_then(|version| version["name"].as_str());
        version.context("no served version")
    }

    /// Whether the konnector would sync the version that the provider serves.
    pub fn check_version(&self) -> Result<()> {
        let version = self.version()?;
        ensure!(version == VERSION, "the first served version is {version}");
        Ok(())
    }

    /// The CRDs that the konnector makes on the consumer.
    #[must_use]
    pub fn crds(&self) -> Vec<Value> {
        self.schemas.iter().map(crd).collect()
    }
}

/// The consumer's CRD of a `BoundSchema`. Its schemas may be bare or wrapped in `openAPIV3Schema`.
fn crd(schema: &DynamicObject) -> Value {
    let mut spec = schema.data["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("informerScope");
    }
    for version in spec["versions"].as_array_mut().into_iter().flatten() {
        if version["schema"].get("openAPIV3Schema").is_none() {
            version["schema"] = json!({"openAPIV3Schema": version["schema"].take()});
        }
    }
    json!({"metadata": {"name": schema.metadata.name}, "spec": spec})
}

fn versions(schema: &DynamicObject) -> impl Iterator<Item = &Value> {
    schema.data["spec"]["versions"].as_array().into_iter().flatten()
}

fn hash(object: &DynamicObject) -> Result<&str> {
    let annotations = object.metadata.annotations.as_ref();
    let hash = annotations.and_then(|annotations| annotations.get(HASH));
    hash.map(String::as_str).with_context(|| format!("{} has no hash", object::summary(object)))
}

fn is_taken(status: &Status) -> bool {
    status.code == 409 && status.reason == "AlreadyExists"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_schema_give_the_same_crd() {
        let bound = |schema: Value| -> DynamicObject {
            serde_json::from_value(json!({
                "metadata": {"name": "widgets.example.org", "namespace": "p"},
                "spec": {
                    "group": "example.org", "scope": "Cluster", "informerScope": "Cluster",
                    "names": {"plural": "widgets", "kind": "Widget"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
                    "conversion": {"strategy": "None"},
                },
            }))
            .unwrap()
        };
        let expected = json!({
            "metadata": {"name": "widgets.example.org"},
            "spec": {
                "group": "example.org", "scope": "Cluster",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}],
                "conversion": {"strategy": "None"},
            },
        });
        assert_eq!(crd(&bound(json!({"type": "object"}))), expected);
        assert_eq!(crd(&bound(json!({"openAPIV3Schema": {"type": "object"}}))), expected);
    }
}
