//! Services offered from APIBindings on real kcp (contract kcp.md 5 to 7 and 9).

mod bound;
mod kept;
mod others;
mod taken;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use e2e::binding::{self, Request};
use e2e::kcp::{Claims, Workspace};
use e2e::object::{self, kcp_apis, kube_bind, rbac};
use e2e::provider::{PLATFORM, Provider};
use e2e::service::{self, Exported, GROUP, Offer, Scope};
use e2e::wait::SOON;
use futures::FutureExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::doctor::Clinic;
use crate::Test;

/// Who generated a template or a copy.
const OWNER: &str = "apibindingtemplate.kube-bind.io/owner-binding";
/// The schema of the namespaced resource that is bound, and the template that it is offered by.
const COWBOYS: &str = "today.cowboys.wildwest.dev";
const TEMPLATE: &str = "wildwest.dev-namespaced";
/// The role by which kcp lets the backend read schemas.
const READER: &str = "kube-bind-vw-apibinding-reader";

pub(crate) fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = vec![
        (
            "offers::a_binding_yields_a_template_per_scope_and_labelled_copies_and_takes_them_along",
            || followed().boxed(),
        ),
        ("offers::what_people_wrote_into_a_template_stays_when_the_export_grows", || {
            grown().boxed()
        }),
        ("offers::another_schema_of_a_bound_resource_takes_the_place_of_the_first", || {
            replaced().boxed()
        }),
    ];
    tests.extend(others::tests());
    tests.extend(kept::tests());
    tests.extend(bound::tests());
    tests.extend(taken::tests());
    tests
}

/// A workspace of a provider, and an API provider whose export it may bind.
struct Place {
    provider: Provider,
    workspace: Workspace,
    admin: Client,
    offer: Offer,
}

impl Place {
    async fn new(name: &str) -> Result<Self> {
        let provider = Provider::start(name, PLATFORM).await?;
        let workspace = provider.tenant(name, Claims::All).await?;
        let admin = provider.kcp.client(&workspace.cluster).await?;
        let offer = Offer::wild_west(&provider.kcp, "root").await?;
        Ok(Self { provider, workspace, admin, offer })
    }

    fn clinic(&self) -> Result<Clinic> {
        Clinic::of(&self.provider, &self.admin)
    }

    /// Binds the API provider's export, which also waits until it is served.
    async fn bind(&self) -> Result<()> {
        self.offer.serve(&self.provider.kcp, &self.workspace).await
    }

    fn api(&self, kind: &ApiResource) -> Api<DynamicObject> {
        object::api(&self.admin, kind, None)
    }

    fn templates(&self) -> Api<DynamicObject> {
        self.api(&kube_bind("APIServiceExportTemplate"))
    }

    fn schemas(&self) -> Api<DynamicObject> {
        self.api(&object::schemas())
    }

    /// Waits until an object is as it should be.
    async fn until(
        &self,
        api: Api<DynamicObject>,
        name: &str,
        what: &str,
        condition: impl Fn(&DynamicObject) -> Result<(), String>,
    ) -> Result<DynamicObject> {
        let found = object::wait_for(&api, name, what, SOON, condition).await;
        found.map_err(|error| self.provider.backend.fail(error))
    }

    /// Waits for a labelled schema.
    async fn exported(&self, name: &str) -> Result<DynamicObject> {
        let what = format!("label on schema {name}");
        self.until(self.schemas(), name, &what, |schema| {
            let labels = schema.metadata.labels.clone().unwrap_or_default();
            let label = labels.get("kube-bind.io/exported").map(String::as_str);
            if label == Some("true") { Ok(()) } else { Err(format!("{labels:?}")) }
        })
        .await
    }

    /// Waits for a template with these resources.
    async fn template(&self, name: &str, resources: &[&str]) -> Result<DynamicObject> {
        let what = format!("template {name} of {resources:?}");
        self.until(self.templates(), name, &what, |template| {
            let entries =
                template.data["spec"]["resources"].as_array().cloned().unwrap_or_default();
            let names: Vec<&str> = entries.iter().filter_map(|e| e["resource"].as_str()).collect();
            if names == resources { Ok(()) } else { Err(template.data["spec"].to_string()) }
        })
        .await
    }

