//! Clients that take their time, and the end of the server.

use tokio::time::Instant;

use super::*;

/// Sends one byte every second until the server has answered; how long that took, in whole seconds.
async fn drip(wire: &mut Wire<DuplexStream>, bytes: &str) -> u64 {
    let start = Instant::now();
    for byte in bytes.as_bytes().iter().chain(std::iter::repeat(&b'x')) {
        wire.send([*byte]).await;
        let mut piece = [0; 4096];
        let second = Duration::from_secs(1);
        if let Ok(read) = tokio::time::timeout(second, wire.stream.read(&mut piece)).await {
            wire.read.extend_from_slice(&piece[..read.unwrap()]);
            return start.elapsed().as_secs();
        }
    }
    unreachable!("the bytes have no end")
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_answered_408_however_often_a_byte_of_it_comes() {
    let server = Still::new(Limits::default());
    let head = "GET /hello HTTP/1.1\r\nX-Slow: ";
    let mut fresh = server.connect().await;
    assert_eq!(drip(&mut fresh, head).await, 10);
    assert_eq!(fresh.answer().await, Answer::slow());
    fresh.assert_closed().await;

    let mut used = server.connect().await;
    used.send(request("GET", "/hello")).await;
    assert_eq!(used.answer().await, Answer::new(200, "hello"));
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(drip(&mut used, head).await, 10);
    assert_eq!(used.answer().await, Answer::slow());
    used.assert_closed().await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_closed_sooner_before_the_first_request_than_after_it() {
    let server = Still::new(Limits::default());
    let start = Instant::now();
    server.connect().await.assert_closed().await;
    assert_eq!(start.elapsed().as_secs(), 10);

    let mut idle = server.connect().await;
    idle.send(request("GET", "/hello")).await;
    assert_eq!(idle.answer().await, Answer::new(200, "hello"));
    let start = Instant::now();
    idle.assert_closed().await;
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_idle_connection_does_not_run_while_a_request_is_under_way() {
    let limits = Limits { request: Some(Duration::from_mins(5)), ..Limits::default() };
    let server = Still::new(limits);
    let mut wire = server.connect().await;
    // With the start of the next head, for which the time does not run either.
    wire.send(format!("{}GET /he", request("GET", "/wait"))).await;
    server.began.hear().await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    server.go.say(1);
    assert_eq!(wire.answer().await, Answer::new(200, "done"));
    wire.send(format!("llo HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(wire.answer().await, Answer::new(200, "hello"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_answered_408_and_keeps_no_request_waiting() {
    let server = Still::new(Limits { in_flight: 1, ..Limits::default() });
    for headers in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut slow = server.connect().await;
        slow.send(own_post("/length", headers, "")).await;
        assert_eq!(server.ask(&request("GET", "/hello")).await, Answer::new(200, "hello"));
        assert_eq!(drip(&mut slow, "3E8\r\n").await, 30, "{headers}");
        assert_eq!(slow.answer().await, Answer::slow());
        slow.assert_closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_body_waits_for_a_place_and_a_slow_one_keeps_it_for_a_while_only() {
    let server = Still::new(Limits { request: Some(Duration::from_mins(1)), ..Limits::default() });
    let (part, rest) = ("x".repeat(100 << 10), "x".repeat(924 << 10));
    let large = own_post("/large", "Content-Length: 1048576\r\n", &part);
    let mut crowd = Vec::new();
    for _ in 0..16 {
        let mut wire = server.connect().await;
        wire.send(&large).await;
        crowd.push(wire);
    }
    // Of the last one nothing more than its start is taken until there is a place.
    let start = Instant::now();
    let mut last = server.connect().await;
    let (reader, mut writer) = tokio::io::split(last.stream);
    let sent = tokio::spawn(async move {
        writer.write_all(large.as_bytes()).await.unwrap();
        writer.write_all(rest.as_bytes()).await.unwrap();
        writer
    });
    let small = own_post("/large", "Content-Length: 5\r\n", "12345");
    assert_eq!(server.ask(&small).await, Answer::new(200, "5"));
    assert!(!sent.is_finished());
    for wire in &mut crowd {
        assert_eq!(wire.answer().await, Answer::slow());
    }
    last.stream = reader.unsplit(sent.await.unwrap());
    assert_eq!(last.answer().await, Answer::new(200, "1048576"));
    assert_eq!(start.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_given_up() {
    let server = Still::new(Limits::default());
    let message = "The server did not finish in time; try again";
    let expected = Answer::error(504, "INTERNAL_ERROR", message, "request id <id>");
    let start = Instant::now();
    assert_eq!(server.ask(&request("GET", "/wait")).await, expected);
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_closes_the_rest() {
    let server = start(Limits { drain: PATIENCE, ..Limits::default() }).await;
    let (mut silent, mut idle, mut waiting) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.send(request("GET", "/hello")).await;
    assert_eq!(idle.answer().await, Answer::new(200, "hello"));
    waiting.send(request("GET", "/wait")).await;
    server.began.hear().await;

    server.stop.cancel();
    silent.assert_closed().await;
    idle.assert_closed().await;
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody is let in any more");
    assert!(!server.ended.is_finished());
    server.go.say(1);
    assert_eq!(waiting.answer().await, Answer::new(200, "done").last());
    waiting.assert_closed().await;
    tokio::time::timeout(PATIENCE, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let server = start(Limits { drain: SHORT, ..Limits::default() }).await;
    let mut waiting = server.connect().await;
    waiting.send(request("GET", "/wait")).await;
    server.began.hear().await;
    server.stop.cancel();
    tokio::time::timeout(PATIENCE, server.ended).await.unwrap().unwrap();
    waiting.assert_closed().await;
}
