//! Login and logout (contract http.md section 4).
//!
//! A failure is told where somebody sees it: `kubectl bind` at its loopback port, as soon as that is
//! known to be one, and people in the browser as plain text.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use url::{Url, form_urlencoded};

use super::Api;
use super::call::{Call, redirect, text};
use super::tenant::from_sessions;
use crate::consumer::names;
use crate::http::audit::{Action, Decision, Entry};
use crate::http::error::ApiError;
use crate::http::external_url::{ClientType, RedirectTarget};
use crate::http::json;
use crate::http::oidc::{self, Identity};
use crate::http::params::Params;
use crate::http::reviews::What;
use crate::http::sessions::{self, Login, User};

/// Why a login does not go on.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    message: String,
    retry_after: Option<NonZeroU32>,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The error code of RFC 6749, 4.1.2.1, for `kubectl bind`.
    fn code(&self) -> &'static str {
        match self.status.as_u16() {
            401 | 403 | 404 => "access_denied",
            503 => "temporarily_unavailable",
            400..=499 => "invalid_request",
            _ => "server_error",
        }
    }

    /// As the contract has it in section 4.
    fn answer(self, client_type: &str) -> Response {
        let mut response = if client_type == "cli" {
            let body = json!({ "success": false, "error": self.message }).to_string();
            (self.status, [(CONTENT_TYPE, "application/json")], body).into_response()
        } else {
            text(self.status, self.message)
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.get()));
        }
        response
    }

    /// To whoever waits for the end of this login.
    fn tell(self, target: &Url, client: ClientType) -> Response {
        if client == ClientType::Ui {
            return self.answer("ui");
        }
        let code = self.code();
        lead(target, &[("error", code), ("error_description", &self.message)])
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::new(error.status(), error.in_words())
    }
}

impl From<sessions::Error> for Failure {
    fn from(error: sessions::Error) -> Self {
        from_sessions(&error).into()
    }
}

impl From<oidc::Error> for Failure {
    fn from(error: oidc::Error) -> Self {
        let class = error.class();
        let mut failure = Self::new(class.status(), error.to_string());
        if let oidc::Class::Unavailable { retry_after } = class {
            let seconds = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX);
            failure.retry_after = NonZeroU32::new(seconds);
        }
        failure
    }
}

/// `GET /api/authorize`.
pub(super) async fn authorize(State(api): State<Arc<Api>>, call: Call) -> Response {
    match api.gates.login(&call).and_then(|()| call.params()) {
        Ok(params) => api.authorize(&call, params).await,
        Err(err) => err.into_response(),
    }
}

/// `POST /api/authorize`.
pub(super) async fn authorize_by_post(
    State(api): State<Arc<Api>>,
    call: Call,
    body: Bytes,
) -> Response {
    if let Err(err) = api.gates.login(&call) {
        return err.into_response();
    }
    match json::read::<Params>(&body) {
        Ok(params) => match params.check() {
            Ok(()) => api.authorize(&call, params).await,
            Err(err) => err.into_response(),
        },
        Err(_) => Failure::bad("invalid JSON request").answer(""),
    }
}

/// `GET /api/callback`.
pub(super) async fn callback(State(api): State<Arc<Api>>, call: Call) -> Response {
    if let Err(err) = api.gates.login(&call) {
        return err.into_response();
    }
    let mut entry = api.entry(&call, Action::Login);
    let response = match api.callback(&call, &mut entry).await {
        Ok(response) => response,
        Err(failure) => {
            deny(&mut entry, &failure);
            failure.answer("")
        }
    };
    entry.status = response.status().as_u16();
    api.audit.record(&entry).await;
    response
}

/// `POST /api/logout`.
pub(super) async fn logout(State(api): State<Arc<Api>>, call: Call) -> Result<Response, ApiError> {
    let mut entry = api.entry(&call, Action::Logout);
    let answer = api.logout(&call, &mut entry).await;
    api.told(entry, answer).await
}

/// What the issuer sends the browser back with.
#[derive(Default)]
struct Answer {
    state: String,
    code: String,
    error: String,
    description: String,
    iss: Option<String>,
}

impl Answer {
    /// A parameter that is there twice could be one of the issuer and one of somebody else.
    fn read(query: Option<&str>) -> Result<Self, Failure> {
        let mut answer = Self::default();
        let mut seen = Vec::new();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let value = value.into_owned();
            match &*key {
                "state" => answer.state = value,
                "code" => answer.code = value,
                "error" => answer.error = value,
                "error_description" => answer.description = value,
                "iss" => answer.iss = Some(value),
                _ => continue,
            }
            if seen.contains(&key) {
                return Err(Failure::bad(format!("{key} is given twice; start the login again")));
            }
            seen.push(key);
        }
        Ok(answer)
    }
}

impl Api {
    async fn authorize(&self, call: &Call, params: Params) -> Response {
        let client_type = params.client_type.clone();
        let (client, target) = match self.target(&params) {
            Ok(checked) => checked,
            Err(failure) => return failure.answer(&client_type),
        };
        match self.begin(call, params, client, &target).await {
            Ok(response) => response,
            Err(failure) => failure.tell(target.url(), client),
        }
    }

    /// Where the login leads back to; checked before anything else, for there failures are told.
    fn target(&self, params: &Params) -> Result<(ClientType, RedirectTarget), Failure> {
        if params.redirect_url.is_empty() || params.session_id.is_empty() {
            return Err(Failure::bad("missing redirect_url or session_id"));
        }
        let client = ClientType::parse(&params.client_type)
            .ok_or_else(|| Failure::bad("client_type must be ui or cli"))?;
        let target = RedirectTarget::parse(&params.redirect_url, client, &self.external)
            .map_err(|err| Failure::bad(err.to_string()))?;
        Ok((client, target))
    }

