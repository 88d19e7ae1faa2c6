//! Carries the plan out in a consumer's cluster.
//!
//! Safe to repeat after any interruption. Two at once end with one set of objects and two
//! successes: who comes second looks again.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::client::{CallError, Cause, ConsumerClient};
use super::plan::{Object, Observed, Refusal, Step, Wanted, lacks_aliases, plan, secret_name};
use crate::api::keys;
use crate::api::v1alpha2::ApiServiceBindingBundle;
use crate::http::konnector;

/// How often a race may be lost. Each time somebody else got further.
const TRIES: usize = 5;
/// Pause between two looks at something that the API server does by itself.
const POLL: Duration = Duration::from_millis(200);

/// Why the binding was not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Something is in the way.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    /// The konnector is new.
    pub(super) deployed: bool,
    /// The konnector is somebody else's and does not have the wanted host aliases.
    pub(super) lacks_aliases: bool,
}

/// Brings the consumer's cluster to what is wanted.
pub(super) async fn carry_out(
    client: &ConsumerClient,
    wanted: &Wanted<'_>,
) -> Result<Done, Failure> {
    let mut deployed = false;
    let mut tries = 1..=TRIES;
    loop {
        tries.next();
        let observed = observe(client, wanted.binding).await?;
        let steps = plan(&observed, wanted)?;
        match write_all(client, steps, &mut deployed).await {
            Ok(()) => {
                let aliases = &wanted.konnector.host_aliases;
                let known = observed.deployment.as_ref();
                let lacks_aliases = known.is_some_and(|known| lacks_aliases(known, aliases));
                return Ok(Done { deployed, lacks_aliases });
            }
            Err(CallError { cause: Cause::Exists | Cause::Conflict, .. }) if !tries.is_empty() => {}
            Err(err) => return Err(err.into()),
        }
    }
}

async fn observe(client: &ConsumerClient, binding: &str) -> Result<Observed, CallError> {
    let namespace = Some(keys::KUBE_BIND_NAMESPACE);
    Ok(Observed {
        namespace: client.get(None, keys::KUBE_BIND_NAMESPACE).await?,
        service_account: client.get(namespace, konnector::NAME).await?,
        cluster_role: client.get(None, konnector::CLUSTER_ROLE).await?,
        cluster_role_binding: client.get(None, konnector::CLUSTER_ROLE).await?,
        secret: client.get(namespace, &secret_name(binding)).await?,
        definition: client.get(None, ApiServiceBindingBundle::crd_name()).await?,
        deployment: client.get(namespace, konnector::NAME).await?,
        bundle: client.get(None, binding).await?,
    })
}

async fn write_all(
    client: &ConsumerClient,
    steps: Vec<Step>,
    deployed: &mut bool,
) -> Result<(), CallError> {
    for step in &steps {
        match step {
            Step::Create(object) => {
                create(client, object).await?;
                *deployed |= matches!(object, Object::Deployment(_));
            }
            Step::Update(object) => update(client, object).await?,
        }
    }
    Ok(())
}

async fn create(client: &ConsumerClient, object: &Object) -> Result<(), CallError> {
    match object {
        Object::Namespace(object) => client.create(&**object).await.map(drop),
        Object::ServiceAccount(object) => client.create(&**object).await.map(drop),
        Object::ClusterRole(object) => client.create(&**object).await.map(drop),
        Object::ClusterRoleBinding(object) => client.create(&**object).await.map(drop),
        Object::Secret(object) => client.create(&**object).await.map(drop),
        Object::Definition(object) => client.create(&**object).await.map(drop),
        Object::Deployment(object) => client.create(&**object).await.map(drop),
        Object::Bundle(object) => create_bundle(client, object).await,
    }
}

async fn update(client: &ConsumerClient, object: &Object) -> Result<(), CallError> {
    match object {
        Object::Namespace(object) => client.update(&**object).await.map(drop),
        Object::ServiceAccount(object) => client.update(&**object).await.map(drop),
        Object::ClusterRole(object) => client.update(&**object).await.map(drop),
        Object::ClusterRoleBinding(object) => client.update(&**object).await.map(drop),
        Object::Secret(object) => client.update(&**object).await.map(drop),
        Object::Definition(object) => client.update(&**object).await.map(drop),
        Object::Deployment(object) => client.update(&**object).await.map(drop),
        Object::Bundle(object) => client.update(&**object).await.map(drop),
    }
}

/// Bundles are served a moment after their definition is created; until then they are not found.
async fn create_bundle(
    client: &ConsumerClient,
    bundle: &ApiServiceBindingBundle,
) -> Result<(), CallError> {
    loop {
        let definition = client.get(None, ApiServiceBindingBundle::crd_name()).await?;
        let served = definition.as_ref().is_some_and(is_established);
        if served {
            match client.create(bundle).await {
                Err(CallError { cause: Cause::NotFound, .. }) => {}
                answer => return answer.map(drop),
            }
        }
        // When the time for all calls is over, the next call says so.
        tokio::time::sleep(POLL.min(client.left())).await;
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}
