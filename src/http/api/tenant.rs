//! What needs a session.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::call::{Call, text};
use super::{Api, Key, pass};
use crate::api::v1alpha2::ApiServiceExportTemplate;
use crate::consumer::contract::annotation;
use crate::consumer::names;
use crate::consumer::onboarding::Binder;
use crate::http::apply::{self, ApplyRequest};
use crate::http::audit::{Action, Entry};
use crate::http::bind::{Asked, Bind};
use crate::http::caller::Caller;
use crate::http::catalogue;
use crate::http::clusters::{forbidden, other, unknown};
use crate::http::consumer_status::ConsumerStatus;
use crate::http::error::{ApiError, Code};
use crate::http::json;
use crate::http::limits::Buckets;
use crate::http::params::Params;
use crate::http::places::Place;
use crate::http::reviews::What;
use crate::http::sessions::{self, Credential, Scope};
use crate::runtime::fleet::Cluster;

/// What the contract says when a review could not be asked.
const REVIEW_FAILED: &str = "Cluster authorization failed. Missing required permissions in the \
                             cluster to access bindings.";

/// `GET /api/ping`.
pub(super) async fn ping(State(api): State<Arc<Api>>, call: Call) -> Result<Response, ApiError> {
    let mut entry = api.entry(&call, Action::Read);
    let answer = api.reader(&call, &mut entry).await.map(|_| text(StatusCode::OK, "pong"));
    api.told(entry, answer).await
}

/// `GET /api/templates`.
pub(super) async fn templates(
    State(api): State<Arc<Api>>,
    call: Call,
) -> Result<Response, ApiError> {
    let mut entry = api.entry(&call, Action::Read);
    let answer = api.reader(&call, &mut entry).await;
    let answer = answer.and_then(|(_, Admitted { cluster, .. })| {
        catalogue::templates(&api.kinds, &cluster, &call.id).map(|list| Json(list).into_response())
    });
    api.told(entry, answer).await
}

/// `GET /api/collections`.
pub(super) async fn collections(
    State(api): State<Arc<Api>>,
    call: Call,
) -> Result<Response, ApiError> {
    let mut entry = api.entry(&call, Action::Read);
    let answer = api.reader(&call, &mut entry).await;
    let answer = answer.and_then(|(_, Admitted { cluster, .. })| {
        catalogue::collections(&api.kinds, &cluster, &call.id)
            .map(|list| Json(list).into_response())
    });
    api.told(entry, answer).await
}

/// `GET /api/consumer-status`.
pub(super) async fn consumer_status(
    State(api): State<Arc<Api>>,
    call: Call,
) -> Result<Response, ApiError> {
    let mut entry = api.entry(&call, Action::Read);
    let answer = api.reader(&call, &mut entry).await;
    let answer = answer.map(|(caller, Admitted { cluster, .. })| {
        let namespace = api.own_namespace(&cluster, &caller);
        let exports = namespace.as_deref().map(|namespace| {
            let exports = api.kinds.exports.list_namespace(&cluster, namespace);
            exports.iter().filter_map(|export| export.metadata.name.clone()).collect::<Vec<_>>()
        });
        Json(ConsumerStatus::new(namespace, exports.unwrap_or_default())).into_response()
    });
    api.told(entry, answer).await
}

/// `POST /api/bind`.
pub(super) async fn bind(
    State(api): State<Arc<Api>>,
    call: Call,
    body: Bytes,
) -> Result<Response, ApiError> {
    let mut entry = api.entry(&call, Action::Bind);
    let answer = api.bind(&call, &body, &mut entry).await;
    api.told(entry, answer).await
}

/// `POST /api/apply-binding`.
pub(super) async fn apply_binding(
    State(api): State<Arc<Api>>,
    call: Call,
    body: Bytes,
) -> Result<Response, ApiError> {
    let mut entry = api.entry(&call, Action::ApplyBinding);
    let answer = api.apply(&call, &body, &mut entry).await;
    api.told(entry, answer).await
}

/// A cluster in which the caller may do what it asks for.
struct Admitted {
    cluster: Cluster,
    /// Held as long as something may be asked of the cluster.
    place: Place,
}

