//! `APIBinding`: which export a workspace uses and which claims it accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::{ApiExport, ApiResourceSchema};
use super::{CLAIM_ACCEPTED, ExportReference, PHASE_BOUND};
use crate::api::claims::Claim;
use crate::api::conditions::Condition;

/// Binds an [`ApiExport`] into a workspace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "apis.kcp.io",
    version = "v1alpha2",
    kind = "APIBinding",
    root = "ApiBinding",
    status = "ApiBindingStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct ApiBindingSpec {
    /// What is bound.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub reference: BindingReference,
    /// What the workspace thinks of the export's claims.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_empty"
    )]
    pub permission_claims: Arc<[AcceptableClaim]>,
}

impl ApiBinding {
    /// Whether the workspace serves what is bound.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some(PHASE_BOUND))
    }

    /// The resources that the workspace got.
    #[must_use]
    pub fn bound_resources(&self) -> &[BoundResource] {
        self.status.as_ref().map_or(&[], |status| &status.bound_resources)
    }

    /// The logical cluster of the export, which has the schemas of what is bound.
    #[must_use]
    pub fn export_cluster(&self) -> Option<&str> {
        self.status.as_ref()?.api_export_cluster_name.as_deref()
    }

    /// Whether the export is in this logical cluster, and so the schemas that are bound.
    #[must_use]
    pub fn is_of(&self, cluster: &str) -> bool {
        self.export_cluster() == Some(cluster)
    }

    /// Whether kcp has labelled what a claim covers, so that we see all of it.
    #[must_use]
    pub fn applies(&self, claim: &Claim) -> bool {
        let applied = self.status.as_ref().map_or(&[][..], |s| &*s.applied_permission_claims);
        let same =
            |one: &PermissionClaim| one.group == claim.group && one.resource == claim.resource;
        applied.iter().any(|one| same(&one.claim))
    }

    /// Whether the export makes a claim, whatever the workspace thinks of it.
    #[must_use]
    pub fn is_asked(&self, claim: &Claim) -> bool {
        let asked = self.status.as_ref().map_or(&[][..], |s| &*s.export_permission_claims);
        asked.iter().any(|one| one.group == claim.group && one.resource == claim.resource)
    }

    /// Whether the workspace lets us do all of a claim.
    ///
    /// It works only where the verb lists of export and binding have a verb in common to the letter; `*` on one side
    /// does not stand for the other's verbs.
    #[must_use]
    pub fn grants(&self, claim: &Claim) -> bool {
        let Some(status) = &self.status else {
            return false;
        };
        let same = |group: &str, resource: &str| group == claim.group && resource == claim.resource;
        let exported = status.export_permission_claims.iter().find(|c| same(&c.group, &c.resource));
        let accepted = self.spec.permission_claims.iter().find(|c| {
            same(&c.claim.claim.group, &c.claim.claim.resource)
                && c.is_accepted()
                && c.claim.selector.match_all
        });
        let (Some(exported), Some(accepted)) = (exported, accepted) else {
            return false;
        };
        let granted = |verb: &str| {
            exported.verbs.iter().any(|v| v == verb)
                && accepted.claim.claim.verbs.iter().any(|v| v == verb)
        };
        granted("*") || claim.verbs.iter().all(|verb| granted(verb))
    }
}

/// What a binding binds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingReference {
    /// An export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportReference>,
}

/// A claim and what the workspace thinks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AcceptableClaim {
    /// The claim and its selector.
    #[serde(flatten)]
    pub claim: ScopedClaim,
    /// [`CLAIM_ACCEPTED`] or `Rejected`.
    pub state: String,
}

impl AcceptableClaim {
    /// True if the workspace granted the claim.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.state == CLAIM_ACCEPTED
    }
}

/// A claim restricted to some objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScopedClaim {
    /// The claim.
    #[serde(flatten)]
    pub claim: PermissionClaim,
    /// Which objects.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub selector: ClaimSelector,
}

/// Access to a resource of another API group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PermissionClaim {
    /// API group; empty for core.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Verbs, `*` for all.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub verbs: Vec<String>,
    /// Which export the resource comes from; empty for built-in ones.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub identity_hash: String,
}

/// Objects that a claim covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSelector {
    /// All of them.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_false"
    )]
    pub match_all: bool,
    /// Those with these labels.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub match_labels: BTreeMap<String, String>,
}

/// State of a binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiBindingStatus {
    /// Logical cluster of the export.
    #[serde(rename = "apiExportClusterName", default, skip_serializing_if = "Option::is_none")]
    pub api_export_cluster_name: Option<String>,
    /// The resources that the workspace got.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_empty"
    )]
    pub bound_resources: Arc<[BoundResource]>,
    /// `Binding` or [`PHASE_BOUND`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Claims in force.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub applied_permission_claims: Vec<ScopedClaim>,
    /// Claims that the export makes.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "crate::api::wire::is_empty"
    )]
    pub export_permission_claims: Arc<[PermissionClaim]>,
    /// Observations of kcp.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
}

/// A resource that a workspace got from an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundResource {
    /// API group.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Its schema.
    pub schema: BoundResourceSchema,
    /// Versions that objects were stored in.
    #[serde(
        default,
        deserialize_with = "crate::api::wire::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub storage_versions: Vec<String>,
}

/// The schema of a bound resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundResourceSchema {
    /// Name of the [`ApiResourceSchema`] in the export's workspace.
    pub name: String,
    /// Its UID.
    #[serde(rename = "UID", default, deserialize_with = "crate::api::wire::or_default")]
    pub uid: String,
    /// Identity of the export, which tells our own export from others.
    #[serde(default, deserialize_with = "crate::api::wire::or_default")]
    pub identity_hash: String,
}
