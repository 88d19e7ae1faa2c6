//! The issuer for development, as a client that is not ours sees it.

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};

use super::*;
use crate::http::oidc::issuer;

/// An authorization request of ours, with these parameters set or (empty) taken away.
fn asked(stage: &Stage, over: &[(&str, &str)]) -> Url {
    let mut url = stage.party.start_login().unwrap().authorize_url;
    let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    for (name, value) in over {
        query.retain(|(have, _)| have != name);
        query.push(((*name).to_owned(), (*value).to_owned()));
    }
    url.query_pairs_mut().clear().extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
    url
}

async fn post_form(router: &Router, authorization: Option<&str>, form: &str) -> Response<Body> {
    let mut request = Request::post("/oidc/token")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8");
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    router.clone().oneshot(request.body(Body::from(form.to_owned())).unwrap()).await.unwrap()
}

#[tokio::test]
async fn it_describes_itself() {
    let stage = Stage::new().await;
    let url = format!("{ISSUER}/.well-known/openid-configuration").parse().unwrap();
    let expected = json!({
        "issuer": ISSUER,
        "authorization_endpoint": format!("{ISSUER}/authorize"),
        "token_endpoint": format!("{ISSUER}/token"),
        "userinfo_endpoint": format!("{ISSUER}/userinfo"),
        "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": ["sub", "email", "email_verified", "preferred_username", "groups"],
        "authorization_response_iss_parameter_supported": true,
    });
    assert_eq!(body(get(&stage.router, &url).await).await, expected);
}

#[test]
fn it_is_called_after_scheme_and_host_of_the_flag_alone() {
    let callback = CALLBACK.parse().unwrap();
    for (flag, expected) in [
        ("http://127.0.0.1:8080/oidc", Some("http://127.0.0.1:8080/oidc")),
        ("https://kube-bind.example/a/oidc", Some("https://kube-bind.example/oidc")),
        ("http://[::1]:8080/oidc", Some("http://[::1]:8080/oidc")),
        ("data:oidc", None),
    ] {
        let issuer = Issuer::new(&flag.parse().unwrap(), &callback, Hands::new().clock());
        let issuer = issuer.map(|issuer| issuer.client().issuer_url);
        assert_eq!(issuer, expected.map(str::to_owned).ok_or(issuer::Error::Host), "{flag}");
    }
}

#[tokio::test]
async fn row_23_a_request_with_another_client_or_address_is_not_redirected() {
    let stage = Stage::new().await;
    for over in [
        ("client_id", "another"),
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "https://evil/api/callback"),
        ("redirect_uri", "http://127.0.0.1:8080/api/callback/"),
        ("redirect_uri", "http://127.0.0.1:8080/api/callback?a=b"),
        ("redirect_uri", "http://127.0.0.1:8081/api/callback"),
        ("redirect_uri", "//127.0.0.1:8080/api/callback"),
        ("state", ""),
    ] {
        let answer = get(&stage.router, &asked(&stage, &[over])).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{over:?}");
        assert!(!answer.headers().contains_key(LOCATION), "{over:?}");
        assert_eq!(body(answer).await["error"], "invalid_request", "{over:?}");
    }
    let mut twice = asked(&stage, &[]);
    twice.query_pairs_mut().append_pair("redirect_uri", "https://evil");
    assert_eq!(get(&stage.router, &twice).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn other_mistakes_go_back_with_the_browser() {
    let stage = Stage::new().await;
    for (over, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "unsupported_response_type"),
        (("scope", "profile openidx"), "invalid_scope"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("nonce", &*"n".repeat(1025)), "invalid_request"),
    ] {
        let answer = get(&stage.router, &asked(&stage, &[over, ("state", "the state")])).await;
        let back = Url::parse(answer.headers()[LOCATION].to_str().unwrap()).unwrap();
        let query: Vec<(String, String)> = back.query_pairs().into_owned().collect();
        let value =
            |name: &str| query.iter().find(|(have, _)| have == name).map(|(_, value)| &**value);
        assert_eq!(value("error"), Some(error), "{over:?}");
        assert_eq!(value("state"), Some("the state"));
        assert_eq!(value("code"), None);
    }
}

#[tokio::test]
async fn bad_input_7_an_error_with_html_comes_back_as_it_is() {
    let stage = Stage::new().await;
    let text = "<script>alert(1)</script>";
    let knobs = json!({"authorizeError": {"error": "access_denied", "description": text}});
    let arrived = stage.arrive(&knobs).await;
    assert_eq!(arrived.get("error"), Some("access_denied"));
    assert_eq!(arrived.get("error_description"), Some(text));
    assert_eq!(arrived.get("code"), None);
}

#[tokio::test]
async fn codes_are_kept_in_bounds() {
    let stage = Stage::new().await;
    for _ in 0..1000 {
        assert!(stage.arrive(&json!({})).await.get("code").is_some());
    }
    let full = stage.arrive(&json!({})).await;
    assert_eq!(full.get("error"), Some("temporarily_unavailable"));
    stage.hands.forward(60);
    assert_eq!(stage.login(&json!({})).await, Ok(stage.user()));
}

