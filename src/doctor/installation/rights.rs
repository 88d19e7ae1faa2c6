//! Whether the credential may do what `manifests/` and `kcp/` let the backend do: its rules, and what the server says that
//! it has. One review tells all rules; what may be granted otherwise is asked for one by one.

use std::collections::BTreeMap;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, PostParams};
use serde_json::Value;

use crate::api::claims::CLAIMS;
use crate::api::keys;
use crate::cli::{Config, ProviderKind};
use crate::doctor::finding::{Finding, Object, Severity};
use crate::doctor::look::{Error, Look};
use crate::doctor::reason::Reason;
use crate::manifests;
use crate::runtime::endpoint::connect;
use crate::runtime::error::Cause;

/// One thing to do with one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deed {
    group: String,
    /// With `/<subresource>`.
    resource: String,
    /// The only object that it is done to; empty for all.
    name: String,
    verb: String,
}

impl Deed {
    /// What it is done to, for people.
    fn on(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        let name = if self.name.is_empty() { String::new() } else { format!(" {}", self.name) };
        format!("{}.{group}{name}", self.resource)
    }
}

/// What the backend does on Kubernetes.
pub(super) fn on_kubernetes() -> Vec<Deed> {
    deeds(&manifests::kubernetes::rbac())
}

/// What the backend does in the workspace of an export.
pub(super) fn on_kcp(export: &str) -> Vec<Deed> {
    let mut all = deeds(&manifests::kcp::rbac());
    for deed in all.iter_mut().filter(|deed| !deed.name.is_empty()) {
        export.clone_into(&mut deed.name);
    }
    // It opens the whole virtual workspace; what is used of it is whatever the backend does there.
    for deed in all.iter_mut().filter(|deed| deed.verb == "*") {
        "list".clone_into(&mut deed.verb);
    }
    all
}

/// The deeds that the `ClusterRole`s among some objects allow. Leases are not among them, as nothing takes one yet.
fn deeds(objects: &[Value]) -> Vec<Deed> {
    let of_cluster = objects.iter().filter(|object| object["kind"] == "ClusterRole");
    let rules = of_cluster.filter_map(|role| serde_json::from_value(role["rules"].clone()).ok());
    rules.flat_map(|rules: Vec<PolicyRule>| rules).flat_map(|rule| deeds_of(&rule)).collect()
}

fn deeds_of(rule: &PolicyRule) -> Vec<Deed> {
    let names = rule.resource_names.clone().unwrap_or_else(|| vec![String::new()]);
    let groups = rule.api_groups.iter().flatten();
    let resources =
        groups.flat_map(|group| rule.resources.iter().flatten().map(move |one| (group, one)));
    let objects =
        resources.flat_map(|(group, one)| names.iter().map(move |name| (group, one, name)));
    let deeds = objects.flat_map(|(group, resource, name)| {
        rule.verbs.iter().map(|verb| Deed {
            group: group.clone(),
            resource: resource.clone(),
            name: name.clone(),
            verb: verb.clone(),
        })
    });
    deeds.collect()
}

/// How bad it is not to be able to do something; none where these flags do not need it.
fn severity(config: &Config, deed: &Deed) -> Option<Severity> {
    if config.provider == ProviderKind::Kcp {
        return Some(Severity::Error);
    }
    let is = |group: &str, resource: &str| group == deed.group && resource == deed.resource;
    let Some(claim) = CLAIMS.iter().find(|claim| is(claim.group, claim.resource)) else {
        return Some(Severity::Error);
    };
    let needed = config.claims().contains(claim);
    needed.then_some(if claim.optional { Severity::Warning } else { Severity::Error })
}

/// What the credential may not do, with the command that lets it.
pub(super) async fn findings(
    look: &mut Look,
    deeds: Vec<Deed>,
    repair: Option<String>,
) -> Result<Vec<Finding>, Error> {
    let denied = match denied(look, deeds).await? {
        Ok(denied) => denied,
        Err(why) => {
            look.not_ready.push(format!("access review: {why}"));
            return Ok(Vec::new());
        }
    };
    let found = [Severity::Error, Severity::Warning].into_iter().filter_map(|severity| {
        let of_it =
            denied.iter().filter(|deed| self::severity(&look.config, deed) == Some(severity));
        let mut verbs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for deed in of_it {
            verbs.entry(deed.on()).or_default().push(&deed.verb);
        }
        let texts: Vec<String> =
            verbs.iter().map(|(on, verbs)| format!("{} {on}", verbs.join(", "))).collect();
        (!texts.is_empty()).then(|| {
            let message = format!("the backend may not {}", texts.join("; "));
            let object = Object::installed("ClusterRole", keys::BACKEND_NAME);
            Finding::new(severity, Reason::RightsMissing, object, message)
                .repaired_by(repair.clone())
        })
    });
    Ok(found.collect())
}

