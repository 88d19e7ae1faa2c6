//! Which permission claims a set of flags needs.

use crate::api::claims::{API_BINDINGS, CLAIMS, Claim, LOGICAL_CLUSTERS};
use crate::cli::values::SchemaSource;

/// The flags that decide. `--consumer-scope` does not, nor does `--isolation`: an export keeps the scope that it was made
/// with, so with other flags there may be exports that need roles in namespaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// `--schema-source`; none where it is not known yet.
    pub(super) schema_source: Option<SchemaSource>,
    /// Templates are generated for what `APIBindings` bind.
    pub(super) templates: bool,
    /// `--external-address` is given, so nobody asks for what workspaces publish.
    pub(super) external_address: bool,
}

impl Needs {
    /// The claims, in the order of the export.
    pub(super) fn claims(self) -> Vec<Claim> {
        CLAIMS.iter().filter(|claim| self.need(claim)).copied().collect()
    }

    fn need(self, claim: &Claim) -> bool {
        let reads = |source| self.schema_source.is_none_or(|known| known == source);
        match (claim.group, claim.resource) {
            ("apiextensions.k8s.io", "customresourcedefinitions") => {
                reads(SchemaSource::CustomResourceDefinitions)
            }
            ("apis.kcp.io", "apiresourceschemas") => reads(SchemaSource::ApiResourceSchemas),
            _ if *claim == API_BINDINGS => {
                self.templates && reads(SchemaSource::ApiResourceSchemas)
            }
            _ if *claim == LOGICAL_CLUSTERS => !self.external_address,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(needs: Needs) -> Vec<&'static str> {
        let claims = needs.claims();
        let all = CLAIMS.iter().filter(|claim| !claims.contains(claim));
        all.map(|claim| claim.resource).collect()
    }

    #[test]
    fn what_the_flags_do_not_need_is_left_out() {
        let all = Needs { schema_source: None, templates: true, external_address: false };
        assert_eq!(left_out(all), Vec::<&str>::new());
        let crds = Needs {
            schema_source: Some(SchemaSource::CustomResourceDefinitions),
            external_address: true,
            ..all
        };
        assert_eq!(left_out(crds), ["apiresourceschemas", "apibindings", "logicalclusters"]);
        let by_hand = Needs {
            schema_source: Some(SchemaSource::ApiResourceSchemas),
            templates: false,
            ..all
        };
        assert_eq!(left_out(by_hand), ["customresourcedefinitions", "apibindings"]);
    }
}
