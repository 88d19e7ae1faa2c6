use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::{Method, Response};
use kube::client::Body;
use serde_json::json;

use super::*;

/// What the server is asked, and what it answers.
struct Exchange(Method, &'static str, Value, u16, Value);

/// A workspace whose server expects exactly these requests, with these bodies.
fn scripted(exchanges: Vec<Exchange>) -> (Workspace, Arc<Mutex<VecDeque<Exchange>>>) {
    let script = Arc::new(Mutex::new(VecDeque::from(exchanges)));
    let served = script.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let served = served.clone();
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let next = served.lock().unwrap().pop_front();
            let Exchange(method, path, expected, status, answer) = next.unwrap();
            assert_eq!((parts.method, parts.uri.path(), body), (method, path, expected));
            let response = Response::builder()
                .status(status)
                .body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, kube::Error>(response.unwrap())
        }
    });
    let client = kube::Client::new(service, "default");
    (Workspace::with_client(client, "root:a"), script)
}

const EXPORTS: &str = "/apis/apis.kcp.io/v1alpha2/apiexports";
const EXPORT: &str = "/apis/apis.kcp.io/v1alpha2/apiexports/e";

fn export(schema: &str, version: Option<&str>) -> Value {
    let mut object = json!({
        "apiVersion": "apis.kcp.io/v1alpha2",
        "kind": "APIExport",
        "metadata": {"name": "e"},
        "spec": {"resources": [{"group": "g", "name": "r", "schema": schema}]},
    });
    if let Some(version) = version {
        object["metadata"]["resourceVersion"] = json!(version);
    }
    object
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": reason})
}

fn read(code: u16, answer: Value) -> Exchange {
    Exchange(Method::GET, EXPORT, Value::Null, code, answer)
}

/// Writes `wanted`; the whole script must have been played.
async fn played(wanted: &Value, exchanges: Vec<Exchange>) -> Result<Outcome, Error> {
    let (workspace, script) = scripted(exchanges);
    let target = Target::of(wanted).unwrap();
    let outcome = write(&workspace, &target, wanted).await;
    assert!(script.lock().unwrap().is_empty());
    outcome
}

#[tokio::test]
async fn an_object_that_is_as_wanted_is_only_read() {
    let script = vec![read(200, export("v2", Some("1")))];
    let outcome = played(&export("v2", None), script).await;
    assert_eq!(outcome.unwrap(), Outcome::Unchanged);
}

#[tokio::test]
async fn a_missing_object_is_created() {
    let wanted = export("v2", None);
    let script = vec![
        read(404, status(404, "NotFound")),
        Exchange(Method::POST, EXPORTS, wanted.clone(), 201, export("v2", Some("1"))),
    ];
    assert_eq!(played(&wanted, script).await.unwrap(), Outcome::Created);
}

#[tokio::test]
async fn an_object_that_another_run_created_meanwhile_is_taken_as_it_is() {
    let wanted = export("v2", None);
    let script = vec![
        read(404, status(404, "NotFound")),
        Exchange(Method::POST, EXPORTS, wanted.clone(), 409, status(409, "AlreadyExists")),
        read(200, export("v2", Some("1"))),
    ];
    assert_eq!(played(&wanted, script).await.unwrap(), Outcome::Unchanged);
}

#[tokio::test]
async fn a_stale_update_is_made_again_on_what_the_other_writer_left() {
    let put = |version, code, answer| {
        Exchange(Method::PUT, EXPORT, export("v2", Some(version)), code, answer)
    };
    let script = vec![
        read(200, export("v1", Some("1"))),
        put("1", 409, status(409, "Conflict")),
        read(200, export("v1", Some("2"))),
        put("2", 200, export("v2", Some("3"))),
    ];
    let outcome = played(&export("v2", None), script).await;
    assert_eq!(outcome.unwrap(), Outcome::Updated);
}

#[tokio::test]
async fn an_object_that_others_keep_changing_is_given_up() {
    let mut script = vec![];
    for _ in 0..CONFLICTS {
        let stale = export("v2", Some("1"));
        script.push(read(200, export("v1", Some("1"))));
        script.push(Exchange(Method::PUT, EXPORT, stale, 409, status(409, "Conflict")));
    }
    let error = played(&export("v2", None), script).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot update APIExport e in workspace root:a: it was changed by others again and again; run init again"
    );
}

#[tokio::test]
async fn a_refused_update_is_told_with_object_workspace_and_next_step() {
    let script = vec![
        read(200, export("v1", Some("1"))),
        Exchange(Method::PUT, EXPORT, export("v2", Some("1")), 403, status(403, "no")),
    ];
    let error = played(&export("v2", None), script).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot update APIExport e in workspace root:a: not allowed: no; use the kubeconfig of an admin of that \
         workspace"
    );
}

#[tokio::test]
async fn a_schema_with_another_content_is_refused_without_a_write() {
    let path = "/apis/apis.kcp.io/v1alpha1/apiresourceschemas/s";
    let schema = |scope| {
        json!({"apiVersion": "apis.kcp.io/v1alpha1", "kind": "APIResourceSchema",
            "metadata": {"name": "s"}, "spec": {"scope": scope}})
    };
    let script = vec![Exchange(Method::GET, path, Value::Null, 200, schema("Cluster"))];
    let error = played(&schema("Namespaced"), script).await.unwrap_err();
    assert!(matches!(error, Error::Immutable { .. }), "{error}");
}

#[test]
fn objects_are_found_where_kubernetes_serves_them() {
    for (object, collection, label) in [
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}}),
            "/api/v1/namespaces/n/secrets",
            "Secret n/a",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
            "/api/v1/namespaces",
            "Namespace n",
        ),
        (
            json!({"apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIExport", "metadata": {"name": "e"}}),
            "/apis/apis.kcp.io/v1alpha2/apiexports",
            "APIExport e",
        ),
    ] {
        let target = Target::of(&object).unwrap();
        assert_eq!((&*target.collection, &*target.label), (collection, label));
    }
}

#[test]
fn an_object_of_another_kind_is_not_written() {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    assert!(matches!(Target::of(&object), Err(Error::Generated(_))));
}
