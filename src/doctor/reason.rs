//! The reasons that findings have of their own; all others are those of conditions.

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Why something is found, as one word for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// The APIExport cannot be read.
    ExportUnreadable,
    /// The APIExport lacks schemas that this version needs.
    ExportOutdated,
    /// The APIExport does not claim what the flags need.
    ClaimsNotMade,
    /// The workspace of the APIExport grants the backend more than it should have there.
    ExportWorkspaceExposed,
    /// A consumer bound the workspace of the APIExport, which is not served.
    ExportWorkspaceNotServed,
    /// Something cannot be read.
    NotReady,
    /// An object cannot be decoded.
    ObjectUnreadable,
    /// A `CustomResourceDefinition` is missing or another one.
    DefinitionOutdated,
    /// The backend may not do what it has to.
    RightsMissing,
    /// An APIBinding to the APIExport is not bound.
    NotBound,
    /// A workspace has other schemas than the APIExport.
    BindingOutdated,
    /// A workspace has not accepted claims.
    PermissionClaimsMissing,
    /// A workspace is letting go of the backend.
    Leaving,
    /// A template offers what has no schema to give.
    TemplateWithoutSchema,
    /// A template offers what every request for it is refused for.
    TemplateUnusable,
    /// A Collection names a template that is not there.
    CollectionIncomplete,
    /// A contract namespace has no ClusterBinding.
    ContractWithoutBinding,
    /// Nobody knows who bound a consumer.
    NobodyRecorded,
    /// An export lets a later consumer of a cluster reach the objects of the others.
    SharedClusterScope,
    /// Rights of an export that is gone.
    OrphanedRights,
    /// A BoundSchema of an export that is gone.
    OrphanedBoundSchema,
    /// A service namespace of which the APIServiceNamespace is gone.
    OrphanedNamespace,
    /// The role of v0.8.1 that all consumers share.
    SharedExportRole,
    /// A part of it.
    AggregatedRole,
    /// Another role of v0.8.1 that the flags do without.
    LegacyRole,
}