impl Api {
    /// Who it is, and in which cluster: the one of its login, whatever the request says.
    async fn caller(
        &self,
        call: &Call,
        params: &Params,
        entry: &mut Entry,
    ) -> Result<Caller, ApiError> {
        let given = params.cluster_id.as_str();
        // What cannot be a cluster is said before anything else; what is none, to nobody without a
        // session.
        let asked = match given {
            "" => None,
            given => match self.clusters.parse(given) {
                Err(err) if err.status() == StatusCode::BAD_REQUEST => return Err(err),
                asked => Some(asked),
            },
        };
        let scope = if given.is_empty() { Scope::Only } else { Scope::Cluster(given) };
        let shown =
            self.sessions.authenticate(&call.headers, scope).await.map_err(|err| refused(&err))?;
        let user = shown.session.user;
        entry.issuer = Some(user.issuer.clone());
        entry.subject = Some(user.subject.clone());
        let cluster = self.clusters.parse(&user.cluster)?;
        if !user.cluster.is_empty() {
            entry.cluster = Some(user.cluster.clone());
        }
        match asked {
            Some(asked) => {
                if asked? != cluster {
                    return Err(other());
                }
            }
            // The page may leave it out, kubectl bind never does (contract http.md 4.4).
            None if user.cluster.is_empty() || shown.credential == Credential::Cookie => {}
            None => return Err(unknown()),
        }
        Ok(Caller {
            issuer: user.issuer,
            subject: user.subject,
            username: user.username,
            groups: self.groups(user.groups),
            cluster,
            admitted: user.admitted,
            correlation: user.correlation,
        })
    }

    /// The cluster, if the caller may do this in it.
    async fn admit(
        &self,
        call: &Call,
        caller: &Caller,
        what: What<'_>,
    ) -> Result<Admitted, ApiError> {
        if !caller.admitted && !self.clusters.name(&caller.cluster).is_empty() {
            // Without a question to the cluster: how long one takes would tell that it exists.
            return Err(unknown());
        }
        let cluster = self.clusters.find(&caller.cluster)?;
        let place = self.places.take(&cluster)?;
        match self.reviews.allow(&cluster, &caller.username, &caller.groups, what).await {
            Ok(true) => Ok(Admitted { cluster, place }),
            Ok(false) => Err(forbidden(&caller.username)),
            Err(err) => Err(ApiError::internal(REVIEW_FAILED, &call.id, &err)),
        }
    }

    /// Somebody who looks.
    async fn reader(&self, call: &Call, entry: &mut Entry) -> Result<(Caller, Admitted), ApiError> {
        let caller = self.caller(call, &call.params()?, entry).await?;
        limited(&self.gates.read, &caller)?;
        let admitted = self.admit(call, &caller, What::Catalogue).await?;
        Ok((caller, admitted))
    }

    async fn bind(
        &self,
        call: &Call,
        body: &[u8],
        entry: &mut Entry,
    ) -> Result<Response, ApiError> {
        let params = call.params()?;
        let caller = self.caller(call, &params, entry).await?;
        limited(&self.gates.bind, &caller)?;
        let asked = Asked::read(body, &params.consumer_id, &caller)?;
        entry.identity = Some(asked.identity.clone());
        entry.template = Some(asked.template.clone());
        let template = What::Template(&asked.template);
        let Admitted { cluster, place } = self.admit(call, &caller, template).await?;
        if !caller.may_be(&asked.identity) {
            return Err(ApiError::forbidden("Failed to handle cluster resources").with_details(
                "this identity is another user's; bind with your own, or with the UID of your cluster",
            ));
        }
        let template = self.template(call, &cluster, &asked.template).await?;
        let bound =
            self.binds.bind(Bind { cluster, caller, asked, template, place }, &call.id).await?;
        entry.namespace = Some(bound.namespace);
        Ok(Json(bound.response).into_response())
    }

