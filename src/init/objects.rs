//! Objects as JSON: read, compare, create or replace with resourceVersion.
//!
//! No server-side apply: through kcp's virtual workspaces it does not prune (see the design), and
//! one way of writing is enough. JSON rather than types, so that fields unknown to us are written
//! back as they were.

use kube::core::Request;
use kube::core::params::{GetParams, PostParams};
use serde_json::Value;

use crate::init::connection::Workspace;
use crate::init::error::{Error, Failure};
use crate::init::merge::merge;
use crate::init::report;

/// How often an update is tried again after another writer came first.
const CONFLICTS: usize = 5;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Updated,
    Unchanged,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// The kinds that `init` deals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Workspace,
    LogicalCluster,
    ApiResourceSchema,
    ApiExport,
    ApiExportEndpointSlice,
    ApiBinding,
    Namespace,
    ServiceAccount,
    Secret,
    Role,
    RoleBinding,
    ClusterRole,
    ClusterRoleBinding,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Workspace,
        Self::LogicalCluster,
        Self::ApiResourceSchema,
        Self::ApiExport,
        Self::ApiExportEndpointSlice,
        Self::ApiBinding,
        Self::Namespace,
        Self::ServiceAccount,
        Self::Secret,
        Self::Role,
        Self::RoleBinding,
        Self::ClusterRole,
        Self::ClusterRoleBinding,
    ];

    /// `apiVersion`, `kind` and the resource in URLs.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        const RBAC: &str = "rbac.authorization.k8s.io/v1";
        match self {
            Self::Workspace => ("tenancy.kcp.io/v1alpha1", "Workspace", "workspaces"),
            Self::LogicalCluster => ("core.kcp.io/v1alpha1", "LogicalCluster", "logicalclusters"),
            Self::ApiResourceSchema => {
                ("apis.kcp.io/v1alpha1", "APIResourceSchema", "apiresourceschemas")
            }
            Self::ApiExport => ("apis.kcp.io/v1alpha2", "APIExport", "apiexports"),
            Self::ApiExportEndpointSlice => {
                ("apis.kcp.io/v1alpha1", "APIExportEndpointSlice", "apiexportendpointslices")
            }
            Self::ApiBinding => ("apis.kcp.io/v1alpha2", "APIBinding", "apibindings"),
            Self::Namespace => ("v1", "Namespace", "namespaces"),
            Self::ServiceAccount => ("v1", "ServiceAccount", "serviceaccounts"),
            Self::Secret => ("v1", "Secret", "secrets"),
            Self::Role => (RBAC, "Role", "roles"),
            Self::RoleBinding => (RBAC, "RoleBinding", "rolebindings"),
            Self::ClusterRole => (RBAC, "ClusterRole", "clusterroles"),
            Self::ClusterRoleBinding => (RBAC, "ClusterRoleBinding", "clusterrolebindings"),
        }
    }

    /// The kind of an object.
    pub(super) fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let (api_version, name, _) = kind.names();
            object["apiVersion"] == api_version && object["kind"] == name
        })
    }
}

/// The place of one object.
#[derive(Debug, Clone)]
pub(super) struct Target {
    kind: Kind,
    name: String,
    collection: String,
    /// Kind and name, for messages.
    pub(super) label: String,
}

impl Target {
    /// `namespace` is none for cluster-scoped objects.
    pub(super) fn new(kind: Kind, namespace: Option<&str>, name: &str) -> Self {
        let (api_version, kind_name, resource) = kind.names();
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let (collection, label) = match namespace {
            None => (format!("/{root}/{api_version}/{resource}"), format!("{kind_name} {name}")),
            Some(namespace) => (
                format!("/{root}/{api_version}/namespaces/{namespace}/{resource}"),
                format!("{kind_name} {namespace}/{name}"),
            ),
        };
        Self { kind, name: name.to_owned(), collection, label }
    }

    /// The one that an object describes.
    pub(super) fn of(object: &Value) -> Result<Self, Error> {
        let metadata = &object["metadata"];
        match (Kind::of(object), metadata["name"].as_str()) {
            (Some(kind), Some(name)) => Ok(Self::new(kind, metadata["namespace"].as_str(), name)),
            _ => Err(Error::Generated(metadata.to_string())),
        }
    }

    fn failed(&self, action: &'static str, workspace: &Workspace, failure: Failure) -> Error {
        Error::Call {
            action,
            object: self.label.clone(),
            workspace: workspace.path.clone(),
            failure,
        }
    }

    /// A request that could not even be put together; not seen with the fixed paths used here.
    fn unbuildable(&self, workspace: &Workspace, error: kube::core::request::Error) -> Error {
        let error = kube::Error::BuildRequest(error);
        self.failed("address", workspace, Failure::Client(Box::new(error)))
    }
}

/// Reads an object; none if it does not exist.
pub(super) async fn get(workspace: &Workspace, target: &Target) -> Result<Option<Value>, Error> {
    let request = Request::new(&target.collection)
        .get(&target.name, &GetParams::default())
        .map_err(|error| target.unbuildable(workspace, error))?;
    match workspace.call("read", &target.label, request).await {
        Ok(object) => Ok(Some(object)),
        Err(Error::Call { failure: Failure::NotServed, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates an object, or brings the fields that `wanted` has to its values and leaves all others
/// alone. Prints the step.
pub(super) async fn ensure(workspace: &Workspace, wanted: &Value) -> Result<(), Error> {
    let target = Target::of(wanted)?;
    let outcome = write(workspace, &target, wanted).await?;
    report(outcome, &format!("{} in {}", target.label, workspace.path));
    Ok(())
}

async fn write(workspace: &Workspace, target: &Target, wanted: &Value) -> Result<Outcome, Error> {
    for _ in 0..CONFLICTS {
        let Some(live) = get(workspace, target).await? else {
            match create(workspace, target, wanted).await {
                Err(error) if is_conflict(&error) => continue,
                other => return other.map(|()| Outcome::Created),
            }
        };
        let merged = merge(&live, wanted);
        if merged == live {
            return Ok(Outcome::Unchanged);
        }
        if target.kind == Kind::ApiResourceSchema {
            return Err(Error::Immutable {
                object: target.label.clone(),
                workspace: workspace.path.clone(),
            });
        }
        // `merged` carries the resourceVersion of `live`.
        match replace(workspace, target, &merged).await {
            Err(error) if is_conflict(&error) => {}
            other => return other.map(|()| Outcome::Updated),
        }
    }
    Err(target.failed("update", workspace, Failure::Conflict))
}

async fn create(workspace: &Workspace, target: &Target, object: &Value) -> Result<(), Error> {
    let request = Request::new(&target.collection)
        .create(&PostParams::default(), object.to_string().into_bytes())
        .map_err(|error| target.unbuildable(workspace, error))?;
    let _: Value = workspace.call("create", &target.label, request).await?;
    Ok(())
}

async fn replace(workspace: &Workspace, target: &Target, object: &Value) -> Result<(), Error> {
    let body = object.to_string().into_bytes();
    let request = Request::new(&target.collection)
        .replace(&target.name, &PostParams::default(), body)
        .map_err(|error| target.unbuildable(workspace, error))?;
    let _: Value = workspace.call("update", &target.label, request).await?;
    Ok(())
}

/// Another writer came first: a stale resourceVersion, or the object appeared between read and
/// create.
fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Call { failure: Failure::Conflict, .. })
}

#[cfg(test)]
mod tests;
