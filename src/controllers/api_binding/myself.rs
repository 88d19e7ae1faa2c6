//! Who we are in workspaces other than our own.
//!
//! The workspace of the kubeconfig knows, and its shard may be away while the others serve. So it is asked once, when
//! somebody first wants to know, in a task of its own; nobody waits for it, and until it answers we are who we were in an
//! earlier process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::BackoffBuilder as _;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::keys;
use crate::runtime::endpoint::connect_apart;
use crate::runtime::metrics::Metrics;

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Nobody knows yet who we are. It passes, and is no fault of the workspace that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::controllers) enum Unknown {
    /// The first question is on its way.
    #[error("the workspace of the kubeconfig is being asked for our own user name")]
    Asked,
    /// There was no answer that tells it, and it is asked again.
    #[error(
        "the workspace of the kubeconfig has not told our own user name yet: {0}; check that it is reachable and that \
         the credential may create selfsubjectreviews"
    )]
    Untold(String),
}

/// Where the name outlives the process.
pub struct Memory {
    /// Who an earlier process was.
    pub known: Option<String>,
    /// Called with the name when the server has told it.
    pub keep: Box<dyn Fn(&str) + Send + Sync>,
}

/// The one whom a kubeconfig describes.
pub struct Myself {
    config: kube::Config,
    metrics: Arc<Metrics>,
    memory: Option<Memory>,
    user: Mutex<Result<String, Unknown>>,
    wanted: Notify,
}

impl Myself {
    /// The one whom this kubeconfig describes. [`Myself::run`] asks for it.
    #[must_use]
    pub fn new(config: kube::Config, metrics: &Arc<Metrics>, memory: Option<Memory>) -> Self {
        let known = memory.as_ref().and_then(|memory| memory.known.clone());
        let user = known.ok_or(Unknown::Asked);
        let (metrics, wanted) = (Arc::clone(metrics), Notify::new());
        Self { config, metrics, memory, user: Mutex::new(user), wanted }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Result<String, Unknown>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user that other workspaces know us as.
    pub(super) fn user(&self) -> Result<String, Unknown> {
        self.wanted.notify_one();
        self.known().clone()
    }

    /// Asks until there is an answer, once somebody wants to know. Runs until cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let asking = async {
            self.wanted.notified().await;
            let pauses = backon::ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(500))
                .with_max_delay(LONGEST_PAUSE)
                .with_jitter()
                .without_max_times();
            let mut pauses = pauses.build();
            while let Err(why) = self.ask().await {
                self.doubt(why);
                tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = asking => {}
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let client = connect_apart(self.config.clone(), &self.metrics).await;
        let api: Api<SelfSubjectReview> = Api::all(client.map_err(|err| err.to_string())?);
        let (params, review) = (PostParams::default(), SelfSubjectReview::default());
        let review = match tokio::time::timeout(TIMEOUT, api.create(&params, &review)).await {
            Ok(review) => review.map_err(|err| err.to_string())?,
            Err(_) => return Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        let user = review.status.and_then(|status| status.user_info).and_then(elsewhere);
        let user = user.ok_or_else(|| "the answer names no user".to_owned())?;
        if let Some(memory) = &self.memory {
            (memory.keep)(&user);
        }
        *self.known() = Ok(user);
        Ok(())
    }

    fn doubt(&self, why: String) {
        let mut known = self.known();
        if known.is_err() {
            *known = Err(Unknown::Untold(why));
        }
    }
}

/// A service account of one workspace has the name of a user in all others (contract kcp.md 7).
fn elsewhere(user: UserInfo) -> Option<String> {
    let name = user.username.filter(|name| !name.is_empty())?;
    let extra = user.extra.unwrap_or_default();
    let cluster = extra.get(keys::KCP_USER_CLUSTER_NAME).and_then(|values| values.first());
    Some(match (name.strip_prefix(keys::SERVICE_ACCOUNT_USER), cluster) {
        (Some(account), Some(cluster)) => format!("system:kcp:serviceaccount:{cluster}:{account}"),
        _ => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn we_are_who_we_were_until_the_server_says_otherwise_and_nobody_waits_for_it() {
        let config = || kube::Config::new("https://127.0.0.1:1".parse().unwrap());
        let memory = |known: Option<&str>| Memory {
            known: known.map(str::to_owned),
            keep: Box::new(|_| {}),
        };
        let nobody = Myself::new(config(), &Arc::default(), Some(memory(None)));
        assert_eq!(nobody.user(), Err(Unknown::Asked));
        nobody.doubt("refused".to_owned());
        assert_eq!(nobody.user(), Err(Unknown::Untold("refused".to_owned())));
        let ann = Myself::new(config(), &Arc::default(), Some(memory(Some("ann"))));
        ann.doubt("refused".to_owned());
        assert_eq!(ann.user(), Ok("ann".to_owned()));
    }

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