    /// Waits until the Cluster says this about what is offered.
    async fn said(&self, reason: &str) -> Result<String> {
        let what = format!("ServicesOffered with {reason}");
        let clusters = self.api(&kube_bind("Cluster"));
        let cluster = self
            .until(clusters, "default", &what, |cluster| {
                let condition = object::condition(cluster, "ServicesOffered");
                match condition {
                    Some(condition) if condition["reason"] == reason => Ok(()),
                    _ => Err(object::summary(cluster)),
                }
            })
            .await?;
        let condition = object::condition(&cluster, "ServicesOffered").context("no condition")?;
        Ok(condition["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until all is offered again.
    async fn healed(&self) -> Result<()> {
        let clusters = self.api(&kube_bind("Cluster"));
        let healed = self.until(clusters, "default", "ServicesOffered", |cluster| {
            object::expect_condition(cluster, "ServicesOffered", "True")
        });
        healed.await.map(drop)
    }

    /// Binds an export under another name, and waits until that is so.
    async fn bind_as(&self, name: &str, offer: &Offer) -> Result<()> {
        let reference = json!({"path": offer.workspace.path, "name": offer.export});
        let manifest =
            json!({"metadata": {"name": name}, "spec": {"reference": {"export": reference}}});
        object::create(&self.admin, &kcp_apis("APIBinding"), None, manifest).await?;
        let bindings = self.api(&kcp_apis("APIBinding"));
        let what = format!("{name} to be bound");
        let bound = self.until(bindings, name, &what, |binding| {
            let phase = &binding.data["status"]["phase"];
            if phase == "Bound" { Ok(()) } else { Err(object::summary(binding)) }
        });
        bound.await.map(drop)
    }

    /// An error if the backend has rights of its own to read schemas.
    async fn no_role(&self) -> Result<()> {
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            let found = self.api(&rbac(kind)).get_opt(READER).await?;
            ensure!(found.is_none(), "{kind} {READER} is there");
        }
        Ok(())
    }

    /// Waits until it has none.
    async fn role_gone(&self) -> Result<()> {
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            self.gone(&rbac(kind), READER).await?;
        }
        Ok(())
    }

    /// The schema in the workspace of the API provider.
    async fn original(&self, name: &str) -> Result<DynamicObject> {
        let provider = self.provider.kcp.client(&self.offer.workspace.cluster).await?;
        Ok(object::api(&provider, &object::schemas(), None).get(name).await?)
    }

    async fn unbind(&self, binding: &str) -> Result<()> {
        object::delete(&self.api(&kcp_apis("APIBinding")), binding).await
    }

    async fn gone(&self, kind: &ApiResource, name: &str) -> Result<()> {
        let gone = object::wait_gone(&self.api(kind), name).await;
        gone.map_err(|error| self.provider.backend.fail(error))
    }
}

/// What of an object is the backend's, without what the server adds.
fn core_of(object: &DynamicObject) -> Value {
    let keep = |map: &Option<BTreeMap<String, String>>| -> BTreeMap<String, String> {
        let all = map.clone().unwrap_or_default().into_iter();
        all.filter(|(key, _)| key.contains("kube-bind.io")).collect()
    };
    let metadata = &object.metadata;
    json!({
        "labels": keep(&metadata.labels), "annotations": keep(&metadata.annotations),
        "owners": metadata.owner_references, "spec": object.data["spec"],
    })
}

async fn followed() -> Result<()> {
    let place = Place::new("offers").await?;
    place.bind().await?;
    let template = place.template("wildwest.dev-namespaced", &["cowboys"]).await?;
    place.template("wildwest.dev-cluster", &["sheriffs"]).await?;
    let binding = place.api(&kcp_apis("APIBinding")).get(GROUP).await?;
    ensure!(
        core_of(&template)
            == json!({
                "labels": {"backend.kube-bind.io/managed": "true"},
                "annotations": {OWNER: GROUP},
                "owners": [{
                    "apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
                    "name": GROUP, "uid": binding.metadata.uid,
                }],
                "spec": {
                    "resources": [{"group": GROUP, "resource": "cowboys", "versions": ["v1alpha1"]}],
                    "schemaUpdatePolicy": "Never",
                    "scope": "Namespaced",
                },
            }),
        "{:#}",
        core_of(&template)
    );

    let copy = place.exported("today.cowboys.wildwest.dev").await?;
    let original = place.original("today.cowboys.wildwest.dev").await?;
    ensure!(
        core_of(&copy)
            == json!({
                "labels": {
                    "backend.kube-bind.io/managed": "true", "kube-bind.io/exported": "true",
                },
                "annotations": {
                    OWNER: GROUP,
                    "backend.kube-bind.io/source": original.metadata.uid,
                    "backend.kube-bind.io/scope": "Namespaced",
                    "backend.kube-bind.io/served-versions": "v1alpha1",
                    "backend.kube-bind.io/marks-digest":
                        copy.annotations()["backend.kube-bind.io/marks-digest"],
                },
                "owners": [{
                    "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportTemplate",
                    "name": "wildwest.dev-namespaced", "uid": template.metadata.uid,
                }],
                "spec": original.data["spec"],
            }),
        "{:#}",
        core_of(&copy)
    );

    let role = place.api(&rbac("ClusterRole")).get(READER).await?;
    ensure!(
        role.data["rules"]
            == json!([
                {"nonResourceURLs": ["/"], "verbs": ["access"]},
                {"apiGroups": ["apis.kcp.io"], "resources": ["apibindings"], "verbs": ["get"]},
            ]),
        "{}",
        role.data["rules"]
    );

    place.unbind(GROUP).await?;
    for name in ["wildwest.dev-namespaced", "wildwest.dev-cluster"] {
        place.gone(&kube_bind("APIServiceExportTemplate"), name).await?;
    }
    for name in ["today.cowboys.wildwest.dev", "today.sheriffs.wildwest.dev"] {
        place.gone(&object::schemas(), name).await?;
    }
    place.role_gone().await
}

/// The API provider adds a resource, then stops offering one.
async fn grown() -> Result<()> {
    let place = Place::new("offers-grown").await?;
    place.bind().await?;
    place.template("wildwest.dev-namespaced", &["cowboys"]).await?;
    let edited = json!({
        "metadata": {"labels": {"team": "west"}},
        "spec": {
            "description": "the finest",
            "schemaUpdatePolicy": "Always",
            "permissionClaims": [service::claim("secrets")],
        },
    });
    object::merge_patch(&place.templates(), "wildwest.dev-namespaced", &edited, false).await?;

    let horses =
        Exported { plural: "horses", kind: "Horse", ..Exported::of(GROUP, Scope::Namespaced) };
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    place.offer.exports(&place.provider.kcp, &[(&cowboys, "today"), (&horses, "today")]).await?;
    let template = place.template("wildwest.dev-namespaced", &["cowboys", "horses"]).await?;
    let spec = &template.data["spec"];
    for (field, expected) in edited["spec"].as_object().into_iter().flatten() {
        let same = match field.as_str() {
            "permissionClaims" => spec[field][0]["resource"] == "secrets",
            _ => spec[field] == *expected,
        };
        ensure!(same, "{field} was {expected} and is {}", spec[field]);
    }
    ensure!(template.metadata.labels.unwrap_or_default().contains_key("team"), "the label is gone");
    // kcp keeps what is bound once it is bound, so the sheriffs stay on offer.
    place.template("wildwest.dev-cluster", &["sheriffs"]).await.map(drop)
}

/// A schema is immutable: the API provider makes another one and exports that. Consumers that asked for it follow.
async fn replaced() -> Result<()> {
    let place = Place::new("offers-replaced").await?;
    place.bind().await?;
    place.template("wildwest.dev-namespaced", &["cowboys"]).await?;
    place.exported("today.cowboys.wildwest.dev").await?;
    let cowboys = Exported::of(GROUP, Scope::Namespaced);
    let bound = binding::bind(&place.admin, &Request::new("follower", "follower")).await?;
    let mut spec = service::request_spec(&[&cowboys], &[]);
    spec["schemaUpdatePolicy"] = json!("Always");
    bound.consumer.request_export("herd", &spec).await?.succeeded()?;

    let mut crd = cowboys.crd();
    let properties = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    properties["lasso"] = json!({"type": "string"});
    let home = place.provider.kcp.client(&place.offer.workspace.cluster).await?;
    let tomorrow = service::api_resource_schema(&crd, "tomorrow", false);
    object::create(&home, &object::schemas(), None, tomorrow).await?;
    let sheriffs = Exported::of(GROUP, Scope::Cluster);
    let wanted = [(&cowboys, "tomorrow"), (&sheriffs, "today")];
    place.offer.exports(&place.provider.kcp, &wanted).await?;
    place.exported("tomorrow.cowboys.wildwest.dev").await?;
    let schemas = bound.consumer.kube_bind("BoundSchema");
    let (name, wanted) = (cowboys.name(), &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    let followed = object::wait_for(&schemas, &name, "the schema to follow", SOON, |schema| {
        let now = &schema.data["spec"]["versions"][0]["schema"];
        if now == wanted { Ok(()) } else { Err(now.to_string()) }
    });
    followed.await.map_err(|error| place.provider.backend.fail(error))?;
    place.gone(&object::schemas(), "today.cowboys.wildwest.dev").await?;
    place.schemas().get("today.sheriffs.wildwest.dev").await?;
    place.template("wildwest.dev-namespaced", &["cowboys"]).await.map(drop)
}
