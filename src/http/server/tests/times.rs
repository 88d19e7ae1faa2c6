//! Clients that take their time, and the end of the server.

use super::*;

#[tokio::test]
async fn a_slow_head_is_answered_408_and_silence_is_closed() {
    let limits = Limits { head: SHORT, idle: SHORT * 4, ..Limits::default() };
    let server = start(limits).await;
    server.connect().await.assert_closed().await;

    let mut slow = server.connect().await;
    slow.send("GET /hello HTTP/1.1\r\nHost: ").await;
    assert_eq!(slow.answer().await, Answer::slow());
    slow.assert_closed().await;

    let mut idle = server.connect().await;
    idle.send(request("GET", "/hello")).await;
    assert_eq!(idle.answer().await, Answer::new(200, "hello"));
    let since = std::time::Instant::now();
    idle.assert_closed().await;
    assert!(since.elapsed() > SHORT * 3, "an idle connection may stay longer than a slow head");
}

#[tokio::test]
async fn the_time_of_an_idle_connection_does_not_run_while_a_request_is_under_way() {
    let limits = Limits { head: SHORT * 3, idle: SHORT * 3, ..Limits::default() };
    let server = start(limits).await;
    let mut wire = server.connect().await;
    // With the start of the next head, for which the time does not run either.
    wire.send(format!("{}GET /he", request("GET", "/wait"))).await;
    server.began.notified().await;
    tokio::time::sleep(SHORT * 5).await;
    server.go.notify_one();
    assert_eq!(wire.answer().await, Answer::new(200, "done"));
    wire.send(format!("llo HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(wire.answer().await, Answer::new(200, "hello"));
}

#[tokio::test]
async fn a_slow_body_is_answered_408_and_keeps_no_request_waiting() {
    let limits = Limits { request: Some(SHORT * 4), in_flight: 1, ..Limits::default() };
    let server = start(limits).await;
    let mut slow = server.connect().await;
    slow.send(own_post("/length", "Content-Length: 5\r\n", "12")).await;
    assert_eq!(server.ask(&request("GET", "/hello")).await, Answer::new(200, "hello"));
    assert_eq!(slow.answer().await, Answer::slow());
    slow.assert_closed().await;
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_closes_the_rest() {
    let server = start(Limits::default()).await;
    let (mut silent, mut idle, mut waiting) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.send(request("GET", "/hello")).await;
    assert_eq!(idle.answer().await, Answer::new(200, "hello"));
    waiting.send(request("GET", "/wait")).await;
    server.began.notified().await;

    server.stop.cancel();
    silent.assert_closed().await;
    idle.assert_closed().await;
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody is let in any more");
    assert!(!server.ended.is_finished());
    server.go.notify_one();
    assert_eq!(waiting.answer().await, Answer::new(200, "done").last());
    waiting.assert_closed().await;
    tokio::time::timeout(PATIENCE, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let server = start(Limits { drain: SHORT, ..Limits::default() }).await;
    let mut waiting = server.connect().await;
    waiting.send(request("GET", "/wait")).await;
    server.began.notified().await;
    server.stop.cancel();
    tokio::time::timeout(PATIENCE, server.ended).await.unwrap().unwrap();
    waiting.assert_closed().await;
}
