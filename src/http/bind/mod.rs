//! `POST /api/bind`: the onboarding of [`crate::onboarding`], and the answer (contract http.md 6.1).
//!
//! Watches, to go on: Secrets of ours and APIServiceExportRequests. Writes: what the onboarding writes,
//! and for the page an APIServiceExportRequest. Promises: nothing is written before the caller may bind
//! the template; the answer comes when its credential is effective; a repeated bind costs no write and
//! gives the same bytes; a client that hangs up changes nothing.

mod asked;
mod changes;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use asked::Asked;
pub use changes::Changes;
use changes::Waiting;

use super::caller::Caller;
use super::error::{ApiError, Code};
use super::locks::Locks;
use super::places::Place;
use super::server::RequestId;
use crate::api::keys;
use crate::api::v1alpha2::{
    ApiServiceExportRequest, ApiServiceExportRequestSpec, ApiServiceExportTemplate,
    BindingAuthentication, BindingResourceResponse, CodeGrantSession, KIND_BINDING_RESPONSE, Phase,
};
use crate::consumer::onboarding::{Binder, Consumer, Refusal};
use crate::kinds::Kinds;
use crate::onboarding::{self, Access, Onboarding, Progress};
use crate::runtime::cluster::ClusterId;
use crate::runtime::error::{CallError, Cause, Retry};
use crate::runtime::fleet::Cluster;

/// What the contract says when the contract namespace could not be made.
const ONBOARDING_FAILED: &str = "Failed to handle cluster resources";
/// What it says when the page's request failed.
const REQUEST_FAILED: &str = "Failed to create API service export request";

/// How long a bind may take. Below the 60 s of the route, so that what is told is the reason, unless the request had waited
/// for its turn: it goes on then, and the next try finds what it did.
const PATIENCE: Duration = Duration::from_secs(50);

/// Pauses between two tries, which double.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Binds that are carried out at the same time, those whose client has gone included.
const AT_ONCE: usize = 128;

/// A bind that may be done.
pub struct Bind {
    /// The cluster, authorised.
    pub cluster: Cluster,
    /// Who.
    pub caller: Caller,
    /// What.
    pub asked: Asked,
    /// The template, which the caller may bind.
    pub template: Arc<ApiServiceExportTemplate>,
    /// Its place in the shard, for as long as it takes.
    pub place: Place,
}

/// What came of it.
#[derive(Debug)]
pub struct Bound {
    /// The contract namespace, for the audit.
    pub namespace: String,
    /// The body of the answer. It holds a credential.
    pub response: Value,
}

