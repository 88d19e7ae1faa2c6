//! How a request can end or wait: the table of design section 5.

use crate::api::conditions::{EXPORTS_READY, PERMISSION_CLAIM};
use crate::api::v1alpha2::{GroupResource, Scope};
use crate::consumer::schema::Problem;
use crate::rights::{self, Shared};
use crate::runtime::error::{CallError, Cause, Retry, shortened};

/// The reason of a request that waits for another one.
pub(super) const BUSY: &str = "ResourceRequested";

/// Why a request has no export (yet). Texts begin as those of the contract (objects.md section 3).
#[derive(Debug, thiserror::Error)]
pub(in crate::controllers) enum Error {
    /// Only three core resources can be claimed.
    #[error(
        "Resource {0} is not a valid claimable API; claim configmaps, secrets or serviceaccounts of \
         the core group, in a new request"
    )]
    InvalidClaim(String),
    /// A resource is claimed twice.
    #[error(
        "Duplicate permission claim found for group/resource {0}; put the selectors into one claim, \
         in a new request"
    )]
    DuplicateClaim(String),
    /// A resource without versions.
    #[error(
        "No versions are given for {0}; name at least one in spec.resources[].versions, in a new \
         request"
    )]
    NoVersions(GroupResource),
    /// A name that no namespace can have.
    #[error(
        "{0:?} in spec.namespaces is no name for a namespace; use lower case letters, digits and '-', \
         in a new request"
    )]
    InvalidNamespace(String),
    /// Cluster-scoped and namespaced resources cannot share an export.
    #[error("Different scopes found: {0}; ask for resources of one scope in each request")]
    DifferentScopes(Scope),
    /// The consumer has the resource already.
    #[error(
        "{resource} is exported already by the APIServiceExport {export}; use that one, or have the \
         provider delete it before a new request"
    )]
    AlreadyExported {
        /// The resource.
        resource: GroupResource,
        /// The export that has it.
        export: String,
    },
    /// The name is in use for something else.
    #[error(
        "the APIServiceExport {0} exists with other resources or permission claims, which cannot be \
         changed; choose another name for the request, or have the provider delete the export first"
    )]
    Conflict(String),
    /// Not what the consumer bound.
    #[error(
        "{0} is not part of the templates that this consumer has bound; bind a template that offers \
         it, or have the provider allow it, then make a new request"
    )]
    NotCovered(String),
    /// The request is in the wrong place.
    #[error(
        "this namespace is no contract namespace of this backend; make the request in the namespace \
         that the kubeconfig of the consumer names"
    )]
    NoContract,
    /// It is in the right place, which is not seen yet.
    #[error("the contract namespace is not seen yet")]
    Unseen,
    /// Something is on its way out.
    #[error("{0} is being deleted; the request goes on when it is gone")]
    Deleting(&'static str),
    /// Nothing of that name is offered.
    #[error("{}; the provider offers a resource by the label kube-bind.io/exported=true on its CustomResourceDefinition or APIResourceSchema", missing(.0.as_ref()))]
    NoSchema(Option<GroupResource>),
    /// What is offered has other versions.
    #[error(
        "Schema {0} serves none of the versions asked for; the provider has to serve one of them, or ask for others in a new request"
    )]
    NotServed(GroupResource),
    /// What is offered cannot be given to consumers.
    #[error(transparent)]
    Schema(#[from] Problem),
    /// What we have just made or seen is not there.
    #[error(
        "BoundSchema {0} in the service provider cluster not found; it is made again as soon as its source is there"
    )]
    SchemaVanished(String),
    /// The API server does not take the schema.
    #[error(
        "the schema cannot be given to consumers: {}; the provider has to make it smaller or correct it",
        .0.cause
    )]
    SchemaRefused(#[source] CallError),
    /// Somebody else's object has the name.
    #[error(
        "BoundSchema {0} exists and was not made by this backend; the provider has to delete it"
    )]
    ForeignSchema(String),
    /// Another request is about to export the resource.
    #[error(
        "{resource} is being exported by the request {request}; this one goes on when that ended"
    )]
    Busy {
        /// The resource.
        resource: GroupResource,
        /// The other request.
        request: String,
    },
    /// Only one consumer of a cluster may have this.
    #[error(transparent)]
    Shared(#[from] Shared),
    /// The consumer's rights cannot be put in place.
    #[error(transparent)]
    Rights(#[from] rights::Error),
    /// A request to the server failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

fn missing(resource: Option<&GroupResource>) -> String {
    resource.map_or("Schema not found".to_owned(), |name| format!("Schema {name} not found"))
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controllers) struct Row {
    /// The condition that says so.
    pub condition: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// The request has failed for good.
    pub is_final: bool,
}

impl Error {
    /// What the status says; none for what passes within a moment.
    pub(in crate::controllers) fn row(&self) -> Option<Row> {
        let (condition, reason, is_final) = match self {
            Self::InvalidClaim(_) => (PERMISSION_CLAIM, "InvalidPermissionClaim", true),
            Self::DuplicateClaim(_) => (PERMISSION_CLAIM, "DuplicatePermissionClaim", true),
            Self::NoVersions(_) => (EXPORTS_READY, "NoVersions", true),
            Self::InvalidNamespace(_) => (EXPORTS_READY, "InvalidNamespace", true),
            Self::DifferentScopes(_) => (EXPORTS_READY, "DifferentScopes", true),
            Self::AlreadyExported { .. } => (EXPORTS_READY, "ResourceAlreadyExported", true),
            Self::Conflict(_) => (EXPORTS_READY, "ExportConflict", true),
            Self::NotCovered(_) => (EXPORTS_READY, "Forbidden", true),
            Self::NoContract => (EXPORTS_READY, "NoContractNamespace", false),
            Self::Deleting(_) => (EXPORTS_READY, "Deleting", false),
            Self::NoSchema(_) | Self::NotServed(_) => (EXPORTS_READY, "SchemaNotFound", false),
            Self::Schema(problem) => (EXPORTS_READY, problem.reason(), false),
            Self::SchemaVanished(_) => (EXPORTS_READY, "BoundSchemaNotFound", false),
            Self::SchemaRefused(_) => (EXPORTS_READY, "BoundSchemaRefused", false),
            Self::ForeignSchema(_) => (EXPORTS_READY, "ForeignBoundSchema", false),
            Self::Busy { .. } => (EXPORTS_READY, BUSY, false),
            Self::Shared(_) => (EXPORTS_READY, Shared::REASON, false),
            Self::Unseen => return None,
            Self::Rights(err) if err.retry() == Retry::Conflict => return None,
            Self::Rights(err) => (EXPORTS_READY, err.reason(), false),
            Self::Call(err) if err.retry() == Retry::Conflict => return None,
            Self::Call(CallError { cause: Cause::Forbidden(_), .. }) => {
                (EXPORTS_READY, "RequestForbidden", false)
            }
            Self::Call(_) => (EXPORTS_READY, "RequestFailed", false),
        };
        Some(Row { condition, reason, is_final })
    }

    /// The text for the status. Clients use it as a format string, and it quotes what a consumer wrote.
    pub(in crate::controllers) fn message(&self) -> String {
        shortened(self.to_string().replace('%', ""))
    }

    /// What kind of waiting helps.
    pub(in crate::controllers) fn retry(&self) -> Retry {
        if self.row().is_some_and(|row| row.is_final) {
            return Retry::Terminal;
        }
        match self {
            Self::Rights(err) => err.retry(),
            Self::Call(err) | Self::SchemaRefused(err) => err.retry(),
            Self::Unseen => Retry::Conflict,
            Self::Deleting(_) | Self::SchemaVanished(_) => Retry::Transient,
            // Someone has to act; the event that says so wakes the request.
            _ => Retry::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_new_request_can_mend_is_final_and_everything_else_heals() {
        let cows = || GroupResource { group: "wildwest.dev".into(), resource: "cowboys".into() };
        let table = [
            (Error::InvalidClaim("pods.".into()), "InvalidPermissionClaim", true),
            (Error::DuplicateClaim("secrets.".into()), "DuplicatePermissionClaim", true),
            (Error::NoVersions(cows()), "NoVersions", true),
            (Error::InvalidNamespace("A".into()), "InvalidNamespace", true),
            (Error::DifferentScopes(Scope::Cluster), "DifferentScopes", true),
            (
                Error::AlreadyExported { resource: cows(), export: "a".into() },
                "ResourceAlreadyExported",
                true,
            ),
            (Error::Conflict("a".into()), "ExportConflict", true),
            (Error::NotCovered("cowboys.wildwest.dev".into()), "Forbidden", true),
            (Error::NoContract, "NoContractNamespace", false),
            (Error::Deleting("it"), "Deleting", false),
            (Error::NoSchema(None), "SchemaNotFound", false),
            (Error::NotServed(cows()), "SchemaNotFound", false),
            (Error::SchemaVanished("a".into()), "BoundSchemaNotFound", false),
            (Error::ForeignSchema("a".into()), "ForeignBoundSchema", false),
            (Error::Busy { resource: cows(), request: "a".into() }, "ResourceRequested", false),
            (Error::Shared(Shared), "SharedClusterScope", false),
        ];
        for (error, reason, is_final) in table {
            let row = error.row().unwrap();
            assert_eq!((row.reason, row.is_final), (reason, is_final), "{error}");
            assert_eq!(error.retry() == Retry::Terminal, is_final, "{error}");
            assert!(!error.to_string().contains('%'), "{error}");
        }
    }

    #[test]
    fn a_message_is_no_format_string_whatever_a_consumer_wrote() {
        let message = Error::InvalidNamespace("100%d".into()).message();
        assert!(message.starts_with("\"100d\" in spec.namespaces"), "{message}");
    }

    #[test]
    fn the_texts_of_the_contract_come_first() {
        let cows = GroupResource { group: "wildwest.dev".into(), resource: "cowboys".into() };
        for (error, start) in [
            (Error::NoSchema(None), "Schema not found;"),
            (Error::NoSchema(Some(cows)), "Schema cowboys.wildwest.dev not found;"),
            (Error::InvalidClaim("pods.".into()), "Resource pods. is not a valid claimable API;"),
            (
                Error::DuplicateClaim("secrets.".into()),
                "Duplicate permission claim found for group/resource secrets.;",
            ),
            (Error::DifferentScopes(Scope::Cluster), "Different scopes found: Cluster;"),
        ] {
            assert!(error.to_string().starts_with(start), "{error}");
        }
    }
}
