//! An installation of v0.8.1 is taken over with no re-bind: namespaces, Secrets and exports stay what they are.
//!
//! What v0.8.1 leaves is made of what this backend made, without the marks of this one and with the rights of that one,
//! as the contract's golden objects have them.

mod shared;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::audit;
use e2e::binding::{self, Bound, Request};
use e2e::driver::{Isolation, Settings, Use};
use e2e::object::{self, core, kube_bind, rbac};
use e2e::service::Scope;
use e2e::snapshot;
use e2e::wait::SOON;
use futures::FutureExt as _;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::doctor::Clinic;
use super::place::{Place, cowboys, provided};
use crate::Test;

/// The consumer namespace.
const TOWN: &str = "wild-west";
/// The marks that v0.8.1 knows too.
const COMMON: [&str; 3] = ["identity", "author", "cluster-pretty-name"];
/// All that v0.8.1 grants.
const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

const WIDE: Settings = Settings {
    informers: Scope::Cluster,
    isolation: Isolation::Prefixed,
    resource: Scope::Namespaced,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        (
            "takeover::consumers_of_v0_8_1_with_consumer_scope_cluster_go_on_as_if_nothing_had_been",
            || taken("takeover-wide", WIDE).boxed(),
        ),
        (
            "takeover::consumers_of_v0_8_1_with_consumer_scope_namespaced_go_on_as_if_nothing_had_been",
            || taken("takeover-apart", Settings::APART).boxed(),
        ),
        (
            "takeover::of_consumers_that_would_read_each_others_secrets_only_the_oldest_is_granted_that",
            || shared::taken().boxed(),
        ),
    ]
}

async fn taken(name: &str, settings: Settings) -> Result<()> {
    let mut place = Place::kcp(name, settings).await?;
    let outcome = is_taken(&mut place).await;
    place.end(outcome).await
}

/// The role in a service namespace by which a consumer reaches what it claims.
const CLAIMS: &str = "kube-binder-claims-cow";

/// A consumer of v0.8.1.
struct Old {
    bound: Bound,
    cow: Use,
    service: String,
}

impl Old {
    fn contract(&self) -> &str {
        self.bound.consumer.namespace()
    }
}

async fn is_taken(place: &mut Place) -> Result<()> {
    let old = settle(place).await?;
    place.backend().stop().await?;
    downgrade(place, &old).await.context("making it as v0.8.1 leaves it")?;
    let secrets = secrets(place, &old).await?;
    let uids = uids(place, &old).await?;
    let mark = place.mark()?;

    place.backend().restart().await?;
    let deletes = place.deletes(mark).await?;
    ensure!(deletes.is_empty(), "the backend deleted:\n{}", audit::listing(&deletes));
    goes_on(place, &old).await?;
    ensure!(self::secrets(place, &old).await? == secrets, "a Secret has changed");
    let now = self::uids(place, &old).await?;
    let lost: Vec<_> = uids.iter().filter(|object| !now.contains(object)).collect();
    ensure!(lost.is_empty(), "gone or made anew: {lost:#?}");
    rebinds(place, &old).await.context("bound again")?;
    ensure!(self::secrets(place, &old).await? == secrets, "a Secret has changed by the bind");

    if place.settings.informers == Scope::Namespaced {
        interrupted(place, &old).await.context("an adoption that ended halfway")?;
    }
    // On request: what mixes the rights of all consumers goes, and each has its own already.
    let (provider, _) = place.on_kcp()?;
    let clinic = Clinic::of(provider, &place.admin)?;
    // The role and its binding.
    for _ in 0..2 {
        clinic.heals("SharedExportRole", "kube-binder-exports").await?;
    }
    let resources = format!("ClusterRole kube-binder-resources-{}-cow", old.contract());
    let parts = clinic.objects("AggregatedRole").await?;
    ensure!(parts.contains(&resources), "{parts:?}");
    for part in parts {
        clinic.heals("AggregatedRole", part.trim_start_matches("ClusterRole ")).await?;
    }
    let reasons = clinic.look().await?.reasons();
    ensure!(reasons.is_empty(), "still to do: {reasons:?}");
    old.cow.check_rights_kept(&place.admin, &[&old.service]).await.context("own rights")?;
    old.cow.informers(&[&old.service]).await.context("own rights")?;
    old.cow.release(&place.admin, TOWN, &old.service).await
}

