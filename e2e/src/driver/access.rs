//! Step 15: consumers apart, by real requests. All writes are dry runs: authorisation comes first, and nothing is lost
//! where it is given.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    WatchParams,
};
use kube::{Api, Client};
use serde_json::json;

use super::namespaces::{is_subject, verbs};
use super::{Change, Consumer, Use, Watches};
use crate::object::{self, core, kube_bind, rbac};
use crate::wait::{SOON, eventually};

/// No object has this name.
const ABSENT: &str = "e2e-access";

/// Objects of one kind in one place.
#[derive(Debug, Clone)]
pub struct Place {
    resource: ApiResource,
    namespace: Option<String>,
    /// What is tried with get, update, patch and delete.
    names: BTreeSet<String>,
}

/// A request of the matrix; those with a name are about one object.
#[derive(Debug, Clone, Copy)]
enum Verb<'a> {
    Get(&'a str),
    List,
    Watch,
    Create,
    Update(&'a str),
    Patch(&'a str),
    Delete(&'a str),
    DeleteCollection,
}

impl Place {
    fn new(resource: ApiResource, namespace: Option<&str>) -> Self {
        Self { resource, namespace: namespace.map(str::to_owned), names: BTreeSet::new() }
    }

    /// The place of an object whose name is all that matters.
    fn named(resource: ApiResource, name: &str) -> Self {
        let names = BTreeSet::from([name.to_owned()]);
        Self { resource, namespace: None, names }
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        object::api(client, &self.resource, self.namespace.as_deref())
    }

    /// With the names of the objects that are there; of cluster-scoped ones, those that the backend made.
    async fn filled(mut self, admin: &Client) -> Result<Self> {
        let list = object::list(&self.api(admin)).await?;
        let names = list.into_iter().filter_map(|object| object.metadata.name);
        let ours = |name: &String| self.namespace.is_some() || name.contains("kube-binder");
        self.names = names.filter(ours).collect();
        Ok(self)
    }

    fn requests(&self) -> Vec<Verb<'_>> {
        let on =
            |name| [Verb::Get(name), Verb::Update(name), Verb::Patch(name), Verb::Delete(name)];
        let named = self.names.iter().map(String::as_str).chain([ABSENT]).flat_map(on);
        named.chain([Verb::List, Verb::Watch, Verb::Create, Verb::DeleteCollection]).collect()
    }

    /// The HTTP status that the server answers with.
    async fn attempt(&self, client: &Client, verb: Verb<'_>) -> Result<u16> {
        let api = self.api(client);
        let post = PostParams { dry_run: true, ..PostParams::default() };
        let patch = PatchParams { dry_run: true, ..PatchParams::default() };
        let delete = DeleteParams { dry_run: true, ..DeleteParams::default() };
        let outcome = match verb {
            Verb::Get(name) => api.get(name).await.map(drop),
            Verb::List => api.list(&ListParams::default()).await.map(drop),
            Verb::Watch => api.watch(&WatchParams::default(), "0").await.map(drop),
            Verb::Create => api.create(&post, &self.object(ABSENT)?).await.map(drop),
            Verb::Update(name) => api.replace(name, &post, &self.object(name)?).await.map(drop),
            Verb::Patch(name) => {
                let label = json!({"metadata": {"labels": {"e2e": "access"}}});
                api.patch(name, &patch, &Patch::Merge(&label)).await.map(drop)
            }
            Verb::Delete(name) => api.delete(name, &delete).await.map(drop),
            Verb::DeleteCollection => {
                api.delete_collection(&delete, &ListParams::default()).await.map(drop)
            }
        };
        match outcome {
            Ok(()) => Ok(200),
            Err(kube::Error::Api(status)) => Ok(status.code),
            Err(error) => Err(error.into()),
        }
    }

    fn object(&self, name: &str) -> Result<DynamicObject> {
        Ok(serde_json::from_value(json!({
            "apiVersion": self.resource.api_version, "kind": self.resource.kind,
            "metadata": {"name": name},
        }))?)
    }
}

impl Consumer {
    /// Whether each verb is refused with 403 at each of these places, which belong to somebody else. The error lists
    /// every request that was not.
    pub async fn check_refused(&self, places: &[Place]) -> Result<()> {
        self.answers(places, "must be refused", |_, code| code == 403).await
    }

    /// The opposite for places of its own: no verb of the konnector is refused. What does not exist may be not found,
    /// and an update without a schema's required fields invalid.
    pub async fn check_kept(&self, places: &[Place]) -> Result<()> {
        self.answers(places, "must be allowed", |verb, code| match verb {
            Verb::DeleteCollection => true,
            Verb::List | Verb::Watch | Verb::Create => code == 200,
            Verb::Get(name) | Verb::Update(name) | Verb::Patch(name) | Verb::Delete(name) => {
                matches!(code, 200 | 409 | 422) || (code == 404 && name == ABSENT)
            }
        })
        .await
    }

    async fn answers(
        &self,
        places: &[Place],
        what: &str,
        right: impl Fn(Verb<'_>, u16) -> bool,
    ) -> Result<()> {
        let mut wrong = Vec::new();
        for place in places {
            for verb in place.requests() {
                let what = format!("an answer to {verb} at {place}");
                // 429 is no answer yet: the watch cache of a kind fills.
                let code = eventually(&what, SOON, async || {
                    match place.attempt(&self.client, verb).await {
                        Ok(429) => Err("429"),
                        outcome => Ok(outcome),
                    }
                })
                .await??;
                if !right(verb, code) {
                    wrong.push(format!("{verb} at {place}: {code}"));
                }
            }
        }
        if !wrong.is_empty() {
            bail!("consumer of {}, {what}:\n  {}", self.namespace, wrong.join("\n  "));
        }
        Ok(())
    }

    /// What another consumer must not touch of this one, whatever it has exported: everything in its contract namespace
    /// and in `services`, the namespaces themselves, and the roles of the cluster.
    pub async fn belongings(&self, admin: &Client, services: &[&str]) -> Result<Vec<Place>> {
        let contract = [self.namespace.as_str()];
        let mut places = Vec::new();
        for namespace in contract.iter().chain(services) {
            for kind in ["Secret", "ConfigMap", "ServiceAccount"] {
                places.push(Place::new(core(kind), Some(namespace)));
            }
            for kind in ["Role", "RoleBinding"] {
                places.push(Place::new(rbac(kind), Some(namespace)));
            }
        }
        for kind in [
            "ClusterBinding",
            "APIServiceExport",
            "APIServiceExportRequest",
            "APIServiceNamespace",
            "BoundSchema",
        ] {
            places.push(Place::new(kube_bind(kind), Some(&self.namespace)));
        }
        places.push(Place::new(rbac("ClusterRole"), None));
        places.push(Place::new(rbac("ClusterRoleBinding"), None));
        let mut filled = Vec::new();
        for place in places {
            filled.push(place.filled(admin).await?);
        }
        for kind in ["Secret", "ConfigMap", "ServiceAccount"] {
            filled.push(Place::new(core(kind), None));
        }
        let named = contract.iter().chain(services);
        filled.extend(named.map(|namespace| Place::named(core("Namespace"), namespace)));
        Ok(filled)
    }
}

impl Use {
    /// [`Consumer::belongings`] and the exported objects, without what these settings grant to every consumer of the
    /// cluster.
    pub async fn belongings(&self, admin: &Client, services: &[&str]) -> Result<Vec<Place>> {
        let mut places = self.consumer.belongings(admin, services).await?;
        if self.settings.claims_cluster_wide() {
            places.retain(|place| !self.claims.contains(&&*place.resource.kind));
        }
        if !self.settings.cluster_wide() {
            for service in services {
                let place = Place::new(self.exported.resource(), Some(service));
                places.push(place.filled(admin).await?);
            }
            places.push(Place::new(self.exported.resource(), None));
        }
        Ok(places)
    }

    /// Where this consumer writes: the exported resource and what it claims, with the objects that are there.
    pub async fn own_places(&self, admin: &Client, services: &[&str]) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for service in services {
            for kind in &self.claims {
                places.push(Place::new(core(kind), Some(service)));
            }
            let key = self.key(service, ABSENT);
            places.push(Place::new(self.exported.resource(), key.namespace.as_deref()));
        }
        let mut filled = Vec::new();
        for place in places {
            filled.push(place.filled(admin).await?);
        }
        Ok(filled)
    }

    /// Every right of the konnector by real requests: on the contract (step 2, 4 and 5) and where it writes.
    pub async fn check_rights_kept(&self, admin: &Client, services: &[&str]) -> Result<()> {
        self.consumer.open_watches().await?;
        self.consumer.heartbeat().await?;
        self.consumer.acknowledge(&self.export).await?;
        self.consumer.check_kept(&self.own_places(admin, services).await?).await
    }

    /// Goes through all RBAC objects that an admin's watches have seen, as they were at any moment: no binding of this
    /// consumer was in `foreign` namespaces, and none for the whole cluster granted what is exported or claimed.
    pub fn check_rbac_history(&self, watches: &Watches, foreign: &[&str]) -> Result<()> {
        let roles = watches.since(0, "ClusterRole")?;
        let mut wrong = Vec::new();
        let mut own = 0;
        for event in watches.since(0, "RoleBinding")? {
            if event.change == Change::Deleted || !is_subject(&event.object, self.contract()) {
                continue;
            }
            own += 1;
            let namespace = event.object.metadata.namespace.as_deref().unwrap_or_default();
            if foreign.contains(&namespace) {
                wrong.push(format!("{namespace}: {}", object::summary(&event.object)));
            }
        }
        for event in watches.since(0, "ClusterRoleBinding")? {
            if event.change == Change::Deleted || !is_subject(&event.object, self.contract()) {
                continue;
            }
            let name = event.object.data["roleRef"]["name"].as_str();
            let named = roles.iter().filter(|role| role.object.metadata.name.as_deref() == name);
            for role in named {
                let core = ["secrets", "configmaps", "serviceaccounts", "namespaces"];
                let core = core.map(|plural| ("", plural));
                let exported = (self.exported.group.as_str(), self.exported.plural);
                for (group, plural) in core.into_iter().chain([exported]) {
                    let verbs = verbs(&role.object, group, plural);
                    if !verbs.is_empty() {
                        wrong.push(format!("{name:?} grants {verbs:?} on {plural}.{group}"));
                    }
                }
            }
        }
        if own == 0 {
            bail!("the watches saw no RoleBinding of the consumer of {}", self.contract());
        }
        if !wrong.is_empty() {
            bail!("rights of the consumer of {}:\n  {}", self.contract(), wrong.join("\n  "));
        }
        Ok(())
    }
}

/// An admin's watches on all objects of RBAC, for [`Use::check_rbac_history`].
pub async fn watch_rbac(admin: &Client) -> Result<Watches> {
    let kinds = ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    Watches::open(admin, &kinds.map(|kind| (rbac(kind), None))).await
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.resource.plural, self.namespace.as_deref().unwrap_or("cluster"))
    }
}

impl fmt::Display for Verb<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(name) => write!(f, "get {name}"),
            Self::List => f.write_str("list"),
            Self::Watch => f.write_str("watch"),
            Self::Create => f.write_str("create"),
            Self::Update(name) => write!(f, "update {name}"),
            Self::Patch(name) => write!(f, "patch {name}"),
            Self::Delete(name) => write!(f, "delete {name}"),
            Self::DeleteCollection => f.write_str("deletecollection"),
        }
    }
}
