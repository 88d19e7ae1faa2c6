//! What can go wrong with an offer, what the condition says of it, and what kind of waiting helps.

use super::myself;
use super::round::Shut;
use crate::api::keys;
use crate::rights;
use crate::runtime::error::{CallError, Cause, Retry};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(in crate::controllers) enum Error {
    /// A request failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no virtual workspace for schemas.
    #[error(
        "{0}; this kcp has no virtual workspace apiresourceschema, so copy the schema into this workspace by hand and label \
         it kube-bind.io/exported=true"
    )]
    Unserved(#[source] CallError),
    /// The role for reading schemas is somebody else's.
    #[error(transparent)]
    Rights(#[from] rights::Error),
    /// Nobody knows whom that role is for.
    #[error(transparent)]
    Myself(#[from] myself::Unknown),
    /// The role for reading schemas could not be owned yet.
    #[error("Cluster {} is not there yet, which owns the role for reading schemas", keys::CLUSTER)]
    Unowned,
    /// A template of that name is somebody else's.
    #[error(
        "apiserviceexporttemplate {name} exists and was not generated from APIBinding {binding}; delete it, and it is \
         generated, or make it again under another name to keep both"
    )]
    ForeignTemplate {
        /// The template.
        name: String,
        /// The binding.
        binding: String,
    },
    /// No object can have the name of the template.
    #[error(
        "the template of APIBinding {binding} would be called {name}, which is longer than 253 characters; bind the same \
         APIExport under a shorter name"
    )]
    TemplateName {
        /// The template.
        name: String,
        /// The binding.
        binding: String,
    },
    /// A schema of that name is somebody else's, and not the one that is bound.
    #[error(
        "apiresourceschema {name} exists, was not made by this backend, and is not the schema that is bound; delete it, and \
         a copy of the one that is bound is made"
    )]
    ForeignSchema {
        /// The schema.
        name: String,
        /// It has our label, so that a change of it is seen.
        labelled: bool,
    },
    /// The workspace does not want its own schema to be offered.
    #[error(
        "apiresourceschema {name} of this workspace is bound here, and its label kube-bind.io/exported says that it is not \
         for export; take that label away, and it is offered"
    )]
    Withheld {
        /// The schema.
        name: String,
    },
    /// kcp shows no such schema.
    #[error(
        "kcp does not show APIResourceSchema {name}, which is bound here: it was deleted, or its APIExport no longer has it; \
         the API provider has to export it again, or delete the APIBinding"
    )]
    SchemaMissing {
        /// The schema.
        name: String,
    },
    /// kcp shows another schema of the same name.
    #[error(
        "kcp shows an APIResourceSchema {name} that is not the one which APIBinding {binding} binds; another APIExport that \
         is bound here has one of the same name: delete the APIBinding of that one"
    )]
    OtherSchema {
        /// The schema.
        name: String,
        /// The binding.
        binding: String,
    },
    /// kcp does not let us read the schema although our role is there.
    #[error(
        "kcp does not let us read APIResourceSchema {name}: {why}; look whether ClusterRoleBinding {} is effective",
        keys::SCHEMA_READER_ROLE
    )]
    Hidden {
        /// The schema.
        name: String,
        /// What kcp says.
        why: String,
    },
    /// What was generated is no longer followed.
    #[error(
        "the templates generated from APIBindings are not kept up to date, because this workspace does not grant \
         apibindings.apis.kcp.io; accept that claim, or delete the templates that are not wanted: {0}"
    )]
    Blind(String),
}

impl Error {
    /// The reason of the condition; none for what passes within a moment.
    pub(super) fn reason(&self) -> Option<&'static str> {
        if self.retry() == Retry::Conflict {
            return None;
        }
        Some(match self {
            Self::Call(CallError { cause: Cause::Forbidden(_), .. }) => "Forbidden",
            Self::Call(_) => "RequestFailed",
            // The outage of one shard is no fault of a workspace on another one.
            Self::Myself(_) | Self::Unowned => return None,
            Self::Unserved(_) | Self::Hidden { .. } => "SchemaUnreadable",
            Self::Rights(err) => err.reason(),
            Self::ForeignTemplate { .. } => "ForeignTemplate",
            Self::TemplateName { .. } => "TemplateNameTooLong",
            Self::ForeignSchema { .. } => "ForeignSchema",
            Self::Withheld { .. } => "SchemaNotExported",
            Self::SchemaMissing { .. } => "SchemaNotFound",
            Self::OtherSchema { .. } => "SchemaAmbiguous",
            Self::Blind(_) => "PermissionClaimsMissing",
        })
    }

    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Call(err) => err.retry(),
            Self::Rights(err) => err.retry(),
            Self::Myself(myself::Unknown::Asked) => Retry::Conflict,
            Self::Myself(myself::Unknown::Untold(_)) | Self::Unowned => Retry::Transient,
            // Nothing tells when these pass.
            Self::Unserved(_)
            | Self::Hidden { .. }
            | Self::Withheld { .. }
            | Self::SchemaMissing { .. }
            | Self::OtherSchema { .. }
            | Self::ForeignSchema { labelled: false, .. } => Retry::Denied,
            Self::ForeignTemplate { .. }
            | Self::TemplateName { .. }
            | Self::ForeignSchema { labelled: true, .. }
            | Self::Blind(_) => Retry::Terminal,
        }
    }

    /// What else could not be read either.
    pub(super) fn shuts(&self) -> Option<Shut> {
        match self {
            Self::Hidden { .. } | Self::Unowned | Self::Myself(_) | Self::Rights(_) => {
                Some(Shut::Others)
            }
            Self::Call(err) => match err.cause {
                // The schemas of the workspace itself need no role; a claim that is lost fails each of them at once.
                Cause::Forbidden(_) => Some(Shut::Others),
                Cause::Timeout(_) => Some(Shut::All),
                _ => None,
            },
            _ => None,
        }
    }
}
