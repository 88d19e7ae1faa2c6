//! The exported API as real parts: `wildwest.dev` with the namespaced `cowboys` and the cluster-scoped `sheriffs`, as
//! CRDs, or as an `APIExport` of a workspace of its own that tenants bind (contract kcp.md 4 and 9).

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{ApiResource, DynamicObject, ListParams};
use serde_json::{Value, json};

use crate::kcp::{Claims, Workspace, Workspaces};
use crate::object::{self, kcp_apis, kube_bind, resource};
use crate::stack;
use crate::wait::{SOON, eventually};

/// The group of the examples upstream.
pub const GROUP: &str = "wildwest.dev";
/// The one version of it.
pub const VERSION: &str = "v1alpha1";

/// With it nothing is offered but what people made.
pub const BY_HAND: &str = "--templates-from-bindings=false";

/// The label of what may be exported.
const EXPORTED: &str = "kube-bind.io/exported";
/// Prefix of the names of schemas; they are immutable, so a change needs another one.
const PREFIX: &str = "today";

/// Scope of a resource, or of the konnector's informers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In namespaces.
    Namespaced,
    /// In the cluster.
    Cluster,
}

impl Scope {
    /// As objects have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaced => "Namespaced",
            Self::Cluster => "Cluster",
        }
    }
}

/// What `--schema-source` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Labelled CRDs, which serve the API themselves.
    Crds,
    /// Labelled copies of `APIResourceSchema`s, made by hand; the API is served by an `APIBinding` of the tenant's own.
    Schemas,
    /// The same, but copies and templates are those that the backend makes because of that `APIBinding`.
    Bindings,
}

impl Source {
    /// The flag for a backend.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Crds => "--schema-source=customresourcedefinitions",
            Self::Schemas | Self::Bindings => "--schema-source=apiresourceschemas",
        }
    }
}

/// One resource that a provider exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// API group. Tests that share a cluster have one each.
    pub group: String,
    /// Plural.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Scope on the provider.
    pub scope: Scope,
}

impl Exported {
    /// `cowboys` or `sheriffs`, whichever has this scope.
    #[must_use]
    pub fn of(group: &str, scope: Scope) -> Self {
        let (plural, kind) = match scope {
            Scope::Namespaced => ("cowboys", "Cowboy"),
            Scope::Cluster => ("sheriffs", "Sheriff"),
        };
        Self { group: group.to_owned(), plural, kind, scope }
    }

    /// Both.
    #[must_use]
    pub fn all(group: &str) -> [Self; 2] {
        [Self::of(group, Scope::Namespaced), Self::of(group, Scope::Cluster)]
    }

    /// `<plural>.<group>`: the name of its CRD and of its `BoundSchema`s.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// For requests.
    #[must_use]
    pub fn resource(&self) -> ApiResource {
        resource(&self.group, VERSION, self.kind, self.plural)
    }

    /// Its CRD, labelled.
    #[must_use]
    pub fn crd(&self) -> Value {
        crd(&self.group, self.plural, self.kind, self.scope, &[version(VERSION, true)])
    }

    /// What requests and templates say.
    #[must_use]
    pub fn reference(&self) -> Value {
        json!({"group": self.group, "resource": self.plural, "versions": [VERSION]})
    }
}

/// A labelled CRD with these versions, for which see [`version`].
#[must_use]
pub fn crd(group: &str, plural: &str, kind: &str, scope: Scope, versions: &[Value]) -> Value {
    json!({
        "metadata": {"name": format!("{plural}.{group}"), "labels": {EXPORTED: "true"}},
        "spec": {
            "group": group,
            "names": {
                "plural": plural,
                "singular": kind.to_lowercase(),
                "kind": kind,
                "listKind": format!("{kind}List"),
            },
            "scope": scope.name(),
            "versions": versions,
        },
    })
}

