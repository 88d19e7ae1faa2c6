//! Steps 9 and 14: service namespaces (contract konnector.md 2.8).

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kube::Client;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use super::Use;
use crate::object::{self, core, kube_bind, rbac};
use crate::service::Scope;
use crate::wait::{SOON, eventually};

/// Names of the roles of exports begin so (konnector.md 7, H15).
const PREFIX: &str = "kube-binder-claims-";
/// What they grant on each resource.
const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

impl Use {
    /// [`Use::ask_for_namespace`], then [`Use::provided_namespace`].
    pub async fn service_namespace(&self, namespace: &str) -> Result<String> {
        self.ask_for_namespace(namespace).await?;
        self.provided_namespace(namespace).await
    }

    /// Asks for the counterpart of a consumer namespace as the konnector does.
    pub async fn ask_for_namespace(&self, namespace: &str) -> Result<()> {
        let kind = kube_bind("APIServiceNamespace");
        let manifest = json!({
            "metadata": {"name": namespace, "ownerReferences": [self.export.owner()]},
            "spec": {},
        });
        let contract = Some(self.contract());
        object::create(self.consumer.client(), &kind, contract, manifest).await.map(drop)
    }

    /// Waits for the name of the counterpart. What is listed per namespace can be listed in it at the first try.
    pub async fn provided_namespace(&self, namespace: &str) -> Result<String> {
        let api = self.consumer.kube_bind("APIServiceNamespace");
        let what = format!("status.namespace of {namespace}");
        let service = eventually(&what, SOON, async || {
            let list = object::list(&api).await.map_err(|error| format!("{error:#}"))?;
            let mut found = list.iter();
            let found = found.find(|object| object.metadata.name.as_deref() == Some(namespace));
            let found = found.ok_or("there is no such APIServiceNamespace")?;
            let named = found.data["status"]["namespace"].as_str().map(str::to_owned);
            named.ok_or_else(|| object::summary(found))
        })
        .await?;
        for (resource, place) in self.scoped(&[&service]) {
            let Some(place) = place else { continue };
            let api = object::api(self.consumer.client(), &resource, Some(place));
            let listed = object::list(&api).await;
            listed.with_context(|| format!("first list of {} in {place}", resource.plural))?;
        }
        let expected = self.settings.service_namespace(self.contract(), namespace);
        ensure!(service == expected, "status.namespace is {service}, not {expected}");
        Ok(service)
    }

    /// What only an admin sees: the Namespace says whose it is, and the roles for what is not granted for the whole
    /// cluster are where the konnector needs them.
    pub async fn check_service_namespace(
        &self,
        admin: &Client,
        namespace: &str,
        service: &str,
    ) -> Result<()> {
        let annotation = annotation(admin, service).await?;
        let expected = format!("{}/{namespace}", self.contract());
        ensure!(annotation.as_deref() == Some(&*expected), "{service} is annotated {annotation:?}");
        if self.settings.informers == Scope::Cluster {
            return Ok(());
        }
        let claims = self.claims.iter().map(|kind| (String::new(), core(kind).plural));
        let mut granted: Vec<_> = claims.collect();
        if !self.settings.cluster_wide() {
            granted.push(self.granted());
        }
        if !granted.is_empty() {
            let binding = self.role_in(admin, service, &granted).await?;
            let expected = format!("{PREFIX}{}", self.export.name());
            ensure!(binding == expected, "the RoleBinding in {service} is {binding}");
        }
        Ok(())
    }

    /// A namespace that was there before: used under isolation None with consumer-scope Cluster, and never ours.
    pub async fn check_borrowed_namespace(&self, admin: &Client, service: &str) -> Result<()> {
        let annotation = annotation(admin, service).await?;
        ensure!(annotation.is_none(), "{service} is annotated {annotation:?}");
        for kind in ["Role", "RoleBinding"] {
            let api = object::api(admin, &rbac(kind), Some(service));
            let list = object::list(&api).await?;
            let ours = list.iter().filter_map(|object| object.metadata.name.as_deref());
            let ours: Vec<_> = ours.filter(|name| name.starts_with(PREFIX)).collect();
            ensure!(ours.is_empty(), "{service} has the {kind}s {ours:?}");
        }
        Ok(())
    }

