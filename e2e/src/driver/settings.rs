//! What a consumer must know about a provider: the table of contract konnector.md 1.3 and the keys of 2.6.

use crate::service::Scope;

/// `--isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Service namespaces and cluster-scoped objects carry the contract namespace's name as a prefix.
    Prefixed,
    /// The consumer sees a namespaced resource as cluster-scoped; its objects are in the contract namespace.
    Namespaced,
    /// Names as on the consumer.
    None,
}

/// One configuration: two flags of the backend, and the scope that the resource has on the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `--consumer-scope`.
    pub informers: Scope,
    /// `--isolation`.
    pub isolation: Isolation,
    /// Of the resource.
    pub resource: Scope,
}

/// Where an object is on the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// None for a cluster-scoped one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl Settings {
    /// What each consumer has for itself: nothing is granted beyond its namespaces.
    pub const APART: Self = Self {
        informers: Scope::Namespaced,
        isolation: Isolation::Prefixed,
        resource: Scope::Namespaced,
    };

    /// All six pairs of flags.
    #[must_use]
    pub fn flag_pairs() -> Vec<(Scope, Isolation)> {
        let isolations = [Isolation::Prefixed, Isolation::Namespaced, Isolation::None];
        let with = |informers| isolations.map(|isolation| (informers, isolation));
        [with(Scope::Namespaced), with(Scope::Cluster)].concat()
    }

    /// The configurations of one pair of flags. Isolation Namespaced is for namespaced resources only.
    #[must_use]
    pub fn of(informers: Scope, isolation: Isolation) -> Vec<Self> {
        let scopes = [Scope::Namespaced, Scope::Cluster].into_iter();
        let fits =
            |scope: &Scope| *scope == Scope::Namespaced || isolation != Isolation::Namespaced;
        scopes.filter(fits).map(|resource| Self { informers, isolation, resource }).collect()
    }

    /// For a backend.
    #[must_use]
    pub fn flags(self) -> [String; 2] {
        [
            format!("--consumer-scope={}", self.informers.name().to_lowercase()),
            format!("--isolation={}", self.isolation.name()),
        ]
    }

    /// `BoundSchema.spec.scope`, which the consumer's CRD gets.
    #[must_use]
    pub fn bound_scope(self) -> Scope {
        match self.isolation {
            Isolation::Namespaced => Scope::Cluster,
            Isolation::Prefixed | Isolation::None => self.resource,
        }
    }

    /// Whether the konnector lists the exported resource in the whole cluster.
    #[must_use]
    pub fn cluster_wide(self) -> bool {
        self.bound_scope() == Scope::Cluster || self.claims_cluster_wide()
    }

    /// Whether it lists the claimed resources so.
    #[must_use]
    pub fn claims_cluster_wide(self) -> bool {
        self.informers == Scope::Cluster
    }

    /// Whether two consumers of one cluster could harm each other, so that the second is refused.
    #[must_use]
    pub fn refuses_second(self, with_claims: bool) -> bool {
        (self.isolation == Isolation::None && self.cluster_wide())
            || (with_claims && self.claims_cluster_wide())
    }

    /// `status.namespace` for a consumer's namespace; `contract` is the contract namespace.
    #[must_use]
    pub fn service_namespace(self, contract: &str, namespace: &str) -> String {
        match self.isolation {
            Isolation::None => namespace.to_owned(),
            Isolation::Prefixed | Isolation::Namespaced => format!("{contract}-{namespace}"),
        }
    }

    /// Where the consumer's object `name` goes; `service` is the service namespace of its namespace, if it has one.
    #[must_use]
    pub fn key(self, contract: &str, service: &str, name: &str) -> Key {
        let key = |namespace: Option<&str>, name: String| Key {
            namespace: namespace.map(str::to_owned),
            name,
        };
        match (self.bound_scope(), self.isolation) {
            (Scope::Namespaced, _) => key(Some(service), name.to_owned()),
            (Scope::Cluster, Isolation::Prefixed) => key(None, format!("{contract}-{name}")),
            (Scope::Cluster, Isolation::None) => key(None, name.to_owned()),
            (Scope::Cluster, Isolation::Namespaced) => key(Some(contract), name.to_owned()),
        }
    }

    /// Whether its objects are in the contract namespace.
    #[must_use]
    pub fn kept_in_contract(self) -> bool {
        self.isolation == Isolation::Namespaced
    }

    /// Whether its objects are owned by the contract namespace's Namespace.
    #[must_use]
    pub fn owned_by_contract(self) -> bool {
        self.bound_scope() == Scope::Cluster && self.isolation != Isolation::Namespaced
    }
}

impl Isolation {
    /// As objects have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefixed => "Prefixed",
            Self::Namespaced => "Namespaced",
            Self::None => "None",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_are_those_of_the_contract() {
        let rows: Vec<_> = Settings::flag_pairs()
            .into_iter()
            .flat_map(|(informers, isolation)| Settings::of(informers, isolation))
            .map(|s| {
                let key = s.key("p", "s", "o");
                (s.flags().join(" "), s.resource.name(), s.cluster_wide(), key.namespace, key.name)
            })
            .collect();
        let row =
            |flags: (&str, &str), scope: &'static str, wide, place: Option<&str>, name: &str| {
                let flags = format!("--consumer-scope={} --isolation={}", flags.0, flags.1);
                (flags, scope, wide, place.map(str::to_owned), name.to_owned())
            };
        assert_eq!(
            rows,
            [
                row(("namespaced", "Prefixed"), "Namespaced", false, Some("s"), "o"),
                row(("namespaced", "Prefixed"), "Cluster", true, None, "p-o"),
                row(("namespaced", "Namespaced"), "Namespaced", true, Some("p"), "o"),
                row(("namespaced", "None"), "Namespaced", false, Some("s"), "o"),
                row(("namespaced", "None"), "Cluster", true, None, "o"),
                row(("cluster", "Prefixed"), "Namespaced", true, Some("s"), "o"),
                row(("cluster", "Prefixed"), "Cluster", true, None, "p-o"),
                row(("cluster", "Namespaced"), "Namespaced", true, Some("p"), "o"),
                row(("cluster", "None"), "Namespaced", true, Some("s"), "o"),
                row(("cluster", "None"), "Cluster", true, None, "o"),
            ]
        );
    }
}
