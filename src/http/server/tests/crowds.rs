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
    server.began.hear().await;
    let mut crowd = Vec::new();
    for _ in 0..PLACES * 2 {
        crowd.push(server.connect().await);
    }
    assert_eq!(server.ask(&request("GET", "/hello")).await, Answer::new(200, "hello"));
    server.go.say(1);
    assert_eq!(waiting.answer().await, Answer::new(200, "done"));
}

#[tokio::test]
async fn more_requests_than_places_in_flight_wait_for_their_turn_and_probes_do_not() {
    let server = start(Limits::default()).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut wire = server.connect().await;
        wire.send(request("GET", "/wait")).await;
        crowd.push(wire);
    }
    for _ in 0..64 {
        server.began.hear().await;
    }
    assert_eq!(server.ask(&request("GET", "/healthz")).await, Answer::new(200, "ok"));
    assert_eq!(server.began.said(), 0, "no more than 64 at the same time");
    for _ in 64..100 {
        server.go.say(1);
        server.began.hear().await;
    }
    server.go.say(64);
    for wire in &mut crowd {
        assert_eq!(wire.answer().await, Answer::new(200, "done"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_turn_does_not_come_in_time_is_answered_503() {
    let server = Still::new(Limits { in_flight: 1, ..Limits::default() });
    let mut first = server.connect().await;
    first.send(request("GET", "/wait")).await;
    server.began.hear().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Its time starts later than that of the first, which is given up in between.
    let mut second = server.connect().await;
    second.send(request("GET", "/wait")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut third = server.connect().await;
    third.send(own_post("/length", "Content-Length: 5\r\n", "12345")).await;
    assert_eq!(first.answer().await.status, 504);
    assert_eq!(second.answer().await.status, 504);
    assert_eq!(third.answer().await, Answer::new(200, "5"));

    server.began.hear().await;
    let mut long = server.connect().await;
    long.send(request("GET", "/long")).await;
    server.began.hear().await;
    assert_eq!(server.ask(&request("GET", "/hello")).await, Answer::busy());
    server.go.say(1);
    assert_eq!(long.answer().await, Answer::new(200, "done"));
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_in_flight() {
    let server = start(Limits { in_flight: 1, ..Limits::default() }).await;
    let mut waiting = server.connect().await;
    waiting.send(request("GET", "/wait")).await;
    server.began.hear().await;
    drop(waiting);
    let free =
        async { while server.ask(&request("GET", "/hello")).await != Answer::new(200, "hello") {} };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
}