/// A backend that was killed between a role and its binding has taken over only the first.
async fn interrupted(place: &mut Place, old: &Old) -> Result<()> {
    place.backend().stop().await?;
    let bindings = place.api(&rbac("RoleBinding"), Some(&old.service));
    let binding = bindings.get(CLAIMS).await?;
    unmark(place, &rbac("RoleBinding"), &binding).await?;
    place.backend().restart().await?;
    let taken = object::wait_for(&bindings, CLAIMS, "the mark", SOON, |binding| {
        let labels = binding.metadata.labels.as_ref();
        let is_marked = labels.is_some_and(|all| all.contains_key("backend.kube-bind.io/managed"));
        if is_marked { Ok(()) } else { Err(object::summary(binding)) }
    })
    .await?;
    ensure!(taken.metadata.uid == binding.metadata.uid, "it was made anew");
    old.cow.check_rights_kept(&place.admin, &[&old.service]).await
}

async fn settle(place: &Place) -> Result<Old> {
    let bound = place.bind("old").await?;
    let cow = place.export(&bound, "cow", &cowboys(), &["Secret"]).await?;
    let service = cow.service_namespace(TOWN).await?;
    cow.create_object(TOWN, &service, "bull", json!({"intent": "stay"})).await?;
    cow.create_claimed("Secret", TOWN, &service, "permit").await?;
    Ok(Old { bound, cow, service })
}

/// The consumer notices nothing: what it has works, and it gets more.
async fn goes_on(place: &Place, old: &Old) -> Result<()> {
    let api = place.requested(old.contract());
    let requested = api.get(TOWN).await?;
    ensure!(provided(&requested) == Some(&old.service), "{}", object::summary(&requested));
    old.cow.check_rights_kept(&place.admin, &[&old.service]).await?;
    let exports = place.api(&kube_bind("APIServiceExport"), Some(old.contract()));
    let export = object::wait_for(&exports, "cow", "the export to be in sync", SOON, |export| {
        object::expect_condition(export, "ProviderInSync", "True")
    })
    .await?;
    ensure!(export.metadata.uid == old.cow.export.object.metadata.uid, "the export was made anew");
    let more = old.cow.service_namespace("more").await?;
    old.cow.check_rights_kept(&place.admin, &[&old.service, &more]).await?;
    old.cow.create_object("more", &more, "calf", json!({"intent": "grow"})).await?;
    old.cow.release(&place.admin, "more", &more).await
}

/// Nobody knows who bound it with v0.8.1, so an admin has to say who may bind it again; it is then the same access.
async fn rebinds(place: &Place, old: &Old) -> Result<()> {
    let request = Request::new("again", "old");
    binding::create(&place.admin, &request).await?;
    let requests = place.api(&kube_bind("BindableResourcesRequest"), Some("default"));
    let refused = object::wait_for(&requests, "again", "the refusal", SOON, |request| {
        let conditions = request.data["status"]["conditions"].as_array().cloned();
        let conditions = conditions.unwrap_or_default();
        let refused = conditions.iter().any(|condition| condition["reason"] == "IdentityTaken");
        if refused { Ok(()) } else { Err(object::summary(request)) }
    })
    .await?;
    let message = refused.data["status"]["conditions"][0]["message"].to_string();
    ensure!(message.contains("transfer-to"), "{message}");
    let patch = json!({"metadata": {"annotations": {
        "backend.kube-bind.io/transfer-to": "namespace:default",
    }}});
    object::merge_patch(&place.namespaces(), old.contract(), &patch, false).await?;
    let again = binding::finished(&place.admin, &request).await?;
    let api = place.api(&core("Secret"), Some(old.contract()));
    let kept = object::secret_text(&api.get("kubeconfig").await?, "kubeconfig")?;
    ensure!(again.kubeconfig == kept, "another kubeconfig");
    Ok(())
}

/// The credentials of a consumer, byte for byte.
async fn secrets(place: &Place, old: &Old) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for secret in object::list(&place.api(&core("Secret"), Some(old.contract()))).await? {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let uid = secret.metadata.uid.clone();
        all.insert(
            name,
            json!({"uid": uid, "type": secret.data["type"], "data": secret.data["data"]}),
        );
    }
    ensure!(all.len() == 2, "there are {} Secrets", all.len());
    Ok(all)
}

/// Everything of a consumer but requests and roles, with its UID.
async fn uids(place: &Place, old: &Old) -> Result<Vec<String>> {
    let all = place.objects_of(old.contract()).await?;
    Ok(all.into_iter().filter(|line| !line.starts_with("APIServiceExportRequest")).collect())
}

