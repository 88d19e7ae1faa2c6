//! What keeps a connection open, and what ends it: the rarer parts of HTTP/1.

use super::*;

/// An older client's request. Without a Host, so only probes answer it.
fn old(headers: &str) -> String {
    format!("GET /healthz HTTP/1.0\r\n{headers}\r\n")
}

#[tokio::test]
async fn http_1_0_is_answered_and_stays_open_only_if_the_client_asks() {
    let server = start(Limits::default()).await;
    let mut once = server.connect().await;
    once.send(old("")).await;
    assert_eq!(once.answer().await, Answer::new(200, "ok"));
    once.assert_closed().await;

    let mut kept = server.connect().await;
    for _ in 0..2 {
        kept.send(old("Connection: keep-alive\r\n")).await;
        assert_eq!(kept.answer().await, Answer::new(200, "ok").with("connection", "keep-alive"));
    }
    let no_host = server.ask("GET /hello HTTP/1.0\r\n\r\n").await;
    assert_eq!(no_host.status, 421);
}

#[tokio::test]
async fn a_client_that_wants_another_protocol_gets_this_one() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    for upgrade in ["websocket", "h2c"] {
        let headers = format!("Host: {HOST}\r\nConnection: upgrade\r\nUpgrade: {upgrade}\r\n");
        wire.send(format!("GET /hello HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(wire.answer().await, Answer::new(200, "hello"), "{upgrade}");
    }
    wire.send(request("GET", "/hello")).await;
    assert_eq!(wire.answer().await, Answer::new(200, "hello"), "the connection lives on");
}

#[tokio::test]
async fn a_client_that_says_it_leaves_is_answered_and_closed() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    let get = format!("GET /hello HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    wire.send(format!("{get}{}", request("GET", "/hello"))).await;
    assert_eq!(wire.answer().await, Answer::new(200, "hello").last());
    wire.assert_closed().await;
}

#[tokio::test]
async fn an_answer_that_needs_no_body_leaves_nothing_of_it_for_the_next_request() {
    let server = start(Limits::default()).await;
    let smuggled = request("GET", "/hello");
    let length = format!("Content-Length: {}\r\n", smuggled.len());
    let foreign = format!("POST /length HTTP/1.1\r\nHost: {HOST}\r\nOrigin: null\r\n{length}\r\n");
    for (head, status, lives_on) in [
        (own_post("/missing", &length, ""), 404, true),
        (own_post("/hello", &length, ""), 405, true),
        (format!("GET /hello HTTP/1.1\r\nHost: {HOST}\r\n{length}\r\n"), 200, true),
        (own_post("//length", &length, ""), 404, false),
        (format!("GET /hello HTTP/1.1\r\nHost: evil\r\n{length}\r\n"), 421, false),
        (foreign, 403, false),
    ] {
        let mut wire = server.connect().await;
        wire.send(format!("{head}{smuggled}")).await;
        assert_eq!(wire.answer().await.status, status, "{head}");
        if lives_on {
            wire.send(request("HEAD", "/hello")).await;
            assert_eq!(wire.answer_to("HEAD").await, Answer::new(200, ""), "{head}");
        } else {
            wire.assert_closed().await;
        }
    }
}

#[tokio::test]
async fn trailers_and_extensions_of_chunks_are_dropped_and_have_an_end() {
    let server = start(Limits::default()).await;
    let chunked = |body: &str| own_post("/length", "Transfer-Encoding: chunked\r\n", body);
    let few = chunked("2;a=b\r\nab\r\n0\r\nSec-Fetch-Site: cross-site\r\nX-A: b\r\n\r\n");
    assert_eq!(server.ask(&few).await, Answer::new(200, "2").last());
    let broken = "The body of the request is broken; send it again";
    let broken = Answer::error(400, "BAD_REQUEST", broken, "").last();
    let trailers = format!("0\r\n{}", "X-A: b\r\n".repeat(8 << 10));
    let extensions = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(64 << 10));
    for body in [trailers, extensions] {
        assert_eq!(server.ask(&chunked(&body)).await, broken);
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_answered_or_dropped_and_never_handled() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    wire.send(own_post("/length", "Content-Length: 5\r\n", "12")).await;
    wire.stream.shutdown().await.unwrap();
    let message = "The body of the request is broken; send it again";
    assert_eq!(wire.answer().await, Answer::error(400, "BAD_REQUEST", message, "").last());
    wire.assert_closed().await;
}

#[tokio::test]
async fn as_many_headers_as_are_taken_reach_the_handler() {
    let server = start(Limits::default()).await;
    let ask = |more: usize| {
        format!("GET /hello HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", "A: b\r\n".repeat(more))
    };
    assert_eq!(server.ask(&ask(99)).await, Answer::new(200, "hello"));
    assert_eq!(server.ask(&ask(100)).await.status, 431);
}
