//! Which credential of a request counts, and how the refusals reach clients.

use http::StatusCode;

use super::*;

#[tokio::test]
async fn a_token_and_a_cookie_have_the_session_that_they_were_given_for() {
    let stage = Stage::new();
    let token = bearer(&stage.token("a").await);
    let found = stage.sessions.authenticate(&token, Scope::Cluster("b")).await.unwrap();
    assert_eq!(found, Authenticated { session: session("a"), credential: Credential::Token });
    let cookie = with_cookies(&[&stage.cookie("a").await]);
    let found = stage.sessions.authenticate(&cookie, Scope::Cluster("a")).await.unwrap();
    assert_eq!(found, Authenticated { session: session("a"), credential: Credential::Cookie });
}

#[tokio::test]
async fn bad_input_22_an_authorization_header_without_use_is_not_made_good_by_a_cookie() {
    let stage = Stage::new();
    let cookie = stage.cookie("").await;
    for (value, expected) in [
        ("Bearer x.y.z", Error::Token(Refusal::Header)),
        ("Bearer ", Error::Authorization),
        ("Bearer", Error::Authorization),
        ("", Error::Authorization),
        ("Basic YTpi", Error::Authorization),
        ("Bearer a,b", Error::Authorization),
        ("Bearer a.b.c d", Error::Authorization),
        ("Bearer\ta.b.c", Error::Authorization),
        ("Bearer a.b.c=", Error::Authorization),
    ] {
        let mut headers = with_authorization(value);
        headers.extend(with_cookies(&[&cookie]));
        assert_eq!(stage.credential(&headers).await, Err(expected), "{value}");
    }
    let mut opaque = with_cookies(&[&cookie]);
    opaque.insert(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap());
    assert_eq!(stage.credential(&opaque).await, Err(Error::Authorization));
}

#[tokio::test]
async fn bad_input_23_the_scheme_is_taken_in_any_case_and_the_header_once() {
    let stage = Stage::new();
    let token = stage.token("").await;
    for value in [format!("bearer {token}"), format!("BEARER   {token}  ")] {
        let found = stage.credential(&with_authorization(&value)).await;
        assert_eq!(found, Ok(Credential::Token), "{value}");
    }
    let mut twice = bearer(&token);
    twice.extend(bearer(&token));
    twice.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    assert_eq!(stage.credential(&twice).await, Err(Error::ManyAuthorizations));
    let long = bearer(&"x".repeat(100 * 1024));
    assert_eq!(stage.credential(&long).await, Err(Error::Token(Refusal::TooLarge)));
}

#[tokio::test]
async fn a_session_ends_when_its_lifetime_is_over_and_not_before() {
    let stage = Stage::new();
    let cookie = with_cookies(&[&stage.cookie("").await]);
    let token = bearer(&stage.token("").await);
    stage.hands.forward(LIFETIME - 1);
    assert_eq!(stage.credential(&cookie).await, Ok(Credential::Cookie));
    assert_eq!(stage.credential(&token).await, Ok(Credential::Token));
    stage.hands.forward(1);
    assert_eq!(stage.credential(&cookie).await, Err(Error::SessionUnknown));
    assert_eq!(stage.credential(&token).await, Err(Error::Token(Refusal::Expired)));
}

#[tokio::test]
async fn bad_input_13_two_users_with_the_same_session_id_have_a_session_each() {
    let stage = Stage::new();
    let ann = stage.cookie("").await;
    let bob = User { subject: "bob".to_owned(), ..user("") };
    let granted = stage.sessions.create_session(bob).await.unwrap();
    let bob = sent(&stage.sessions.cookie(&granted).unwrap());
    for (cookie, subject) in [(ann, "ann"), (bob, "bob")] {
        let headers = with_cookies(&[&cookie]);
        let found = stage.sessions.authenticate(&headers, Scope::Cluster("")).await.unwrap();
        assert_eq!(found.session.user.subject, subject);
    }
}

#[test]
fn clients_get_the_statuses_and_texts_of_the_contract() {
    let unauthorized = |details| (StatusCode::UNAUTHORIZED, Some(details));
    let bad_request = (StatusCode::BAD_REQUEST, None);
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, None);
    for (error, expected) in [
        (Error::NoCredential, unauthorized("No valid session found")),
        (Error::Authorization, unauthorized("No valid session found")),
        (Error::Cookie, unauthorized("No valid session found")),
        (Error::Token(Refusal::Signature), unauthorized("No valid session found")),
        (
            Error::Token(Refusal::Claims),
            unauthorized("Invalid session state: missing required fields"),
        ),
        (Error::Token(Refusal::Expired), unauthorized("Session has expired")),
        (Error::SessionUnknown, unauthorized("Session has expired or is invalid")),
        (Error::ManyAuthorizations, bad_request),
        (Error::ManyCookies(String::new()), bad_request),
        (Error::CookiesTooLarge(1), bad_request),
        (Error::WhichCluster, bad_request),
        (Error::ClusterName, bad_request),
        (Error::State, bad_request),
        (Error::LoginCookie, bad_request),
        (Error::LoginUnknown, bad_request),
        (Error::LoginTooLarge(1), bad_request),
        (Error::Sign, (StatusCode::INTERNAL_SERVER_ERROR, None)),
        (Error::Random, unavailable),
        (Error::Store(StoreError::Full), unavailable),
        (Error::Store(StoreError::Unavailable { problem: String::new() }), unavailable),
    ] {
        assert_eq!((error.class().status(), error.details()), expected, "{error:?}");
    }
}

#[tokio::test]
async fn bad_input_71_credentials_are_in_no_debug_text() {
    let stage = Stage::new();
    let granted = stage.granted("").await;
    let token = stage.sessions.token(&granted).unwrap();
    let cookie = stage.sessions.cookie(&granted).unwrap();
    let value = sent(&cookie).split_once('=').unwrap().1.to_owned();
    let said = format!("{granted:?} {token:?} {cookie:?} {:?}", stage.sessions.keys());
    assert!(!said.contains(&value) && !said.contains("eyJ"), "{said}");
    assert!(said.contains("Handle([REDACTED])"), "{said}");
    let login = format!("{:?}", logins::login());
    assert!(!login.contains("the nonce") && !login.contains("the verifier"), "{login}");
}
