//! Where a request ends.

use super::*;

#[tokio::test]
async fn an_ambiguous_request_is_answered_400_and_ends_the_connection() {
    let server = start(Limits::default()).await;
    let both = "there is a Content-Length beside Transfer-Encoding";
    let twice = "a header is there twice that may be there once";
    for (head, why) in [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", both),
        ("Content-Length: 4\r\nContent-Length: 5\r\n", twice),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", twice),
        ("Transfer-Encoding: gzip\r\n", "the only Transfer-Encoding taken here is chunked"),
        ("X-A: b\r\n c\r\n", "a header is folded over two lines"),
        ("X-A: b\n", "a line ends without CR"),
        ("X-A: b\rc\r\n", "the value of a header has a control character"),
        ("Content-Length : 4\r\n", "the name of a header is not a token"),
        ("Authorization: a\r\nAuthorization: b\r\n", twice),
    ] {
        let mut wire = server.connect().await;
        let smuggled = request("GET", "/hello");
        wire.send(own_post("/length", head, &format!("0\r\n\r\n{smuggled}"))).await;
        assert_eq!(wire.answer().await, Answer::malformed(why), "{head:?}");
        wire.assert_closed().await;
    }
}

#[tokio::test]
async fn a_refused_request_is_answered_in_its_turn() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    let wait = request("GET", "/wait");
    wire.send(format!("{wait}GET / HTTP/1.1\nHost: a\n\n")).await;
    server.began.hear().await;
    server.go.say(1);
    assert_eq!(wire.answer().await, Answer::new(200, "done"));
    assert_eq!(wire.answer().await, Answer::malformed("a line ends without CR"));
    wire.assert_closed().await;
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection_however_they_are_cut() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    let post = own_post("/length", "Content-Length: 5\r\n", "12345");
    let get = request("GET", "/hello");
    let all = format!("{post}{get}{get}{post}{get}");
    for size in [all.len(), 1, 7] {
        for piece in all.as_bytes().chunks(size) {
            wire.send(piece).await;
        }
        for expected in ["5", "hello", "hello", "5", "hello"] {
            assert_eq!(wire.answer().await, Answer::new(200, expected), "pieces of {size}");
        }
    }
}

#[tokio::test]
async fn a_chunked_body_is_read_and_ends_the_connection() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    let body = "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    let next = request("GET", "/hello");
    let post = own_post("/length", "Transfer-Encoding: chunked\r\n", &format!("{body}{next}"));
    wire.send(post).await;
    assert_eq!(wire.answer().await, Answer::new(200, "5").last());
    wire.assert_closed().await;
    let broken = own_post("/length", "Transfer-Encoding: chunked\r\n", "zz\r\n");
    let message = "The body of the request is broken; send it again";
    let expected = Answer::error(400, "BAD_REQUEST", message, "").last();
    assert_eq!(server.ask(&broken).await, expected);
}

#[tokio::test]
async fn a_body_over_its_limit_is_answered_413_without_reading_on() {
    let server = start(Limits::default()).await;
    let small = "x".repeat(64 << 10);
    let length = |length: usize| format!("Content-Length: {length}\r\n");
    let fits = own_post("/length", &length(small.len()), &small);
    assert_eq!(server.ask(&fits).await, Answer::new(200, "65536"));
    let large = "x".repeat(1 << 20);
    let fits = own_post("/large", &length(large.len()), &large);
    assert_eq!(server.ask(&fits).await, Answer::new(200, "1048576"));

    // Nothing of it is sent, so nothing of it can be waited for; nor is it asked for.
    for path in ["/length", "/large", "/missing"] {
        let headers = format!("{}Expect: 100-continue\r\n", length(1 << 30));
        let mut wire = server.connect().await;
        wire.send(own_post(path, &headers, "")).await;
        let limit = if path == "/large" { 1 << 20 } else { 64 << 10 };
        assert_eq!(wire.answer().await, Answer::too_large(limit), "{path}");
        wire.assert_closed().await;
    }
    let chunk = format!("10000\r\n{small}\r\n");
    let endless = own_post("/length", "Transfer-Encoding: chunked\r\n", &chunk.repeat(2));
    let mut wire = server.connect().await;
    wire.send(endless).await;
    assert_eq!(wire.answer().await, Answer::too_large(64 << 10));
    wire.assert_closed().await;
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_its_body_is_told_to() {
    let server = start(Limits::default()).await;
    let mut wire = server.connect().await;
    wire.send(own_post("/length", "Content-Length: 5\r\nExpect: 100-continue\r\n", "")).await;
    assert_eq!(wire.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("12345").await;
    assert_eq!(wire.answer().await, Answer::new(200, "5"));
}

#[tokio::test]
async fn a_head_over_its_limit_is_answered_431() {
    let server = start(Limits::default()).await;
    let message =
        "The headers of this request are too large; remove cookies of this site and try again";
    let expected = Answer::error(431, "BAD_REQUEST", message, "").last();
    for head in [
        format!("Cookie: {}\r\n", "x".repeat(16 << 10)),
        format!("Authorization: Bearer {}\r\n", "x".repeat(100 << 10)),
        "X-A: b\r\n".repeat(200),
    ] {
        let mut wire = server.connect().await;
        wire.send(format!("GET /hello HTTP/1.1\r\nHost: {HOST}\r\n{head}\r\n")).await;
        assert_eq!(wire.answer().await, expected);
        wire.assert_closed().await;
    }
    let fits = format!("Cookie: {}\r\n", "x".repeat(15 << 10));
    let fits = format!("GET /hello HTTP/1.1\r\nHost: {HOST}\r\n{fits}\r\n");
    assert_eq!(server.ask(&fits).await, Answer::new(200, "hello"));
}

#[tokio::test]
async fn whatever_byte_is_in_a_head_the_answer_is_one_of_ours() {
    let server = start(Limits::default()).await;
    for byte in 0..=u8::MAX {
        for (before, after) in [
            ("G", "T /hello HTTP/1.1\r\nHost: bind.example.com\r\n\r\n"),
            ("GET /a", "b?c HTTP/1.1\r\nHost: bind.example.com\r\n\r\n"),
            ("GET /a?b", "c HTTP/1.1\r\nHost: bind.example.com\r\n\r\n"),
            ("GET /hello HTTP/1.1\r\nHost: bind.example.com\r\nX-", "a: b\r\n\r\n"),
            ("GET /hello HTTP/1.1\r\nHost: bind.example.com\r\nX-A: b", "c\r\n\r\n"),
            ("GET /hello HTTP/1.1\r\nHost: bind.example.com", "\r\n\r\n"),
        ] {
            let mut wire = server.connect().await;
            wire.send([before.as_bytes(), &[byte], after.as_bytes()].concat()).await;
            let answer = wire.answer().await;
            let expected = [200, 400, 403, 404, 405, 421];
            assert!(expected.contains(&answer.status), "{byte:#x} after {before:?}: {answer:?}");
        }
    }
}
