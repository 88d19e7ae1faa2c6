//! What the backend needs in a provider's cluster beside its own kinds.
//!
//! One table feeds the permission claims of the `APIExport`, the `ClusterRole` for plain Kubernetes
//! and the check of what a workspace has accepted.

use crate::api::keys;

/// One resource of somebody else's API group that the backend uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// API group; empty for core.
    pub group: &'static str,
    /// Plural resource name.
    pub resource: &'static str,
    /// Verbs in use, without `*`.
    pub verbs: &'static [&'static str],
    /// Without it the backend still serves the workspace, with less comfort.
    pub optional: bool,
    /// Exists in kcp only, so it is no part of the rules for plain Kubernetes.
    pub kcp_only: bool,
}

impl Claim {
    /// Its resource and group for people.
    #[must_use]
    pub fn display(&self) -> String {
        display(self.group, self.resource)
    }

    /// The verbs to claim: `*` and then those in use.
    ///
    /// kcp grants a claim only where the export's and the binding's verb lists intersect literally.
    /// Bindings exist with `*` (as v0.8.1 documents it) and with explicit verbs; listing both works
    /// with either.
    #[must_use]
    pub fn claimed_verbs(&self) -> Vec<&'static str> {
        std::iter::once("*").chain(self.verbs.iter().copied()).collect()
    }
}

/// A resource and its group for people.
#[must_use]
pub fn display(group: &str, resource: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{resource}.{group}")
}

const READ: &[&str] = &["get", "list", "watch"];
const ALL: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];

const fn claim(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Claim {
    Claim { group, resource, verbs, optional: false, kcp_only: false }
}

/// Templates come from `APIBindings`; hand-made templates work without.
pub const API_BINDINGS: Claim =
    Claim { kcp_only: true, optional: true, ..claim("apis.kcp.io", "apibindings", READ) };

/// Where a workspace tells its address, which several shards need; without, consumers are sent to the shard.
pub const LOGICAL_CLUSTERS: Claim =
    Claim { kcp_only: true, optional: true, ..claim("core.kcp.io", "logicalclusters", READ) };

/// All claims. `configmaps` is not among them although v0.8.1 claims it: the konnector reaches
/// them with its own rights, the backend never reads one.
pub const CLAIMS: &[Claim] = &[
    claim("", "namespaces", ALL),
    claim("", "secrets", ALL),
    claim("", "serviceaccounts", ALL),
    claim(keys::RBAC_GROUP, "roles", ALL),
    claim(keys::RBAC_GROUP, "rolebindings", ALL),
    claim(keys::RBAC_GROUP, "clusterroles", ALL),
    claim(keys::RBAC_GROUP, "clusterrolebindings", ALL),
    claim("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    claim("apiextensions.k8s.io", "customresourcedefinitions", READ),
    Claim { kcp_only: true, ..claim("apis.kcp.io", "apiresourceschemas", ALL) },
    API_BINDINGS,
    LOGICAL_CLUSTERS,
    // Not among the claims of v0.8.1, so older bindings have not accepted it.
    Claim { optional: true, ..claim("", "events", &["create", "patch"]) },
];

/// Group and resource of what v0.8.1 claims and this backend never needs.
pub const LEGACY_CLAIMS: &[(&str, &str)] = &[("", "configmaps")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_resource_is_claimed_twice_and_no_verb_is_a_wildcard() {
        for (i, a) in CLAIMS.iter().enumerate() {
            assert!(!a.verbs.is_empty() && !a.verbs.contains(&"*"), "{a:?}");
            assert!(CLAIMS[..i].iter().all(|b| (a.group, a.resource) != (b.group, b.resource)));
        }
    }
}