/// Binds consumers.
pub struct Binds {
    kinds: Arc<Kinds>,
    onboarding: Arc<Onboarding>,
    changes: Changes,
    /// By cluster and identity. Between processes the API server decides.
    locks: Locks<(ClusterId, String)>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Binds {
    /// With the same onboarding as the controllers.
    #[must_use]
    pub fn new(kinds: Arc<Kinds>, onboarding: Arc<Onboarding>, changes: Changes) -> Arc<Self> {
        Arc::new(Self {
            kinds,
            onboarding,
            changes,
            locks: Locks::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        })
    }

    /// Waits until the binds under way are done; no new one may begin.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Brings a consumer to where it can start. Goes on when the client hangs up: half a consumer would
    /// only be finished by its next bind.
    pub async fn bind(self: &Arc<Self>, bind: Bind, id: &RequestId) -> Result<Bound, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ApiError::busy())?;
        let (this, task_id) = (Arc::clone(self), id.clone());
        let task = self.tasks.spawn(async move {
            let bound = this.carry_out(&bind, &task_id).await;
            drop(place);
            bound
        });
        task.await.unwrap_or_else(|err| Err(ApiError::internal(ONBOARDING_FAILED, id, &err)))
    }

    /// The access of a caller that has bound as itself, made whole again where something is missing.
    /// Nothing is bound by it.
    pub async fn again(
        &self,
        cluster: &Cluster,
        caller: &Caller,
        id: &RequestId,
    ) -> Result<Access, ApiError> {
        let identity = caller.own_identity();
        let consumer = Consumer {
            identity: &identity,
            author: &caller.subject,
            pretty_name: &identity,
            binder: &Binder::user(&caller.issuer, &caller.subject),
            template: None,
        };
        self.onboard(cluster, &consumer, Instant::now() + PATIENCE, id).await
    }

    async fn carry_out(&self, bind: &Bind, id: &RequestId) -> Result<Bound, ApiError> {
        let until = Instant::now() + PATIENCE;
        let Bind { cluster, caller, asked, template, place: _ } = bind;
        let consumer = Consumer {
            identity: &asked.identity,
            author: &caller.subject,
            pretty_name: &asked.pretty_name,
            binder: &Binder::user(&caller.issuer, &caller.subject),
            template: Some(&asked.template),
        };
        let access = self.onboard(cluster, &consumer, until, id).await?;
        let name = if asked.creates_request {
            Some(self.request(cluster, &access.namespace, &asked.name, template, until, id).await?)
        } else {
            None
        };
        let response = response(caller, &asked.name, template, &access, name);
        let response = response.map_err(|err| ApiError::internal(ONBOARDING_FAILED, id, &err))?;
        Ok(Bound { namespace: access.namespace, response })
    }

    /// The onboarding, until it is done or cannot be.
    async fn onboard(
        &self,
        cluster: &Cluster,
        consumer: &Consumer<'_>,
        until: Instant,
        id: &RequestId,
    ) -> Result<Access, ApiError> {
        let turn = self.locks.turn((cluster.id.clone(), consumer.identity.to_owned()));
        let Ok(_turn) = tokio::time::timeout_at(until, turn).await else {
            return Err(ApiError::busy());
        };
        let mut changes = self.changes.wait();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.onboarding.advance(cluster, consumer).await {
                Ok(Progress::Ready(access)) => return Ok(access),
                Ok(Progress::Waiting { namespace, again }) if Instant::now() < until => {
                    let at = until.min(Instant::now() + again);
                    changes.change(&cluster.id, &namespace, at).await;
                    continue;
                }
                Ok(Progress::Waiting { .. }) => return Err(too_slow(ONBOARDING_FAILED, id)),
                Err(error) => error,
            };
            let waits = matches!(error.retry(), Retry::Transient | Retry::Conflict);
            if !waits || Instant::now() + pause >= until {
                return Err(refused(&error, id));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Creates the request that the CLI would create, and waits for what becomes of it. Gives its name.
    async fn request(
        &self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        template: &ApiServiceExportTemplate,
        until: Instant,
        id: &RequestId,
    ) -> Result<String, ApiError> {
        let kind = &self.kinds.export_requests;
        let mut changes = self.changes.wait();
        let spec = request_spec(template);
        let mut wanted = ApiServiceExportRequest::new(name, spec.clone());
        wanted.metadata.namespace = Some(namespace.to_owned());
        let known = kind.get(cluster, namespace, name);
        let same = known.is_some_and(|known| known.spec == spec && !failed(&known));
        let made = if same { Ok(None) } else { kind.create(cluster, &wanted).await.map(Some) };
        let name = match made {
            Ok(None) => name.to_owned(),
            Ok(Some(made)) => made.metadata.name.clone().unwrap_or_else(|| name.to_owned()),
            Err(CallError { cause: Cause::Exists, .. }) => {
                wanted.metadata.name = None;
                wanted.metadata.generate_name = Some(format!("{name}-"));
                let made = kind.create(cluster, &wanted).await;
                let made = made.map_err(|err| ApiError::from_call(REQUEST_FAILED, id, &err))?;
                made.metadata.name.clone().unwrap_or_default()
            }
            Err(err) => return Err(ApiError::from_call(REQUEST_FAILED, id, &err)),
        };
        self.decided(&mut changes, cluster, namespace, &name, until, id).await?;
        Ok(name)
    }

    async fn decided(
        &self,
        changes: &mut Waiting,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        until: Instant,
        id: &RequestId,
    ) -> Result<(), ApiError> {
        loop {
            let request = self.kinds.export_requests.get(cluster, namespace, name);
            let status = request.as_ref().and_then(|request| request.status.as_ref());
            match status.map(|status| &status.phase) {
                Some(Phase::Succeeded) => return Ok(()),
                Some(Phase::Failed) => {
                    let why = status.and_then(|status| status.terminal_message.clone());
                    let why = why.unwrap_or_else(|| format!("see request {namespace}/{name}"));
                    let status = StatusCode::INTERNAL_SERVER_ERROR;
                    return Err(ApiError::new(status, Code::InternalError, REQUEST_FAILED)
                        .with_details(why));
                }
                _ if Instant::now() >= until => {
                    let mut conditions = status.iter().flat_map(|status| &status.conditions);
                    let waiting = conditions.find_map(|condition| condition.message.clone());
                    let error = too_slow(REQUEST_FAILED, id);
                    return Err(match waiting {
                        Some(message) => error.with_details(message),
                        None => error,
                    });
                }
                _ => changes.change(&cluster.id, namespace, until).await,
            }
        }
    }
}

fn failed(request: &ApiServiceExportRequest) -> bool {
    request.status.as_ref().is_some_and(|status| status.phase == Phase::Failed)
}

fn too_slow(message: &'static str, id: &RequestId) -> ApiError {
    ApiError::gateway_timeout(message).with_details(format!(
        "it is not done yet and goes on; send the same request again (request id {id})"
    ))
}

/// What a user is told who gets no credential.
fn refused(error: &onboarding::Error, id: &RequestId) -> ApiError {
    let details = error.to_string();
    match error {
        onboarding::Error::Refused(Refusal::IdentityTaken { .. }) => {
            ApiError::forbidden(ONBOARDING_FAILED).with_details(details)
        }
        onboarding::Error::Refused(Refusal::NameTaken(_) | Refusal::Ambiguous(_))
        | onboarding::Error::Foreign { .. } => {
            ApiError::conflict(ONBOARDING_FAILED).with_details(details)
        }
        onboarding::Error::Refused(Refusal::Deleting(_) | Refusal::Leftovers(_)) => {
            ApiError::unavailable(ONBOARDING_FAILED).with_details(details)
        }
        onboarding::Error::Call(err) => ApiError::from_call(ONBOARDING_FAILED, id, err),
        onboarding::Error::NoToken(_)
        | onboarding::Error::Vanished(_)
        | onboarding::Error::NotEffective(_)
        | onboarding::Error::Address { .. } => ApiError::internal(ONBOARDING_FAILED, id, error),
    }
}

fn request_spec(template: &ApiServiceExportTemplate) -> ApiServiceExportRequestSpec {
    let offered = &template.spec;
    ApiServiceExportRequestSpec {
        parameters: None,
        resources: offered.resources.clone(),
        permission_claims: offered.permission_claims.clone(),
        namespaces: offered.namespaces.clone(),
        schema_update_policy: offered.schema_update_policy,
    }
}

fn response(
    caller: &Caller,
    name: &str,
    template: &ApiServiceExportTemplate,
    access: &Access,
    binding_name: Option<String>,
) -> Result<Value, serde_json::Error> {
    let session =
        CodeGrantSession { session_id: caller.correlation.clone(), id: caller.own_identity() };
    let mut response = serde_json::to_value(BindingResourceResponse {
        kind: KIND_BINDING_RESPONSE.to_owned(),
        api_version: keys::API_VERSION.to_owned(),
        authentication: BindingAuthentication { oauth2_code_grant: Some(session) },
        kubeconfig: STANDARD.encode(access.kubeconfig.expose_secret()),
        requests: Some(vec![ApiServiceExportRequest::new(name, request_spec(template))]),
        provider_namespace: Some(access.namespace.clone()),
        binding_name,
    })?;
    // A Go client of v0.8.1 always saw the empty struct.
    response["requests"][0]["status"] = json!({});
    Ok(response)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::http::caller::tests::caller;

    #[test]
    fn the_answer_is_that_of_the_contract() {
        let template: ApiServiceExportTemplate = serde_json::from_value(json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportTemplate",
            "metadata": { "name": "cows" },
            "spec": {
                "description": "not for the request",
                "scope": "Namespaced",
                "resources": [{ "group": "wildwest.dev", "resource": "cowboys", "versions": ["v1alpha1"] }],
                "permissionClaims": [{
                    "resource": "secrets",
                    "selector": { "labelSelector": { "matchLabels": { "app": "cowboy" } } },
                }],
            },
        }))
        .unwrap();
        let access = Access {
            namespace: "cluster-1".to_owned(),
            kubeconfig: SecretString::from("kubeconfig".to_owned()),
        };
        let mut expected = json!({
            "kind": "BindingResponse", "apiVersion": "kube-bind.io/v1alpha2",
            "authentication": {
                "oauth2CodeGrant": { "sid": "s1", "id": "https://id.example.com/ann" },
            },
            "kubeconfig": "a3ViZWNvbmZpZw==",
            "requests": [{
                "kind": "APIServiceExportRequest", "apiVersion": "kube-bind.io/v1alpha2",
                "metadata": { "name": "west" },
                "spec": {
                    "resources": [
                        { "group": "wildwest.dev", "resource": "cowboys", "versions": ["v1alpha1"] },
                    ],
                    "permissionClaims": [{
                        "resource": "secrets",
                        "selector": { "labelSelector": { "matchLabels": { "app": "cowboy" } } },
                    }],
                    "schemaUpdatePolicy": "Never",
                },
                "status": {},
            }],
            "providerNamespace": "cluster-1",
        });
        let answer = |name| response(&caller(), "west", &template, &access, name).unwrap();
        assert_eq!(answer(None), expected);
        expected["bindingName"] = json!("west-1");
        assert_eq!(answer(Some("west-1".to_owned())), expected);
    }

    #[test]
    fn whoever_gets_no_credential_is_told_why() {
        let id = RequestId::for_tests("7");
        let taken = Refusal::IdentityTaken { namespace: "ns".to_owned(), to: "user:x".to_owned() };
        let statuses: Vec<u16> = [
            taken,
            Refusal::NameTaken("ns".to_owned()),
            Refusal::Ambiguous("a, b".to_owned()),
            Refusal::Deleting("ns".to_owned()),
            Refusal::Leftovers("ns".to_owned()),
        ]
        .into_iter()
        .map(|refusal| refused(&refusal.into(), &id).status().as_u16())
        .collect();
        assert_eq!(statuses, [403, 409, 409, 503, 503]);
    }
}
