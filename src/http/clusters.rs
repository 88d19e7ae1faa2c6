//! Which cluster a request is about: parsed once, and then the one that is authorised, read and written
//! (security.md row 10, bad inputs 30 to 33).

use std::sync::Arc;

use super::error::ApiError;
use crate::runtime::cluster::ClusterId;
use crate::runtime::fleet::{Cluster, Fleet};

/// The clusters that can be named.
#[derive(Clone)]
pub struct Clusters {
    fleet: Arc<Fleet>,
    /// kcp: requests name a logical cluster. Kubernetes: there is only one, and it has no name.
    named: bool,
}

impl Clusters {
    /// Those of a fleet; `named` with kcp.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, named: bool) -> Self {
        Self { fleet, named }
    }

    /// The cluster of a `cluster_id`. Says nothing of whether it is served.
    pub fn parse(&self, given: &str) -> Result<ClusterId, ApiError> {
        match (self.named, given) {
            (false, "") => Ok(ClusterId::local()),
            (_, "") => Err(unknown()),
            (named, given) => {
                let id = ClusterId::parse(given).map_err(|err| {
                    ApiError::bad_request("Invalid cluster_id").with_details(err.to_string())
                })?;
                if named { Ok(id) } else { Err(unknown()) }
            }
        }
    }

    /// The `cluster_id` of a cluster.
    #[must_use]
    pub fn name<'a>(&self, id: &'a ClusterId) -> &'a str {
        if self.named { id.as_str() } else { "" }
    }

    /// The cluster, if it is served.
    pub fn find(&self, id: &ClusterId) -> Result<Cluster, ApiError> {
        self.fleet.cluster(id).ok_or_else(|| self.lost())
    }

    /// In kcp nobody is told more of a cluster than of one that does not exist. The one cluster of plain
    /// Kubernetes is no secret, and a moment without it is no mistake of the user.
    fn lost(&self) -> ApiError {
        if self.named {
            return unknown();
        }
        ApiError::unavailable(
            "The cluster of the provider cannot be reached; try again in a minute",
        )
    }
}

/// The one answer for a cluster that does not exist, is not served, or is nobody's business.
#[must_use]
pub fn unknown() -> ApiError {
    ApiError::not_found("Cluster not found").with_details(
        "there is no such cluster here, or you may not bind in it: check cluster_id (kubectl bind login \
         --cluster) and ask your provider for access",
    )
}

/// What the contract says of every refusal.
const FORBIDDEN: &str = "Cluster authorization failed. Missing required permissions in the cluster to \
                         access bindings.";

/// The credential is for another cluster than the request names.
#[must_use]
pub fn other() -> ApiError {
    ApiError::forbidden(FORBIDDEN).with_details(
        "this login is for another cluster; log in for the one that you name, with kubectl bind login \
         --cluster",
    )
}

/// The cluster is known to the user, but it may not do this.
#[must_use]
pub fn forbidden(user: &str) -> ApiError {
    // Names have no control characters, but any length.
    let user: String = user.chars().take(200).collect();
    ApiError::forbidden(FORBIDDEN).with_details(format!(
        "bind.kube-bind.io is forbidden: user {user:?} is not authorized to bind resources. Ask the provider \
         to start the backend with --oidc-allowed-users={user} or --oidc-allowed-groups=<group> (user must \
         be in one of the allowed groups), or to grant the verb bind by RBAC."
    ))
}