#[tokio::test]
async fn a_client_without_its_secret_gets_nothing_and_leaves_the_code_good() {
    let stage = Stage::new().await;
    let arrived = stage.arrive(&json!({})).await;
    let id = stage.issuer.client().client_id;
    let form = format!("grant_type=authorization_code&code={}", arrived.code().expose_secret());
    let wrong = format!("{form}&client_id={id}&client_secret=wrong");
    let without = format!("{form}&client_id={id}");
    for (authorization, form) in [
        (None, form.as_str()),
        (None, wrong.as_str()),
        (None, without.as_str()),
        (Some("Basic"), form.as_str()),
        (Some("Basic !"), form.as_str()),
        (Some("Basic Og=="), form.as_str()),
        (Some("Bearer Og=="), form.as_str()),
    ] {
        let answer = post_form(&stage.router, authorization, form).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{authorization:?} {form}");
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(body(answer).await["error"], "invalid_client");
    }
    assert_eq!(stage.finish(&arrived).await, Ok(stage.user()));
}

#[tokio::test]
async fn a_form_that_is_wrong_otherwise_is_named() {
    let stage = Stage::new().await;
    let client = stage.issuer.client();
    let (id, secret) = (client.client_id, client.client_secret.unwrap());
    let ours = format!("client_id={id}&client_secret={}", secret.expose_secret());
    for (form, error) in [
        (format!("{ours}&grant_type=refresh_token"), "unsupported_grant_type"),
        (format!("{ours}&grant_type=authorization_code"), "invalid_request"),
        (format!("{ours}&grant_type=authorization_code&code=x"), "invalid_grant"),
        (format!("{ours}&code=x&code=y"), "invalid_request"),
    ] {
        let answer = post_form(&stage.router, None, &form).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(body(answer).await["error"], error);
    }
    let large = post_form(&stage.router, None, &"x".repeat(64 * 1024 + 1)).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let json = Request::post("/oidc/token").header(CONTENT_TYPE, "application/json");
    let answer = stage.router.clone().oneshot(json.body(Body::from("{}")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_access_token_gives_the_claims_until_it_expires_and_the_id_token_does_not() {
    let stage = Stage::new().await;
    let arrived = stage.arrive(&json!({})).await;
    let client = stage.issuer.client();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &client.client_id)
        .append_pair("client_secret", client.client_secret.unwrap().expose_secret())
        .append_pair("grant_type", "authorization_code")
        .append_pair("code", arrived.code().expose_secret())
        .append_pair("code_verifier", arrived.started.verifier.expose_secret())
        .append_pair("redirect_uri", CALLBACK)
        .finish();
    let answer = post_form(&stage.router, None, &form).await;
    assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
    let tokens = body(answer).await;
    let ask = async |token: &str| {
        let request =
            Request::get("/oidc/userinfo").header(AUTHORIZATION, format!("Bearer {token}"));
        stage.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let access = tokens["access_token"].as_str().unwrap();
    let expected = json!({
        "sub": "kube-bind-embedded-user",
        "email": "embedded@kube-bind.io",
        "email_verified": true,
        "preferred_username": "kube-bind",
        "groups": ["engineering", "devops"],
    });
    assert_eq!(body(ask(access).await).await, expected);
    for bad in [tokens["id_token"].as_str().unwrap(), "", "a.b.c", &access[..access.len() - 2]] {
        let answer = ask(bad).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().contains_key(WWW_AUTHENTICATE));
    }
    stage.hands.forward(600);
    assert_eq!(ask(access).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn two_issuers_do_not_take_each_others_tokens_for_their_own() {
    let (one, two) = (Stage::new().await, Stage::new().await);
    assert_ne!(one.issuer.client().client_id, two.issuer.client().client_id);
    let arrived = one.arrive(&json!({})).await;
    assert_eq!(two.finish(&arrived).await, Err(Error::CodeRefused));
}

#[tokio::test]
async fn knobs_hold_for_one_login_until_reset_or_for_a_login_that_names_them() {
    let stage = Stage::new().await;
    let plain = async || {
        let answer = get(&stage.router, &asked(&stage, &[])).await;
        let back = Url::parse(answer.headers()[LOCATION].to_str().unwrap()).unwrap();
        back.query_pairs().find(|(name, _)| name == "error").map(|(_, value)| value.into_owned())
    };
    let denied = json!({"error": "access_denied"});
    stage.set(&json!({"once": true, "authorizeError": denied})).await;
    assert_eq!((plain().await.as_deref(), plain().await), (Some("access_denied"), None));
    stage.set(&json!({"authorizeError": denied})).await;
    assert_eq!(plain().await, plain().await);
    assert!(stage.login(&json!({})).await.is_ok());
    stage.set(&json!({})).await;
    assert_eq!(plain().await, None);
    let unknown = Request::post("/oidc/knobs").body(Body::from("{\"nonsense\":1}")).unwrap();
    let answer = stage.router.clone().oneshot(unknown).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}