    /// The roles outside service namespaces: with isolation Namespaced one in the contract namespace; for the whole
    /// cluster only where the konnector lists so, under a name of this export's own.
    pub async fn check_wide_roles(&self, admin: &Client) -> Result<()> {
        if self.settings.kept_in_contract() {
            self.role_in(admin, self.contract(), &[self.granted()]).await?;
        }
        let bindings = object::api(admin, &rbac("ClusterRoleBinding"), None);
        let list = object::list(&bindings).await?;
        let ours: BTreeSet<_> = list
            .iter()
            .filter(|binding| is_subject(binding, self.contract()))
            .filter_map(|binding| binding.metadata.name.clone())
            .collect();
        let name = format!("{PREFIX}{}-{}", self.contract(), self.export.name());
        let wide = self.settings.cluster_wide();
        ensure!(
            ours.contains(&name) == wide,
            "cluster-wide: {wide}, ClusterRoleBindings of the consumer: {ours:?}"
        );
        ensure!(wide || ours.is_empty(), "ClusterRoleBindings of the consumer: {ours:?}");
        if wide {
            let role = object::api(admin, &rbac("ClusterRole"), None).get(&name).await?;
            let mut resources = vec![self.granted()];
            if self.settings.claims_cluster_wide() {
                resources.extend(self.claims.iter().map(|k| (String::new(), core(k).plural)));
            }
            for (group, plural) in resources {
                let verbs = verbs(&role, &group, &plural);
                let lists = verbs.contains("list") && verbs.contains("watch");
                ensure!(lists, "ClusterRole {name} grants {verbs:?} on {plural}.{group}");
            }
        }
        Ok(())
    }

    /// Step 14: deletes the `APIServiceNamespace`, and waits until the Namespace that was made for it is gone.
    pub async fn release(&self, admin: &Client, namespace: &str, service: &str) -> Result<()> {
        let api = self.consumer.kube_bind("APIServiceNamespace");
        api.delete(namespace, &DeleteParams::default()).await.context("deleting it")?;
        let namespaces = object::api(admin, &core("Namespace"), None);
        object::wait_gone(&namespaces, service).await
    }

    /// Group and plural of the exported resource.
    fn granted(&self) -> (String, String) {
        (self.exported.group.clone(), self.exported.plural.to_owned())
    }

    /// The name of the `RoleBinding` of this consumer whose Role grants exactly the seven verbs on each of `resources`.
    async fn role_in(
        &self,
        admin: &Client,
        namespace: &str,
        resources: &[(String, String)],
    ) -> Result<String> {
        let bindings = object::api(admin, &rbac("RoleBinding"), Some(namespace));
        let roles = object::api(admin, &rbac("Role"), Some(namespace));
        let mut seen = Vec::new();
        for binding in object::list(&bindings).await? {
            let name = binding.metadata.name.clone().unwrap_or_default();
            if !name.starts_with(PREFIX) || !is_subject(&binding, self.contract()) {
                continue;
            }
            let reference = &binding.data["roleRef"];
            ensure!(reference["kind"] == "Role", "{name} refers to {reference}");
            let role = roles.get(reference["name"].as_str().unwrap_or_default()).await?;
            let expected: BTreeSet<_> = VERBS.into_iter().collect();
            let all = |(group, plural): &(String, String)| verbs(&role, group, plural) == expected;
            if resources.iter().all(all) {
                return Ok(name);
            }
            seen.push(format!("{name}: {}", role.data["rules"]));
        }
        anyhow::bail!("no role in {namespace} grants {resources:?}; there are {seen:?}")
    }
}

/// What a Namespace says about being a service namespace.
async fn annotation(admin: &Client, service: &str) -> Result<Option<String>> {
    let namespace = object::api(admin, &core("Namespace"), None).get(service).await?;
    let terminating = namespace.metadata.deletion_timestamp.is_some();
    ensure!(!terminating, "Namespace {service} is terminating");
    let annotations = namespace.metadata.annotations.unwrap_or_default();
    Ok(annotations.get("kube-bind.io/api-service-namespace").cloned())
}

/// Whether a binding is for the service account of a contract namespace.
pub(super) fn is_subject(binding: &DynamicObject, contract: &str) -> bool {
    let account = json!({"kind": "ServiceAccount", "name": "kube-binder", "namespace": contract});
    let subjects = binding.data["subjects"].as_array().into_iter().flatten();
    subjects.clone().any(|subject| *subject == account)
}

/// The verbs that a role grants on a resource.
pub(super) fn verbs<'a>(role: &'a DynamicObject, group: &str, plural: &str) -> BTreeSet<&'a str> {
    let has = |list: &Value, wanted: &str| {
        let mut list = list.as_array().into_iter().flatten();
        list.any(|value| value == wanted || value == "*")
    };
    let rules = role.data["rules"].as_array().into_iter().flatten();
    rules
        .filter(|rule| has(&rule["apiGroups"], group) && has(&rule["resources"], plural))
        .flat_map(|rule| rule["verbs"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect()
}
