//! What is answered to whole requests.

use super::*;

#[tokio::test]
async fn every_answer_has_the_headers_of_the_policy() {
    let server = start(Limits::default()).await;
    let not_allowed = |allow: &str| {
        let message = "This path does not take this method; the header Allow names those it takes";
        Answer::error(405, "BAD_REQUEST", message, "").with("allow", allow)
    };
    let never_cached = Answer::new(200, "pong")
        .with("cache-control", "no-cache, no-store, must-revalidate, max-age=0")
        .with("expires", "Thu, 01 Jan 1970 00:00:00 GMT")
        .with("x-accel-expires", "0");
    for (method, path, expected) in [
        ("GET", "/hello", Answer::new(200, "hello")),
        ("HEAD", "/hello", Answer::new(200, "")),
        ("GET", "/hello?a=%62", Answer::new(200, "hello")),
        ("GET", "/assets/a.js", Answer::new(200, "a").with("cache-control", "public")),
        ("GET", "/api/ping", never_cached),
        ("GET", "/missing", Answer::not_found()),
        ("GET", "//hello", Answer::not_found()),
        ("GET", "/%68ello", Answer::not_found()),
        ("GET", "/hello/", Answer::not_found()),
        ("GET", "/api/logout", not_allowed("POST")),
        ("OPTIONS", "/hello", not_allowed("GET,HEAD")),
        ("GET", "/api/callback", Answer::new(200, "called")),
        ("HEAD", "/api/callback", Answer { body: String::new(), ..not_allowed("GET") }),
    ] {
        let mut wire = server.connect().await;
        wire.send(request(method, path)).await;
        assert_eq!(wire.answer_to(method).await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn only_our_own_host_is_answered_and_probes_need_none() {
    let server = start(Limits::default()).await;
    let message = "This server does not answer for the host in this request; use the address \
                   that your provider gave you";
    let misdirected = Answer::error(421, "BAD_REQUEST", message, "");
    let local = server.address.to_string();
    for (host, expected) in [
        (HOST, Answer::new(200, "hello")),
        (local.as_str(), Answer::new(200, "hello")),
        ("evil", misdirected.clone()),
        ("", misdirected),
    ] {
        let ask = |path: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {HOST}\r\n\r\n")
        };
        assert_eq!(server.ask(&ask("/hello")).await, expected, "{host}");
        assert_eq!(server.ask(&ask("/healthz")).await, Answer::new(200, "ok"), "{host}");
    }
}

#[tokio::test]
async fn a_post_of_another_site_is_refused_before_its_body_is_read() {
    let server = start(Limits::default()).await;
    let foreign = "This request does not come from a page of this server; reload the page, or \
                   use kubectl bind";
    let foreign = Answer::error(403, "AUTHORIZATION_FAILED", foreign, "");
    let post = |path: &str, headers: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n")
    };
    let logout = post("/api/logout", "Sec-Fetch-Site: same-origin\r\n");
    assert_eq!(server.ask(&logout).await, Answer::new(200, "logged out"));
    let token = post("/api/logout", "Authorization: Bearer a\r\n");
    assert_eq!(server.ask(&token).await, Answer::new(200, "logged out"));
    let cookie = post("/api/logout", "Cookie: a=b\r\n");
    assert_eq!(server.ask(&cookie).await, foreign);
    let body = post("/length", "Origin: null\r\nContent-Length: 5\r\n");
    assert_eq!(server.ask(&body).await, foreign.last());
    let form = post(
        "/length",
        "Origin: http://bind.example.com\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n",
    );
    let message = "Only application/json is read here; set Content-Type";
    let no_json = Answer::error(403, "AUTHORIZATION_FAILED", message, "").last();
    assert_eq!(server.ask(&form).await, no_json);
}

#[tokio::test]
async fn a_panic_is_answered_with_the_id_and_nothing_of_its_text() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    wire.send(request("GET", "/panic")).await;
    let details = "the log of the backend has the reason under request id <id>";
    let expected = Answer::error(500, "INTERNAL_ERROR", "The server failed to answer", details);
    assert_eq!(wire.answer().await, expected);
    wire.send(request("GET", "/hello")).await;
    assert_eq!(wire.answer().await, Answer::new(200, "hello"), "the connection lives on");
}

#[tokio::test]
async fn an_id_of_the_client_is_ignored() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    wire.send(format!("GET /hello HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Id: mine\r\n\r\n")).await;
    let head = wire.head().await;
    assert!(head.contains("x-request-id: ") && !head.contains("mine"), "{head}");
}
