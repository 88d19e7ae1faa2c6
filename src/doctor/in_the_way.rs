//! Objects of others that have a name which the backend needs. Its conditions say so; but others write conditions, too, so
//! of what they can be about only an object counts that is there, is not ours, and has a name that we want there.

use kube::ResourceExt as _;

use super::finding::Object;
use super::look::Look;
use crate::api::keys;
use crate::consumer::ours;
use crate::consumer::rights::ExportName;
use crate::runtime::fleet::Cluster;

/// Kind, as kubectl takes it, namespace and name of an object.
type InTheWay = (String, String, String);

/// Kinds that can be in our way. What holds data of others is not among them.
const KINDS: [&str; 6] = [
    "apiserviceexporttemplate",
    "apiresourceschema",
    "clusterrole",
    "clusterrolebinding",
    "role",
    "rolebinding",
];

/// Those of them in which somebody has written what nobody else knows.
const MADE_BY_HAND: [&str; 2] = ["apiserviceexporttemplate", "apiresourceschema"];

/// The command that removes what a condition of an object says to be in our way; with a note whether that is data which
/// nothing brings back. Of several texts, which `; ` separates, the first that has one counts.
pub(super) fn removal(
    look: &Look,
    cluster: &Cluster,
    on: &Object,
    message: &str,
) -> Option<(String, bool)> {
    message.split("; ").find_map(|message| removal_of(look, cluster, on, said(message)?))
}

fn removal_of(
    look: &Look,
    cluster: &Cluster,
    on: &Object,
    (kind, namespace, name): InTheWay,
) -> Option<(String, bool)> {
    let stands = match on.kind.as_str() {
        "Cluster" => stands_before_cluster(look, cluster, (&kind, &namespace, &name)),
        _ => stands_before_export(look, cluster, &on.namespace, (&kind, &namespace, &name)),
    };
    let object = (kind.as_str(), namespace.as_str(), name.as_str());
    let command = stands.then(|| look.kubectl(&cluster.id, "delete", object, &[])).flatten()?;
    Some((command, MADE_BY_HAND.contains(&object.0)))
}

/// The object, as our messages begin: `<kind> [<namespace>/]<name> [of cluster <cluster>] exists`.
fn said(message: &str) -> Option<InTheWay> {
    let mut words = message.split(' ');
    let (kind, name) = (words.next()?, words.next()?);
    let mut next = words.next()?;
    if next == "of" {
        next = (words.next()? == "cluster").then(|| words.nth(1))??;
    }
    if next.trim_end_matches(',') != "exists" || !KINDS.contains(&kind) {
        return None;
    }
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Some((kind.to_owned(), namespace.to_owned(), name.to_owned()))
}

/// Whether a role or binding of somebody else is there.
fn is_foreign(look: &Look, cluster: &Cluster, (kind, namespace, name): (&str, &str, &str)) -> bool {
    look.rights_in(cluster).any(|listed| {
        let meta = &listed.metadata;
        listed.kind.to_lowercase() == kind
            && meta.namespace.as_deref().unwrap_or_default() == namespace
            && meta.name.as_deref() == Some(name)
            && !ours::is_labelled(meta)
    })
}

/// What keeps users from their rights, or templates from being generated.
fn stands_before_cluster(look: &Look, cluster: &Cluster, object: (&str, &str, &str)) -> bool {
    let bindings = look.kinds.api_bindings.list(cluster);
    match object {
        ("apiserviceexporttemplate", "", name) => {
            let is_wanted = |binding: &str| {
                let rest = name.strip_prefix(binding);
                rest.is_some_and(|rest| ["-cluster", "-namespaced"].contains(&rest))
            };
            let known = look.kinds.templates.get(cluster, "", name);
            known.is_some_and(|template| !ours::is_labelled(&template.metadata))
                && bindings.iter().any(|binding| is_wanted(&binding.name_any()))
        }
        ("apiresourceschema", "", name) => {
            // What the workspace exports itself is never in the way.
            let others = bindings.iter().filter(|binding| !binding.is_of(cluster.id.as_str()));
            let mut bound = others.flat_map(|binding| binding.bound_resources());
            let schemas = look.kinds.sources.api_resource_schemas();
            let labelled = schemas.and_then(|schemas| schemas.get(cluster, "", name));
            labelled.is_none_or(|known| !ours::is_labelled(&known.metadata))
                && bound.any(|bound| bound.schema.name == name)
        }
        ("clusterrole" | "clusterrolebinding", "", name) => {
            [keys::OIDC_USER_ROLE, keys::SCHEMA_READER_ROLE].contains(&name)
                && is_foreign(look, cluster, object)
        }
        _ => false,
    }
}

/// What keeps a consumer from the rights of one of its exports.
fn stands_before_export(
    look: &Look,
    cluster: &Cluster,
    contract: &str,
    object: (&str, &str, &str),
) -> bool {
    let exports = look.kinds.exports.list_namespace(cluster, contract);
    let requests = look.kinds.export_requests.list_namespace(cluster, contract);
    let names = exports.iter().map(|one| one.name_any());
    let mut names = names.chain(requests.iter().map(|one| one.name_any()));
    let (_, namespace, name) = object;
    is_foreign(look, cluster, object)
        && names.any(|export| {
            let export = ExportName::new(contract, &export);
            match namespace {
                "" => *name == export.cluster_role(),
                _ => *name == export.role(),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_our_way_is_read_off_our_own_messages_and_nobody_elses() {
        let found = |kind: &str, namespace: &str, name: &str| {
            Some((kind.to_owned(), namespace.to_owned(), name.to_owned()))
        };
        for (message, expected) in [
            (
                "apiserviceexporttemplate a-cluster exists and was not made by this backend",
                found("apiserviceexporttemplate", "", "a-cluster"),
            ),
            (
                "apiresourceschema today.cowboys exists, was not made",
                found("apiresourceschema", "", "today.cowboys"),
            ),
            ("role wild-west/star exists and was", found("role", "wild-west", "star")),
            (
                "clusterrole kube-bind-oidc-user of cluster 28rwq3skw0u9rkqq exists and was not",
                found("clusterrole", "", "kube-bind-oidc-user"),
            ),
            ("clusterrole star of wild west exists", None),
            ("secret wild-west/star exists and was", None),
            ("it exists already", None),
            ("", None),
        ] {
            assert_eq!(said(message), expected, "{message}");
        }
    }
}