/// A served version with the schema of upstream's cowboys and a status subresource. Exactly one of a CRD is stored.
#[must_use]
pub fn version(name: &str, storage: bool) -> Value {
    let text = json!({"type": "string"});
    let reference =
        json!({"type": "object", "required": ["name"], "properties": {"name": text.clone()}});
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {
                "intent": text.clone(),
                "secretRefs": {"type": "array", "items": reference},
            }},
            "status": {"type": "object", "properties": {"result": text}},
        },
    });
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    })
}

/// The `APIResourceSchema` of a CRD, named `<prefix>.<plural>.<group>`: the same, its schemas without their wrapper.
#[must_use]
pub fn api_resource_schema(crd: &Value, prefix: &str, exported: bool) -> Value {
    let name = crd["metadata"]["name"].as_str().unwrap_or_default();
    let mut spec = crd["spec"].clone();
    for version in spec["versions"].as_array_mut().into_iter().flatten() {
        version["schema"] = version["schema"]["openAPIV3Schema"].take();
    }
    let labels = if exported { json!({EXPORTED: "true"}) } else { json!({}) };
    json!({"metadata": {"name": format!("{prefix}.{name}"), "labels": labels}, "spec": spec})
}

/// A permission claim on a core resource: what has the label `app: wild-west`.
#[must_use]
pub fn claim(resource: &str) -> Value {
    let selector = json!({"labelSelector": {"matchLabels": {"app": "wild-west"}}});
    json!({"group": "", "resource": resource, "selector": selector})
}

/// The spec of an `APIServiceExportRequest`.
#[must_use]
pub fn request_spec(resources: &[&Exported], claims: &[Value]) -> Value {
    let resources: Vec<_> = resources.iter().map(|resource| resource.reference()).collect();
    json!({"resources": resources, "permissionClaims": claims, "schemaUpdatePolicy": "Never"})
}

/// Creates an `APIServiceExportTemplate` for these resources, which have one scope.
pub async fn offer_template(
    admin: &Client,
    name: &str,
    resources: &[&Exported],
    claims: &[Value],
) -> Result<DynamicObject> {
    let mut spec = request_spec(resources, claims);
    let first = resources.first().context("a template needs a resource")?;
    spec["scope"] = json!(first.scope.name());
    let manifest = json!({"metadata": {"name": name}, "spec": spec});
    object::create_once(admin, &kube_bind("APIServiceExportTemplate"), None, manifest).await
}

/// Creates CRDs unless they exist, and waits until their first version is served.
pub async fn establish(client: &Client, crds: &[Value]) -> Result<()> {
    let kind = object::crd();
    for crd in crds {
        let made = object::create_once(client, &kind, None, crd.clone()).await?;
        let name = made.metadata.name.unwrap_or_default();
        let definitions = object::api(client, &kind, None);
        let what = format!("CRD {name} to be established");
        object::wait_for(&definitions, &name, &what, SOON, |crd| {
            object::expect_condition(crd, "Established", "True")
        })
        .await?;
        served(client, &crd["spec"]).await?;
    }
    Ok(())
}

/// Waits until the resource of a CRD's spec can be listed.
async fn served(client: &Client, spec: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names = &spec["names"];
    let version = text(&spec["versions"][0]["name"]);
    let kind =
        resource(&text(&spec["group"]), &version, &text(&names["kind"]), &text(&names["plural"]));
    let api = object::api(client, &kind, None);
    let what = format!("{}.{} to be served", kind.plural, kind.group);
    eventually(&what, SOON, async || api.list(&ListParams::default()).await.map(drop)).await
}

/// An API provider on kcp: a workspace with the schemas and an `APIExport`.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The workspace.
    pub workspace: Workspace,
    /// The `APIExport`, named like its group.
    pub export: String,
    crds: Vec<Value>,
}

impl Offer {
    /// A new workspace under `parent` (a path) that exports what these CRDs, of one group, describe.
    pub async fn create(kcp: &Workspaces, parent: &str, crds: Vec<Value>) -> Result<Self> {
        let workspace = kcp.create_workspace(parent, &stack::unique("api-provider")).await?;
        Self::create_in(kcp, &workspace, crds).await
    }

