//! Logout ends sessions, and not only cookies.

use super::*;

fn texts(set_cookies: &[HeaderValue]) -> Vec<&str> {
    set_cookies.iter().map(|value| value.to_str().unwrap()).collect()
}

fn gone(name: &str) -> String {
    format!("{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
}

#[tokio::test]
async fn bad_input_17_a_cookie_is_dead_after_logout() {
    let stage = Stage::new();
    let headers = with_cookies(&[&stage.cookie("").await]);
    let out = stage.sessions.logout(&headers, Some("")).await.unwrap();
    assert_eq!(out.ended, [session("")]);
    assert_eq!(texts(&out.set_cookies), [gone("__Host-kube-bind")]);
    assert_eq!(stage.credential(&headers).await, Err(Error::SessionUnknown));
}

#[tokio::test]
async fn bad_input_20_a_token_is_dead_after_logout_of_its_session() {
    let stage = Stage::new();
    let headers = bearer(&stage.token("").await);
    let out = stage.sessions.logout(&headers, None).await.unwrap();
    assert_eq!(out.ended, [session("")]);
    assert_eq!(stage.credential(&headers).await, Err(Error::SessionUnknown));
}

#[tokio::test]
async fn bad_input_21_no_login_of_anybody_revives_a_session() {
    let stage = Stage::new();
    let headers = bearer(&stage.token("").await);
    stage.sessions.logout(&headers, None).await.unwrap();
    // The same user, the same session_id of the client.
    stage.granted("").await;
    assert_eq!(stage.credential(&headers).await, Err(Error::SessionUnknown));
}

#[tokio::test]
async fn a_logout_of_a_cluster_leaves_the_others() {
    let stage = Stage::new();
    let (a, b) = (stage.cookie("a").await, stage.cookie("b").await);
    let both = with_cookies(&[&a, &b]);
    let out = stage.sessions.logout(&both, Some("a")).await.unwrap();
    assert_eq!(out.ended, [session("a")]);
    assert_eq!(texts(&out.set_cookies), [gone("__Host-kube-bind-a")]);
    assert!(stage.sessions.authenticate(&both, Scope::Cluster("b")).await.is_ok());
}

#[tokio::test]
async fn a_logout_without_a_cluster_ends_all_sessions_of_the_browser() {
    let stage = Stage::new();
    let (own, a) = (stage.cookie("").await, stage.cookie("a").await);
    let out = stage.sessions.logout(&with_cookies(&[&a, &own]), None).await.unwrap();
    assert_eq!(out.ended, [session(""), session("a")]);
    let expected = [gone("__Host-kube-bind"), gone("__Host-kube-bind-a")];
    assert_eq!(texts(&out.set_cookies), expected);
}

#[tokio::test]
async fn a_logout_ends_both_sessions_of_a_cookie_that_is_there_twice() {
    let stage = Stage::new();
    let (one, other) = (stage.cookie("").await, stage.cookie("").await);
    let out = stage.sessions.logout(&with_cookies(&[&one, &other]), Some("")).await.unwrap();
    assert_eq!(out.ended, [session(""), session("")]);
}

#[tokio::test]
async fn a_logout_of_nobody_is_no_error_and_takes_the_cookie_away() {
    let stage = Stage::new();
    for headers in [
        HeaderMap::new(),
        with_cookies(&["__Host-kube-bind=x"]),
        with_cookies(&[&format!("__Host-kube-bind={}", "A".repeat(43))]),
        bearer("x.y.z"),
        with_authorization("Basic YTpi"),
    ] {
        let out = stage.sessions.logout(&headers, None).await.unwrap();
        assert_eq!(out.ended, []);
        assert_eq!(texts(&out.set_cookies), [gone("__Host-kube-bind")]);
    }
}

#[tokio::test]
async fn a_logout_with_hundreds_of_cookies_ends_some_and_no_more() {
    let stage = Stage::new();
    let mut cookies = Vec::new();
    for number in 0..200 {
        cookies.push(stage.cookie(&number.to_string()).await);
    }
    let out = stage.sessions.logout(&with_cookies(&[&cookies.join(";")]), None).await.unwrap();
    assert_eq!((out.ended.len(), out.set_cookies.len()), (32, 32));
}
