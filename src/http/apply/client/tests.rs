use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant as WallClock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Response;
use k8s_openapi::api::core::v1::Namespace;
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::server::TlsStream;

use super::super::testing::{
    CLIENT_CERTIFICATE, CLIENT_KEY, Server, TOKEN, http, json_answer, kubeconfig, limits, loopback,
    server_config, tcp, tls, with_user,
};
use super::error::MAX_REASON;
use super::*;

fn client_for(server: &Server, yaml: &str, limits: Limits) -> ConsumerClient {
    let kubeconfig = ConsumerKubeconfig::parse(yaml.as_bytes()).unwrap();
    ConsumerClient::new(&kubeconfig, vec![server.address], limits).unwrap()
}

fn client(server: &Server, limits: Limits) -> ConsumerClient {
    client_for(server, &kubeconfig(&server.url()), limits)
}

async fn get(client: &ConsumerClient) -> Result<Option<Namespace>, CallError> {
    client.get(None, "kube-bind").await
}

async fn cause(server: &Server, limits: Limits) -> Cause {
    get(&client(server, limits)).await.unwrap_err().cause
}

fn short() -> Limits {
    Limits { call: Duration::from_millis(200), total: Duration::from_secs(1), answer: 64 * 1024 }
}

fn namespace() -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kube-bind" } })
}

