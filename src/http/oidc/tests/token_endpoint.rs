//! What the token endpoint may answer.

use super::*;
use crate::http::oidc::Class;

fn endpoint() -> String {
    format!("{ISSUER}/token")
}

#[tokio::test]
async fn bad_input_12_an_answer_that_is_none_is_the_fault_of_the_issuer() {
    let at = endpoint();
    for (what, fault, problem) in [
        ("no id_token", json!({"without": ["id_token"]}), "it has no id_token".to_owned()),
        (
            "wrong content-type",
            json!({"contentType": "text/html; charset=utf-8"}),
            format!("the answer of {at} is not application/json"),
        ),
        (
            "10 MiB",
            json!({"padding": 10 << 20}),
            format!("the answer of {at} is larger than 1048576 bytes"),
        ),
        ("a redirect", json!({"status": 302}), format!("{at} answered 302 Found")),
        ("no content", json!({"status": 206}), format!("{at} answered 206 Partial Content")),
    ] {
        let result = Stage::new().await.login(&json!({"token": fault})).await;
        assert_eq!(result, Err(Error::TokenAnswer { problem }), "{what}");
        assert_eq!(result.unwrap_err().class(), Class::BadGateway, "{what}");
    }
    let empty = json!({"idToken": {"raw": ""}});
    let problem = "it has no id_token".to_owned();
    assert_eq!(Stage::new().await.login(&empty).await, Err(Error::TokenAnswer { problem }));
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_fails_or_does_not_answer_is_not_there_for_now() {
    let at = endpoint();
    for (fault, problem) in [
        (json!({"status": 500}), format!("{at} answered 500 Internal Server Error")),
        (json!({"status": 503}), format!("{at} answered 503 Service Unavailable")),
        (json!({"delayMs": 11_000}), format!("{at} did not answer within 10 s")),
    ] {
        let result = Stage::new().await.login(&json!({"token": fault})).await;
        assert_eq!(result, Err(Error::Exchange { problem }), "{fault}");
        assert_eq!(result.unwrap_err().class().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_refuses_the_client_is_told_by_its_error_code_alone() {
    for (status, given, error) in [
        (401, json!("invalid_client"), "invalid_client"),
        (400, json!("<script>alert(1)</script>"), "no OAuth error code"),
        (400, json!("a".repeat(65)), "no OAuth error code"),
        (404, json!(1), "no OAuth error code"),
    ] {
        let token = axum::routing::post(move || {
            let status = StatusCode::from_u16(status).unwrap();
            async move { (status, axum::Json(json!({"error": given, "error_description": "secret"}))) }
        });
        let result = clients::at_token_endpoint(token, |_| ()).await;
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(result, Err(Error::ClientRefused { status, error: error.to_owned() }));
        assert_eq!(result.unwrap_err().class(), Class::BadGateway);
    }
}

#[tokio::test]
async fn bad_input_8_a_code_that_cannot_be_one_is_not_sent() {
    let stage = Stage::new().await;
    let verifier = SecretString::from("v".repeat(43));
    for code in [String::new(), "c".repeat(8192)] {
        let result = stage.party.finish_login(&code.into(), &verifier, "nonce").await;
        assert_eq!(result, Err(Error::Code));
        assert_eq!(result.unwrap_err().class(), Class::BadRequest);
    }
}

#[tokio::test]
async fn bad_input_16_a_code_is_exchanged_once() {
    let stage = Stage::new().await;
    let arrived = stage.arrive(&json!({})).await;
    let results = tokio::join!(stage.finish(&arrived), stage.finish(&arrived));
    assert_eq!(results, (Ok(stage.user()), Err(Error::CodeRefused)));
    assert_eq!(results.1.unwrap_err().class(), Class::Unauthorized);
}

#[tokio::test]
async fn a_code_is_good_for_a_minute() {
    for (age, expected) in [(59, None), (60, Some(Error::CodeRefused))] {
        let stage = Stage::new().await;
        let arrived = stage.arrive(&json!({})).await;
        stage.hands.forward(age);
        assert_eq!(stage.finish(&arrived).await.err(), expected, "after {age} s");
    }
}

#[tokio::test]
async fn a_code_of_another_login_is_refused_by_its_verifier_and_else_by_its_nonce() {
    let stage = Stage::new().await;
    let (mine, stolen) = (stage.arrive(&json!({})).await, stage.arrive(&json!({})).await);
    let (verifier, nonce) = (&mine.started.verifier, &mine.started.nonce);
    let result = stage.party.finish_login(&stolen.code(), verifier, nonce).await;
    assert_eq!(result, Err(Error::CodeRefused));
    let stolen = stage.arrive(&json!({})).await;
    let result = stage.party.finish_login(&stolen.code(), &stolen.started.verifier, nonce).await;
    assert_eq!(result, Err(Error::IdToken(crate::http::oidc::Refusal::Nonce)));
}