    async fn begin(
        &self,
        call: &Call,
        params: Params,
        client: ClientType,
        target: &RedirectTarget,
    ) -> Result<Response, Failure> {
        let cluster = self.clusters.parse(&params.cluster_id)?;
        if !params.consumer_id.is_empty() {
            names::check_identity(&params.consumer_id)
                .map_err(|err| Failure::bad(format!("consumer_id: {err}")))?;
        }
        let started = self.party.start_login()?;
        let login = Login {
            nonce: SecretString::from(started.nonce),
            verifier: started.verifier,
            redirect_url: target.url().as_str().to_owned(),
            correlation: params.session_id,
            cluster: self.clusters.name(&cluster).to_owned(),
            consumer: params.consumer_id,
            client,
        };
        let cookie = self.sessions.begin_login(&call.headers, &started.state, login).await?;
        let mut response = redirect(started.authorize_url.as_str());
        response.headers_mut().insert(SET_COOKIE, cookie);
        Ok(response)
    }

    async fn callback(&self, call: &Call, entry: &mut Entry) -> Result<Response, Failure> {
        let answer = Answer::read(call.query.as_deref())?;
        if answer.state.is_empty() {
            return Err(Failure::bad("invalid state parameter"));
        }
        let login = self.sessions.take_login(&call.headers, &answer.state).await?.login;
        if !login.cluster.is_empty() {
            entry.cluster = Some(login.cluster.clone());
        }
        let target = Url::parse(&login.redirect_url)
            .map_err(|_| Failure::bad("the login has lost its target; start it again"))?;
        let client = login.client;
        match self.finish(call, answer, login, &target, entry).await {
            Ok(response) => Ok(response),
            Err(failure) => {
                deny(entry, &failure);
                Ok(failure.tell(&target, client))
            }
        }
    }

    async fn finish(
        &self,
        call: &Call,
        answer: Answer,
        login: Login,
        target: &Url,
        entry: &mut Entry,
    ) -> Result<Response, Failure> {
        self.party.check_issuer_parameter(answer.iss.as_deref())?;
        if !answer.error.is_empty() {
            // Somebody else's text: bounded, and never markup.
            let text = format!("{}: {}", answer.error, answer.description);
            return Err(Failure::bad(text.chars().take(500).collect::<String>()));
        }
        if answer.code.is_empty() {
            return Err(Failure::bad("no authorization code in request"));
        }
        let code = SecretString::from(answer.code);
        let nonce = login.nonce.expose_secret();
        let identity = self.party.finish_login(&code, &login.verifier, nonce).await?;
        entry.issuer = Some(identity.issuer.clone());
        entry.subject = Some(identity.subject.clone());
        let admitted = self.admitted(call, &login, &identity).await?;
        let user = User {
            issuer: identity.issuer,
            subject: identity.subject,
            username: identity.username,
            groups: identity.groups,
            cluster: login.cluster,
            admitted,
            correlation: login.correlation,
        };
        // Always a new one: whoever knew an older handle knows nothing of this session.
        let granted = self.sessions.create_session(user).await?;
        let user = &granted.session.user;
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        if login.client == ClientType::Cli {
            let token = self.sessions.token(&granted)?;
            let seconds = token.expires_in.to_string();
            pairs.push(("access_token", token.token.expose_secret()));
            pairs.push(("cluster_id", &user.cluster));
            pairs.push(("expires_in", &seconds));
            pairs.push(("token_type", "Bearer"));
            return Ok(lead(target, &pairs));
        }
        pairs.push(("cluster_id", &user.cluster));
        pairs.push(("session_id", &user.correlation));
        let mut response = lead(target, &pairs);
        response.headers_mut().insert(SET_COOKIE, self.sessions.cookie(&granted)?);
        Ok(response)
    }

    /// Whether the user may see the cluster at all.
    async fn admitted(
        &self,
        call: &Call,
        login: &Login,
        identity: &Identity,
    ) -> Result<bool, Failure> {
        let Ok(cluster) =
            self.clusters.parse(&login.cluster).and_then(|id| self.clusters.find(&id))
        else {
            return Ok(false);
        };
        let groups = self.groups(identity.groups.clone());
        let allowed = self.reviews.allow(&cluster, &identity.username, &groups, What::Catalogue);
        allowed.await.map_err(|err| {
            let message = "The cluster cannot be asked whether you may bind in it; log in again";
            ApiError::internal(message, &call.id, &err).into()
        })
    }

    async fn logout(&self, call: &Call, entry: &mut Entry) -> Result<Response, ApiError> {
        self.gates.login(call)?;
        let cluster = call.params()?.cluster_id;
        let cluster = (!cluster.is_empty()).then_some(cluster.as_str());
        let ended = self.sessions.logout(&call.headers, cluster).await;
        let ended = ended.map_err(|err| from_sessions(&err))?;
        if let Some(session) = ended.ended.first() {
            entry.issuer = Some(session.user.issuer.clone());
            entry.subject = Some(session.user.subject.clone());
        }
        let mut response = text(StatusCode::OK, "logged out");
        for cookie in ended.set_cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(response)
    }
}

/// Sends the browser on, with these parameters where they have a value.
fn lead(target: &Url, pairs: &[(&str, &str)]) -> Response {
    let mut url = target.clone();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        url.query_pairs_mut().append_pair(key, value);
    }
    redirect(url.as_str())
}

fn deny(entry: &mut Entry, failure: &Failure) {
    entry.decision = match failure.status.as_u16() {
        400..=499 => Decision::Denied,
        _ => Decision::Failed,
    };
    entry.reason = Some(failure.message.clone());
}