/// Reads the head of a request, then writes with `then`.
async fn raw<F>(then: F) -> Server
where
    F: Fn(TlsStream<TcpStream>) -> BoxFuture<'static, ()> + Send + Sync + Copy + 'static,
{
    tls(loopback(), server_config(false), move |mut stream| {
        async move {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            then(stream).await;
        }
        .boxed()
    })
    .await
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let silent_tcp = tcp(loopback(), |stream| {
        async move {
            let _held = stream;
            std::future::pending::<()>().await;
        }
        .boxed()
    });
    let silent_http = raw(|stream| {
        async move {
            let _held = stream;
            std::future::pending::<()>().await;
        }
        .boxed()
    });
    let dripping_head = raw(|mut stream| {
        async move {
            for byte in b"HTTP/1.1 200 OK\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
                if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        .boxed()
    });
    let dripping_body = raw(|mut stream| {
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{").await;
            while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        .boxed()
    });
    let servers = [silent_tcp.await, silent_http.await, dripping_head.await, dripping_body.await];
    for (number, server) in servers.iter().enumerate() {
        let start = WallClock::now();
        let error = get(&client(server, short())).await.unwrap_err();
        assert_eq!(error.cause, Cause::Timeout(short().call), "server {number}");
        assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(start.elapsed() < short().total, "server {number}");
    }
}

#[tokio::test]
async fn all_calls_together_have_a_deadline() {
    let slow = http(server_config(false), |_| {
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            json_answer(StatusCode::OK, &namespace())
        }
        .boxed()
    })
    .await;
    let limits =
        Limits { call: Duration::from_secs(5), total: Duration::from_millis(350), ..limits() };
    let client = client(&slow, limits);
    let mut answers = 0;
    let error = loop {
        match get(&client).await {
            Ok(_) => answers += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.cause, Cause::Deadline(limits.total));
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!((1..=3).contains(&answers), "{answers} answers");
    assert_eq!(client.left(), Duration::ZERO);
}

static WRITTEN: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let endless = raw(|mut stream| {
        async move {
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
            while stream.write_all(&chunk).await.is_ok() {
                WRITTEN.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        }
        .boxed()
    })
    .await;
    let limits = Limits { call: Duration::from_secs(5), ..short() };
    assert_eq!(cause(&endless, limits).await, Cause::TooLarge(limits.answer));
    // What is in the buffers of both ends, and no more.
    assert!(WRITTEN.load(Ordering::SeqCst) < 16 * 1024 * 1024);

    let announced = raw(|mut stream| {
        async move {
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n ").await;
            let _ = stream.read(&mut [0]).await;
        }
        .boxed()
    })
    .await;
    assert!(matches!(
        cause(&announced, Limits { call: Duration::from_millis(500), ..short() }).await,
        Cause::TooLarge(_) | Cause::Timeout(_)
    ));

    let head = raw(|mut stream| {
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while stream
                .write_all(b"x-y: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
                .await
                .is_ok()
            {}
        }
        .boxed()
    })
    .await;
    assert_eq!(cause(&head, limits).await, Cause::Interrupted);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let canary = tcp(loopback(), |_| async {}.boxed()).await;
    for status in [300, 301, 302, 303, 307, 308] {
        let location = format!("https://{}/api", canary.address);
        let server = http(server_config(false), move |_| {
            let response = Response::builder().status(status).header("location", &location);
            std::future::ready(response.body(Full::default()).unwrap()).boxed()
        })
        .await;
        let error = get(&client(&server, limits())).await.unwrap_err();
        assert_eq!((&error.cause, error.status()), (&Cause::Redirect, StatusCode::BAD_GATEWAY));
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn what_is_not_http_or_not_the_object_is_an_error_of_the_server() {
    let garbage = raw(|mut stream| {
        async move {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6 canary\r\n\r\n").await;
            let _ = stream.read(&mut [0]).await;
        }
        .boxed()
    })
    .await;
    assert_eq!(cause(&garbage, limits()).await, Cause::Interrupted);
    let closing = raw(|_| async {}.boxed()).await;
    assert_eq!(cause(&closing, limits()).await, Cause::Interrupted);
    for body in ["", "canary", "[]", r#"{"kind":"Pod","apiVersion":"v1"}"#, &"[".repeat(60_000)] {
        let body = Bytes::from(body.to_owned());
        let server = http(server_config(false), move |_| {
            std::future::ready(Response::new(Full::new(body.clone()))).boxed()
        })
        .await;
        assert_eq!(cause(&server, limits()).await, Cause::Malformed);
    }
}

#[tokio::test]
async fn of_a_refusal_only_the_status_and_one_word_come_back() {
    let long = "x".repeat(MAX_REASON + 1);
    for (status, reason, expected) in [
        (403, "Forbidden", " (Forbidden)"),
        (500, "InternalError", " (InternalError)"),
        (500, "canary of the answer", ""),
        (401, "<b>canary</b>", ""),
        (503, &long, ""),
        (400, "", ""),
    ] {
        let body = json!({ "kind": "Status", "reason": reason, "message": "canary", "details": { "name": "canary" } });
        let server = http(server_config(false), move |_| {
            let status = StatusCode::from_u16(status).unwrap();
            std::future::ready(json_answer(status, &body)).boxed()
        })
        .await;
        let error = get(&client(&server, limits())).await.unwrap_err();
        assert_eq!(error.cause, Cause::Status { status, reason: expected.to_owned() });
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary") && !text.contains(TOKEN), "{text}");
        assert!(text.chars().all(|c| !c.is_control()));
    }
}

#[tokio::test]
async fn a_server_with_a_wrong_certificate_or_without_tls_is_not_talked_to() {
    let good = http(server_config(false), |_| {
        std::future::ready(json_answer(StatusCode::OK, &namespace())).boxed()
    })
    .await;
    let other_ca = kubeconfig(&good.url()).replace(
        &STANDARD.encode(super::super::testing::SERVER_CERTIFICATE),
        &STANDARD.encode(CLIENT_CERTIFICATE),
    );
    let other_name = kubeconfig(&format!("https://other.test:{}", good.address.port()));
    for (yaml, part) in [(other_ca, "not from the CA"), (other_name, "is for other names")] {
        let error = get(&client_for(&good, &yaml, limits())).await.unwrap_err();
        assert!(matches!(error.cause, Cause::Tls(text) if text.contains(part)), "{error}");
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
    }
    let right_name = kubeconfig(&format!("https://consumer.test:{}", good.address.port()));
    assert!(get(&client_for(&good, &right_name, limits())).await.unwrap().is_some());

    let plain = tcp(loopback(), |mut stream| {
        async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
        .boxed()
    })
    .await;
    assert!(matches!(cause(&plain, limits()).await, Cause::Tls(_)));
    let gone = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let yaml = kubeconfig(&format!("https://{gone}"));
    let kubeconfig = ConsumerKubeconfig::parse(yaml.as_bytes()).unwrap();
    let client = ConsumerClient::new(&kubeconfig, vec![gone], limits()).unwrap();
    let error = get(&client).await.unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable(io::ErrorKind::ConnectionRefused));
}

/// Answers with what it got.
async fn mirror(config: ServerConfig, close: bool) -> Server {
    http(config, move |request: Request<Bytes>| {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        let heard = json!({
            "method": request.method().as_str(),
            "path": request.uri().to_string(),
            "host": header("host"),
            "authorization": header("authorization"),
            "user-agent": header("user-agent"),
            "content-type": header("content-type"),
            "body": String::from_utf8_lossy(request.body()),
        });
        let mut object = namespace();
        object["metadata"]["annotations"] = heard;
        let mut response = json_answer(StatusCode::OK, &object);
        if close {
            response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        }
        std::future::ready(response).boxed()
    })
    .await
}

fn heard(object: &Namespace) -> serde_json::Value {
    serde_json::to_value(&object.metadata.annotations).unwrap()
}

#[tokio::test]
async fn a_call_says_what_a_kubernetes_client_says_and_reuses_its_connection() {
    let server = mirror(server_config(false), false).await;
    let yaml = kubeconfig(&format!("{}/clusters/root:a/", server.url()));
    let client = client_for(&server, &yaml, limits());
    let expected = |method: &str, path: &str, body: &str| {
        json!({
            "method": method,
            "path": format!("/clusters/root:a/api/v1/namespaces{path}"),
            "host": server.address.to_string(),
            "authorization": format!("Bearer {TOKEN}"),
            "user-agent": endpoint::USER_AGENT,
            "content-type": if body.is_empty() { "" } else { "application/json" },
            "body": body,
        })
    };
    let read = get(&client).await.unwrap().unwrap();
    assert_eq!(heard(&read), expected("GET", "/kube-bind", ""));
    let object: Namespace = serde_json::from_value(namespace()).unwrap();
    let body = serde_json::to_string(&object).unwrap();
    let created = client.create(&object).await.unwrap();
    assert_eq!(heard(&created), expected("POST", "", &body));
    let updated = client.update(&object).await.unwrap();
    assert_eq!(heard(&updated), expected("PUT", "/kube-bind", &body));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_made_anew() {
    let server = mirror(server_config(false), true).await;
    let client = client(&server, limits());
    for call in 1..=3 {
        assert!(get(&client).await.unwrap().is_some());
        assert_eq!(server.connections(), call);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_without_a_token() {
    let server = mirror(server_config(true), false).await;
    let user = json!({
        "client-certificate-data": STANDARD.encode(CLIENT_CERTIFICATE),
        "client-key-data": STANDARD.encode(CLIENT_KEY),
    });
    let client = client_for(&server, &with_user(&server.url(), &user), limits());
    let read = get(&client).await.unwrap().unwrap();
    assert_eq!(heard(&read)["authorization"], "");
    let without = client_for(&server, &kubeconfig(&server.url()), limits());
    assert!(get(&without).await.is_err());
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_before_any_call() {
    let user = json!({
        "client-certificate-data": STANDARD.encode(super::super::testing::SERVER_CERTIFICATE),
        "client-key-data": STANDARD.encode(CLIENT_KEY),
    });
    let yaml = with_user("https://127.0.0.1:1", &user);
    let kubeconfig = ConsumerKubeconfig::parse(yaml.as_bytes()).unwrap();
    let error = ConsumerClient::new(&kubeconfig, Vec::new(), limits()).map(|_| ()).unwrap_err();
    assert!(matches!(error, SetupError::Identity), "{error}");
}

#[test]
fn answers_of_kubernetes_are_told_apart() {
    let body = |reason: &str| json!({ "reason": reason }).to_string().into_bytes();
    for (status, reason, expected) in [
        (404, "NotFound", Cause::NotFound),
        (409, "AlreadyExists", Cause::Exists),
        (409, "Conflict", Cause::Conflict),
        (409, "", Cause::Conflict),
    ] {
        assert_eq!(refused(StatusCode::from_u16(status).unwrap(), &body(reason)), expected);
    }
    assert_eq!(refused(StatusCode::NOT_FOUND, b"404 page not found"), Cause::NotFound);
}
