//! How the relying party asks.

use std::sync::Mutex;

use axum::Json;
use axum::routing::{MethodRouter, get as route, post};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::*;

/// A description of an issuer at [`ISSUER`].
pub(super) fn description() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": format!("{ISSUER}/authorize?tenant=a"),
        "token_endpoint": format!("{ISSUER}/token"),
        "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// An issuer that says this of itself, with this token endpoint.
pub(super) fn described(description: Value, token: MethodRouter) -> Router {
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)}]});
    Router::new()
        .route("/oidc/.well-known/openid-configuration", route(|| async { Json(description) }))
        .route("/oidc/.well-known/jwks.json", route(|| async { Json(keys) }))
        .route("/oidc/token", token)
}

fn config() -> Config {
    Config::new(ISSUER.to_owned(), "client".to_owned(), CALLBACK.parse().unwrap())
}

async fn party(issuer: Router, config: Config) -> RelyingParty {
    let party = RelyingParty::in_process(config, issuer, Hands::new().clock()).unwrap();
    make_ready(&party).await;
    party
}

/// What becomes of a code at this token endpoint.
pub(super) async fn at_token_endpoint(
    token: MethodRouter,
    change: impl FnOnce(&mut Config),
) -> Result<Identity, Error> {
    let mut config = config();
    change(&mut config);
    let party = party(described(description(), token), config).await;
    let verifier = SecretString::from("the-verifier");
    party.finish_login(&SecretString::from("the code&"), &verifier, "nonce").await
}

#[tokio::test]
async fn the_browser_is_sent_with_everything_that_binds_the_answer_to_this_login() {
    let party = party(described(description(), post(|| async {})), config()).await;
    let (one, two) = (party.start_login().unwrap(), party.start_login().unwrap());
    assert_ne!(one.state.expose_secret(), two.state.expose_secret());
    assert_ne!(one.nonce, two.nonce);
    assert_ne!(one.verifier.expose_secret(), two.verifier.expose_secret());
    assert_eq!(one.verifier.expose_secret().len(), 43);
    let url = &one.authorize_url;
    assert_eq!(url.as_str().split('?').next(), Some(&*format!("{ISSUER}/authorize")));
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let challenge = super::super::challenge(one.verifier.expose_secret());
    let expected = [
        ("tenant", "a"),
        ("response_type", "code"),
        ("client_id", "client"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid profile email offline_access groups"),
        ("state", one.state.expose_secret()),
        ("nonce", one.nonce.as_str()),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(query, expected);
}

#[test]
fn the_code_challenge_is_that_of_the_standard() {
    // RFC 7636, appendix B.
    let challenge = super::super::challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[tokio::test]
async fn the_client_proves_itself_as_the_issuer_wants_it() {
    let form = "grant_type=authorization_code&code=the+code%26\
                &redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2Fapi%2Fcallback\
                &code_verifier=the-verifier";
    let secret = Some(SecretString::from("a:b c"));
    // "client:a%3Ab+c", each half form-encoded.
    let basic = Some("Basic Y2xpZW50OmElM0FiK2M=".to_owned());
    let in_form = format!("{form}&client_id=client&client_secret=a%3Ab+c");
    for (methods, secret, expected) in [
        (None, secret.clone(), (basic.clone(), form.to_owned())),
        (
            Some(json!(["client_secret_post", "client_secret_basic"])),
            secret.clone(),
            (basic.clone(), form.to_owned()),
        ),
        (Some(json!(["client_secret_post"])), secret.clone(), (None, in_form)),
        (Some(json!(["private_key_jwt"])), secret, (basic, form.to_owned())),
        (Some(json!(["none"])), None, (None, format!("{form}&client_id=client"))),
    ] {
        let seen = Arc::new(Mutex::new(None));
        let recorder = Arc::clone(&seen);
        let token = post(move |headers: HeaderMap, body: String| {
            let authorization =
                headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
            *recorder.lock().unwrap() = Some((authorization, body));
            async { (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))) }
        });
        let mut description = description();
        if let Some(methods) = &methods {
            description["token_endpoint_auth_methods_supported"] = methods.clone();
        }
        let config = Config { client_secret: secret, ..config() };
        let party = party(described(description, token), config).await;
        let verifier = SecretString::from("the-verifier");
        let code = SecretString::from("the code&");
        assert_eq!(party.finish_login(&code, &verifier, "n").await, Err(Error::CodeRefused));
        assert_eq!(*seen.lock().unwrap(), Some(expected), "{methods:?}");
    }
}

#[tokio::test]
async fn the_answer_of_another_issuer_is_refused_before_its_code_is_used() {
    for (declared, given, right) in [
        (true, Some(ISSUER), true),
        (true, None, false),
        (true, Some("http://127.0.0.1:8080/oidc/"), false),
        (true, Some(""), false),
        (false, None, true),
        (false, Some(ISSUER), true),
        (false, Some("https://evil"), false),
    ] {
        let mut description = description();
        description["authorization_response_iss_parameter_supported"] = json!(declared);
        let party = party(described(description, post(|| async {})), config()).await;
        let expected = if right { Ok(()) } else { Err(Error::IssuerParameter) };
        assert_eq!(party.check_issuer_parameter(given), expected, "{declared} {given:?}");
    }
    assert_eq!(Error::IssuerParameter.class().status(), StatusCode::BAD_REQUEST);
}