    /// The same in a workspace that exists.
    pub async fn create_in(
        kcp: &Workspaces,
        workspace: &Workspace,
        crds: Vec<Value>,
    ) -> Result<Self> {
        let client = kcp.client(&workspace.cluster).await?;
        let mut resources = Vec::new();
        for crd in &crds {
            let schema = api_resource_schema(crd, PREFIX, false);
            resources.push(json!({
                "group": crd["spec"]["group"],
                "name": crd["spec"]["names"]["plural"],
                "schema": schema["metadata"]["name"],
                "storage": {"crd": {}},
            }));
            object::create(&client, &object::schemas(), None, schema).await?;
        }
        let group = crds.first().and_then(|crd| crd["spec"]["group"].as_str());
        let export = group.context("an APIExport needs a resource")?.to_owned();
        let manifest = json!({"metadata": {"name": export}, "spec": {"resources": resources}});
        object::create(&client, &kcp_apis("APIExport"), None, manifest).await?;
        Ok(Self { workspace: workspace.clone(), export, crds })
    }

    /// Makes the export consist of these resources, each with the schema of this prefix, which is made where needed.
    pub async fn exports(&self, kcp: &Workspaces, resources: &[(&Exported, &str)]) -> Result<()> {
        let client = kcp.client(&self.workspace.cluster).await?;
        let mut entries = Vec::new();
        for (resource, prefix) in resources {
            let schema = api_resource_schema(&resource.crd(), prefix, false);
            entries.push(json!({
                "group": resource.group,
                "name": resource.plural,
                "schema": schema["metadata"]["name"],
                "storage": {"crd": {}},
            }));
            object::create_once(&client, &object::schemas(), None, schema).await?;
        }
        let exports = object::api(&client, &kcp_apis("APIExport"), None);
        let patch = json!({"spec": {"resources": entries}});
        object::merge_patch(&exports, &self.export, &patch, false).await?;
        Ok(())
    }

    /// [`GROUP`] with both resources.
    pub async fn wild_west(kcp: &Workspaces, parent: &str) -> Result<Self> {
        let crds = Exported::all(GROUP).iter().map(Exported::crd).collect();
        Self::create(kcp, parent, crds).await
    }

    /// Binds the `APIExport` in a workspace and waits until its resources are served there.
    pub async fn serve(&self, kcp: &Workspaces, workspace: &Workspace) -> Result<()> {
        let path = &self.workspace.path;
        kcp.bind_export(workspace, path, &self.export, Claims::All).await?;
        let client = kcp.client(&workspace.cluster).await?;
        for crd in &self.crds {
            served(&client, &crd["spec"]).await?;
        }
        Ok(())
    }

    /// Puts labelled copies of the schemas into a workspace, for `--schema-source=apiresourceschemas`.
    pub async fn copy_schemas(&self, kcp: &Workspaces, workspace: &Workspace) -> Result<()> {
        let client = kcp.client(&workspace.cluster).await?;
        for crd in &self.crds {
            let copy = api_resource_schema(crd, PREFIX, true);
            object::create_once(&client, &object::schemas(), None, copy).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_crd_has_its_name_with_a_prefix_and_bare_schemas() {
        let crd = crd("example.org", "widgets", "Widget", Scope::Cluster, &[version("v1", true)]);
        let schema = api_resource_schema(&crd, "v2", true);
        let bare = version("v1", true)["schema"]["openAPIV3Schema"].clone();
        assert_eq!(
            schema,
            json!({
                "metadata": {
                    "name": "v2.widgets.example.org",
                    "labels": {"kube-bind.io/exported": "true"},
                },
                "spec": {
                    "group": "example.org",
                    "names": {"plural": "widgets", "singular": "widget", "kind": "Widget",
                        "listKind": "WidgetList"},
                    "scope": "Cluster",
                    "versions": [{"name": "v1", "served": true, "storage": true, "schema": bare,
                        "subresources": {"status": {}}}],
                },
            })
        );
    }
}