/// Makes of our installation one that v0.8.1 left.
async fn downgrade(place: &Place, old: &Old) -> Result<()> {
    let contract = old.contract();
    place.delete(&kube_bind("BindableResourcesRequest"), Some("default"), "old").await?;
    // It goes with its request, and would be gone in the middle of what follows.
    object::wait_gone(&place.api(&core("Secret"), Some("default")), "old-binding-response").await?;
    let mut kinds = snapshot::kinds(&place.admin).await?;
    kinds.push(rbac("ClusterRole"));
    kinds.push(rbac("ClusterRoleBinding"));
    kinds.dedup_by(|a, b| a.kind == b.kind);
    for kind in &kinds {
        let api = place.api(kind, None);
        for object in object::list(&api).await? {
            let name = object.metadata.name.clone().unwrap_or_default();
            let namespace = object.metadata.namespace.clone();
            if kind.group == "rbac.authorization.k8s.io" && name.starts_with("kube-binder-claims-")
            {
                place.delete(kind, namespace.as_deref(), &name).await?;
            } else {
                unmark(place, kind, &object).await?;
            }
        }
    }
    let owner = place.namespaces().get(contract).await?.metadata.uid;
    for role in cluster_roles(place.settings, contract, owner.as_deref()) {
        object::create(&place.admin, &rbac("ClusterRole"), None, role).await?;
    }
    let subjects =
        json!([{"kind": "ServiceAccount", "name": "kube-binder", "namespace": contract}]);
    let binding = |name: &str, kind: &str| {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        json!({"metadata": {"name": name}, "roleRef": role, "subjects": subjects})
    };
    let exports = binding("kube-binder-exports", "ClusterRole");
    object::create(&place.admin, &rbac("ClusterRoleBinding"), None, exports).await?;
    if place.settings.informers == Scope::Namespaced {
        let role = json!({"metadata": {"name": CLAIMS}, "rules": [rule("", "secrets")]});
        object::create(&place.admin, &rbac("Role"), Some(&old.service), role).await?;
        let binding = binding(CLAIMS, "Role");
        object::create(&place.admin, &rbac("RoleBinding"), Some(&old.service), binding).await?;
    }
    reencode(place, contract).await
}

/// Takes the marks from an object that v0.8.1 does not set.
async fn unmark(place: &Place, kind: &ApiResource, object: &DynamicObject) -> Result<()> {
    let ours = |map: &Option<BTreeMap<String, String>>| -> Value {
        let keys = map.clone().unwrap_or_default().into_keys();
        let ours = keys.filter(|key| {
            let mark = key.strip_prefix("backend.kube-bind.io/");
            mark.is_some_and(|mark| !COMMON.contains(&mark))
        });
        ours.map(|key| (key, Value::Null)).collect::<serde_json::Map<_, _>>().into()
    };
    let metadata = &object.metadata;
    let patch = json!({"metadata": {
        "labels": ours(&metadata.labels), "annotations": ours(&metadata.annotations),
    }});
    if patch == json!({"metadata": {"labels": {}, "annotations": {}}}) {
        return Ok(());
    }
    let api = place.api(kind, metadata.namespace.as_deref());
    let name = metadata.name.as_deref().unwrap_or_default();
    object::merge_patch(&api, name, &patch, false).await.with_context(|| name.to_owned())?;
    Ok(())
}

fn rule(group: &str, resource: &str) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": VERBS})
}

/// The shared role of v0.8.1 and those of one export that it aggregates.
fn cluster_roles(settings: Settings, contract: &str, owner: Option<&str>) -> [Value; 3] {
    let label = json!({"rbac.kube-bind.io/aggregate-to-parent": "true"});
    let role = |what: &str, rules: &[Value]| {
        json!({
            "metadata": {
                "name": format!("kube-binder-{what}-{contract}-cow"),
                "labels": label,
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Namespace", "name": contract, "uid": owner},
                ],
            },
            "rules": rules,
        })
    };
    let claims = match settings.informers {
        Scope::Cluster => vec![rule("", "secrets")],
        Scope::Namespaced => vec![],
    };
    let cowboys = cowboys();
    let resources = [rule(&cowboys.group, cowboys.plural)];
    let all: Vec<Value> = claims.iter().chain(&resources).cloned().collect();
    let shared = json!({
        "metadata": {"name": "kube-binder-exports"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": label}]},
        "rules": all,
    });
    [shared, role("resources", &resources), role("claims", &claims)]
}

/// v0.8.1 puts the CA into the kubeconfig as its own was written; ours is the same certificate in another form.
async fn reencode(place: &Place, contract: &str) -> Result<()> {
    let api = place.api(&core("Secret"), Some(contract));
    let text = object::secret_text(&api.get("kubeconfig").await?, "kubeconfig")?;
    let key = "certificate-authority-data: ";
    let line = text.lines().find(|line| line.contains(key)).context("no CA")?;
    let data = line.split(key).nth(1).unwrap_or_default().trim();
    let pem = STANDARD.decode(data).context("the CA is no base64")?;
    let other = STANDARD.encode([&pem[..], b"\n"].concat());
    let text = text.replace(data, &other);
    let patch = json!({"data": {"kubeconfig": STANDARD.encode(text)}});
    object::merge_patch(&api, "kubeconfig", &patch, false).await?;
    Ok(())
}