    async fn template(
        &self,
        call: &Call,
        cluster: &Cluster,
        name: &str,
    ) -> Result<Arc<ApiServiceExportTemplate>, ApiError> {
        const FAILED: &str = "Failed to retrieve template";
        if let Some(known) = self.kinds.templates.get(cluster, "", name) {
            return Ok(known);
        }
        // A template that was made a moment ago may not be in the cache yet.
        let live = self.kinds.templates.get_live(cluster, "", name).await;
        let live = live.map_err(|err| ApiError::from_call(FAILED, &call.id, &err))?;
        live.map(Arc::new).ok_or_else(|| {
            ApiError::not_found(FAILED).with_details(format!(
                "there is no APIServiceExportTemplate {name}; see what is on offer with kubectl bind \
                 templates"
            ))
        })
    }

    /// The contract namespace that the caller bound as itself, on the page.
    fn own_namespace(&self, cluster: &Cluster, caller: &Caller) -> Option<String> {
        let identity = caller.own_identity();
        let binder = Binder::user(&caller.issuer, &caller.subject);
        let computed =
            names::contract_namespace(&self.onboarding.settings.namespace_prefix, &identity);
        let namespace = self.kinds.namespaces.get(cluster, "", &computed)?;
        let bound_by = annotation(&namespace.metadata, crate::api::keys::ANNOTATION_BOUND_BY);
        let is_own = bound_by == Some(binder.as_str())
            && self.kinds.contract(cluster, &computed).is_some_and(|contract| !contract.deleting);
        is_own.then_some(computed)
    }

    async fn apply(
        &self,
        call: &Call,
        body: &[u8],
        entry: &mut Entry,
    ) -> Result<Response, ApiError> {
        let caller = self.caller(call, &call.params()?, entry).await?;
        limited(&self.gates.bind, &caller)?;
        entry.identity = Some(caller.own_identity());
        let Admitted { cluster, place: _place } =
            self.admit(call, &caller, What::Catalogue).await?;
        let Some(applier) = &self.applier else {
            return Err(ApiError::not_found("Bindings are not applied here").with_details(
                "the provider runs without --enable-apply-binding; use kubectl bind in your cluster",
            ));
        };
        let request: ApplyRequest = json::read(body).map_err(|err| {
            ApiError::bad_request("Invalid request body").with_details(err.to_string())
        })?;
        let target = applier.open(&request).await.map_err(|err| unapplied(&err))?;
        let Some(namespace) = self.own_namespace(&cluster, &caller) else {
            return Err(ApiError::conflict("Failed to prepare provider resources")
                .with_details("nothing is bound yet; bind a template on the page first"));
        };
        entry.namespace = Some(namespace);
        let access = self.binds.again(&cluster, &caller, &call.id).await?;
        let done = applier.apply(target, &access.kubeconfig).await;
        Ok(Json(done.map_err(|err| unapplied(&err))?).into_response())
    }
}

fn limited(buckets: &Buckets, caller: &Caller) -> Result<(), ApiError> {
    pass(buckets, Key::user(&caller.issuer, &caller.subject))
}

/// An error of the sessions as the contract's 401, or whatever else it is.
fn refused(err: &sessions::Error) -> ApiError {
    match err.details() {
        Some(details) => ApiError::unauthenticated("Authentication required").with_details(details),
        None => from_sessions(err),
    }
}

/// An error of the sessions.
pub(super) fn from_sessions(err: &sessions::Error) -> ApiError {
    let text = err.to_string();
    match err.class() {
        sessions::Class::BadRequest => ApiError::bad_request(text),
        sessions::Class::Unauthorized => ApiError::unauthenticated(text),
        sessions::Class::Internal => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, Code::InternalError, text)
        }
        sessions::Class::Unavailable { retry_after } => {
            let seconds = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX);
            let error = ApiError::unavailable(text);
            std::num::NonZeroU32::new(seconds).map_or(error.clone(), |s| error.retry_after(s))
        }
    }
}

fn unapplied(err: &apply::Error) -> ApiError {
    let code = match err.status() {
        StatusCode::BAD_REQUEST | StatusCode::CONFLICT => Code::BadRequest,
        _ => Code::ClusterConnectionFailed,
    };
    ApiError::new(err.status(), code, err.message()).with_details(err.to_string())
}
