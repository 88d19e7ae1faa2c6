//! More clients than there are places.

use super::*;

/// Fewer places than clients.
const PLACES: usize = 32;

fn few_places() -> Limits {
    Limits { connections: PLACES, in_flight: 4, ..Limits::default() }
}

#[tokio::test]
async fn idle_and_slow_connections_keep_nobody_out() {
    let server = start(few_places()).await;
    let mut crowd = Vec::new();
    for number in 0..PLACES * 8 {
        let mut wire = server.connect().await;
        match number % 4 {
            0 => {}
            1 => wire.send("GET /hello HTTP/1.1\r\nX-Slow: ").await,
            2 => wire.send(own_post("/length", "Content-Length: 5\r\n", "1")).await,
            _ => {
                wire.send(request("GET", "/hello")).await;
                assert_eq!(wire.answer().await, Answer::new(200, "hello"));
            }
        }
        crowd.push(wire);
        if number % 8 == 0 {
            let answer = server.ask(&request("GET", "/hello")).await;
            assert_eq!(answer, Answer::new(200, "hello"), "after {number}");
        }
    }
    let mut oldest = crowd.swap_remove(0);
    oldest.assert_closed().await;
}

#[tokio::test]
async fn a_request_under_way_is_not_closed_for_others() {
    let server = start(few_places()).await;
    let mut waiting = server.connect().await;
    waiting.send(request("GET", "/wait")).await;
    server.began.notified().await;
    let mut crowd = Vec::new();
    for _ in 0..PLACES * 2 {
        crowd.push(server.connect().await);
    }
    assert_eq!(server.ask(&request("GET", "/hello")).await, Answer::new(200, "hello"));
    server.go.notify_one();
    assert_eq!(waiting.answer().await, Answer::new(200, "done"));
}

#[tokio::test]
async fn more_requests_than_places_in_flight_are_answered_503_and_probes_are_not() {
    let server = start(Limits { in_flight: 1, ..Limits::default() }).await;
    let mut waiting = server.connect().await;
    waiting.send(request("GET", "/wait")).await;
    server.began.notified().await;
    assert_eq!(server.ask(&request("GET", "/hello")).await, Answer::busy());
    assert_eq!(server.ask(&request("GET", "/healthz")).await, Answer::new(200, "ok"));
    server.go.notify_one();
    assert_eq!(waiting.answer().await, Answer::new(200, "done"));
    assert_eq!(server.ask(&request("GET", "/hello")).await, Answer::new(200, "hello"));
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_in_flight() {
    let server = start(Limits { in_flight: 1, ..Limits::default() }).await;
    let mut waiting = server.connect().await;
    waiting.send(request("GET", "/wait")).await;
    server.began.notified().await;
    drop(waiting);
    let free =
        async { while server.ask(&request("GET", "/hello")).await != Answer::new(200, "hello") {} };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
}

#[tokio::test]
async fn large_bodies_are_read_from_few_at_a_time() {
    let server = start(Limits::default()).await;
    let part = "x".repeat(100 << 10);
    let large = own_post("/large", "Content-Length: 1048576\r\n", &part);
    let mut crowd = Vec::new();
    let answered = async {
        loop {
            let mut wire = server.connect().await;
            wire.send(&large).await;
            crowd.push(wire);
            if crowd.len() > 16 {
                // One of all that were begun finds no place.
                let first = futures::future::select_all(
                    crowd.iter_mut().map(|wire| Box::pin(wire.answer())),
                );
                return first.await.0;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(answer, Answer::busy().last());
    let small = own_post("/large", "Content-Length: 5\r\n", "12345");
    assert_eq!(server.ask(&small).await, Answer::new(200, "5"));
}
