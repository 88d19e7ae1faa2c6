//! What needs no session.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::Api;
use super::call::{Call, redirect, text};
use crate::api::keys;
use crate::http::error::ApiError;

/// `GET /healthz`.
pub(super) async fn healthz() -> Response {
    text(StatusCode::OK, "ok")
}

/// `GET /api/healthz`.
pub(super) async fn api_healthz() -> StatusCode {
    StatusCode::OK
}

/// `GET /exports`, where v0.5 had it.
pub(super) async fn old_exports(call: Call) -> Response {
    let query = call.query.map(|query| format!("?{query}")).unwrap_or_default();
    redirect(&format!("/api/exports{query}"))
}

/// `GET /api/exports`: how to log in.
pub(super) async fn exports(
    State(api): State<Arc<Api>>,
    call: Call,
) -> Result<Json<Value>, ApiError> {
    let params = call.params()?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in [
        ("cluster_id", &params.cluster_id),
        ("session_id", &params.session_id),
        ("client_type", &params.client_type),
        ("consumer_id", &params.consumer_id),
    ] {
        if !value.is_empty() {
            query.append_pair(key, value);
        }
    }
    let mut url = api.external.join("/api/authorize");
    let query = query.finish();
    url.set_query((!query.is_empty()).then_some(&query));
    Ok(Json(json!({
        "kind": "BindingProvider",
        "apiVersion": keys::API_VERSION,
        "providerPrettyName": api.pretty_name,
        "version": concat!("v", env!("CARGO_PKG_VERSION")),
        "authenticationMethods": [{
            "method": "OAuth2CodeGrant",
            "oauth2CodeGrant": { "authenticatedURL": url.as_str() },
        }],
    })))
}

/// `GET /api/bindable-resources`.
pub(super) async fn bindable_resources() -> Json<Value> {
    Json(crate::http::bindable::bindable_resources())
}

/// `GET /api/konnector-manifests`.
pub(super) async fn konnector_manifests(State(api): State<Arc<Api>>) -> Response {
    let headers =
        [(CONTENT_TYPE, "text/yaml"), (CONTENT_DISPOSITION, "attachment; filename=konnector.yaml")];
    (headers, api.konnector.clone()).into_response()
}
