//! Who we are in workspaces other than our own.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::OnceCell;

use crate::api::keys;
use crate::runtime::endpoint::{ConnectError, connect};
use crate::runtime::metrics::Metrics;

/// Prefix of the user name of a service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why nobody knows who we are.
#[derive(Debug, thiserror::Error)]
pub(in crate::controllers) enum Error {
    /// The client could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server did not say.
    #[error(
        "cannot ask the workspace of the kubeconfig for our own user name: {0}; check that it is reachable and that the \
         credential may create selfsubjectreviews"
    )]
    Ask(String),
}

/// Asks the workspace of the kubeconfig once, when somebody wants to know.
pub struct Myself {
    config: kube::Config,
    metrics: Arc<Metrics>,
    user: OnceCell<String>,
}

impl Myself {
    /// The one whom this kubeconfig describes.
    #[must_use]
    pub fn new(config: kube::Config, metrics: &Arc<Metrics>) -> Self {
        Self { config, metrics: Arc::clone(metrics), user: OnceCell::new() }
    }

    /// The user that other workspaces know us as.
    pub(super) async fn user(&self) -> Result<&str, Error> {
        self.user.get_or_try_init(|| self.ask()).await.map(String::as_str)
    }

    async fn ask(&self) -> Result<String, Error> {
        let client = connect(self.config.clone(), &self.metrics)?;
        let api: Api<SelfSubjectReview> = Api::all(client);
        let (params, review) = (PostParams::default(), SelfSubjectReview::default());
        let asked = tokio::time::timeout(TIMEOUT, api.create(&params, &review));
        let review = match asked.await {
            Ok(Ok(review)) => review,
            Ok(Err(err)) => return Err(Error::Ask(err.to_string())),
            Err(_) => return Err(Error::Ask(format!("no answer within {} s", TIMEOUT.as_secs()))),
        };
        let user = review.status.and_then(|status| status.user_info).and_then(elsewhere);
        user.ok_or_else(|| Error::Ask("the answer names no user".to_owned()))
    }
}

/// A service account of one workspace has the name of a user in all others (contract kcp.md 7).
fn elsewhere(user: UserInfo) -> Option<String> {
    let name = user.username.filter(|name| !name.is_empty())?;
    let extra = user.extra.unwrap_or_default();
    let cluster = extra.get(keys::KCP_USER_CLUSTER_NAME).and_then(|values| values.first());
    Some(match (name.strip_prefix(SERVICE_ACCOUNT), cluster) {
        (Some(account), Some(cluster)) => format!("system:kcp:serviceaccount:{cluster}:{account}"),
        _ => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_known_elsewhere_by_the_cluster_that_it_is_of() {
        let user = |name: &str, cluster: Option<&str>| UserInfo {
            username: Some(name.to_owned()),
            extra: cluster.map(|cluster| {
                [(keys::KCP_USER_CLUSTER_NAME.to_owned(), vec![cluster.to_owned()])].into()
            }),
            ..UserInfo::default()
        };
        for (given, expected) in [
            (user("kcp-admin", None), Some("kcp-admin")),
            (
                user("system:serviceaccount:kube-bind:backend", Some("abc")),
                Some("system:kcp:serviceaccount:abc:kube-bind:backend"),
            ),
            (
                user("system:serviceaccount:kube-bind:backend", None),
                Some("system:serviceaccount:kube-bind:backend"),
            ),
            (user("", None), None),
        ] {
            assert_eq!(elsewhere(given).as_deref(), expected);
        }
    }
}