/// What of it the server denies, or why that cannot be told.
async fn denied(look: &Look, deeds: Vec<Deed>) -> Result<Result<Vec<Deed>, Cause>, Error> {
    let client = connect(look.client.clone(), &look.metrics)?;
    let rules: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let spec = SelfSubjectRulesReviewSpec { namespace: Some("default".to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let status = match rules.create(&PostParams::default(), &review).await {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(err) => return Ok(Err(err.into())),
    };
    let mut denied = deeds;
    denied.retain(|deed| !status.resource_rules.iter().any(|rule| allows(rule, deed)));
    if !status.incomplete {
        return Ok(Ok(denied));
    }
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let mut really = Vec::new();
    for deed in denied {
        match reviews.create(&PostParams::default(), &review_of(&deed)).await {
            Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(_) => really.push(deed),
            Err(err) => return Ok(Err(err.into())),
        }
    }
    Ok(Ok(really))
}

fn allows(rule: &ResourceRule, deed: &Deed) -> bool {
    let has = |all: &[String], one: &str| all.iter().any(|known| known == "*" || known == one);
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let of_resource = |known: &String| {
        let subresource = deed.resource.split_once('/').map(|(_, sub)| sub);
        known.strip_prefix("*/").is_some_and(|sub| Some(sub) == subresource)
    };
    let resources = rule.resources.as_deref().unwrap_or_default();
    has(&rule.verbs, &deed.verb)
        && has(rule.api_groups.as_deref().unwrap_or_default(), &deed.group)
        && (has(resources, &deed.resource) || resources.iter().any(of_resource))
        && (names.is_empty() || names.contains(&deed.name))
}

fn review_of(deed: &Deed) -> SelfSubjectAccessReview {
    let (resource, subresource) = match deed.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (deed.resource.as_str(), None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(deed.group.clone()),
                resource: Some(resource.to_owned()),
                subresource,
                name: Some(deed.name.clone()).filter(|name| !name.is_empty()),
                verb: Some(deed.verb.clone()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deed(group: &str, resource: &str, name: &str, verb: &str) -> Deed {
        let [group, resource, name, verb] = [group, resource, name, verb].map(str::to_owned);
        Deed { group, resource, name, verb }
    }

    #[test]
    fn what_the_backend_does_is_what_its_roles_allow() {
        let kubernetes = on_kubernetes();
        for wanted in [
            deed("", "secrets", "", "delete"),
            deed("kube-bind.io", "clusterbindings/status", "", "patch"),
            deed("rbac.authorization.k8s.io", "roles", "", "escalate"),
        ] {
            assert!(kubernetes.contains(&wanted), "{wanted:?}");
        }
        let expected = [
            deed("apis.kcp.io", "apiexports/content", "mine", "list"),
            deed("apis.kcp.io", "apiexportendpointslices", "", "get"),
            deed("apis.kcp.io", "apiexportendpointslices", "", "list"),
            deed("apis.kcp.io", "apiexportendpointslices", "", "watch"),
            deed("apis.kcp.io", "apiexports", "", "get"),
            deed("apis.kcp.io", "apiexports", "", "list"),
            deed("apis.kcp.io", "apiexports", "", "watch"),
        ];
        assert_eq!(on_kcp("mine"), expected);
    }

    #[test]
    fn a_rule_allows_by_names_and_stars_and_nothing_else() {
        let rule = |group: &str, resource: &str, names: &[&str], verb: &str| -> ResourceRule {
            serde_json::from_value(json!({
                "apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": [verb],
            }))
            .unwrap()
        };
        let content = deed("apis.kcp.io", "apiexports/content", "mine", "list");
        for (rule, expected) in [
            (rule("apis.kcp.io", "apiexports/content", &["mine"], "list"), true),
            (rule("apis.kcp.io", "apiexports/content", &[], "*"), true),
            (rule("*", "*", &[], "*"), true),
            (rule("apis.kcp.io", "*/content", &[], "list"), true),
            (rule("apis.kcp.io", "*/status", &[], "list"), false),
            (rule("apis.kcp.io", "apiexports/content", &["other"], "list"), false),
            (rule("apis.kcp.io", "apiexports", &[], "list"), false),
            (rule("apis.kcp.io", "apiexports/content", &[], "get"), false),
            (rule("", "apiexports/content", &[], "list"), false),
        ] {
            assert_eq!(allows(&rule, &content), expected, "{rule:?}");
        }
    }
}
