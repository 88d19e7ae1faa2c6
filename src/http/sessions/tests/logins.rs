//! A login from its beginning to its callback.

use super::*;

pub(super) fn login() -> Login {
    Login {
        nonce: "the nonce".into(),
        verifier: "the verifier".into(),
        redirect_url: "http://127.0.0.1:40123/callback".to_owned(),
        correlation: "ABC".to_owned(),
        cluster: "2qk1x".to_owned(),
        consumer: "consumer".to_owned(),
        client: ClientType::Cli,
    }
}

pub(super) fn state() -> SecretString {
    Handle::generate().unwrap().expose().as_str().to_owned().into()
}

/// Begins a login in a browser with these headers; gives what it sends afterwards.
async fn begin(site: &Stage, headers: &HeaderMap, state: &SecretString) -> HeaderMap {
    let cookie = site.sessions.begin_login(headers, state, login()).await.unwrap();
    with_cookies(&[&sent(&cookie)])
}

async fn take(site: &Stage, browser: &HeaderMap, state: &str) -> Result<Value, Error> {
    let taken = site.sessions.take_login(browser, state).await?;
    Ok(serde_json::to_value(taken).unwrap())
}

fn whole() -> Value {
    json!({
        "login": {
            "nonce": "the nonce",
            "verifier": "the verifier",
            "redirect_url": "http://127.0.0.1:40123/callback",
            "correlation": "ABC",
            "cluster": "2qk1x",
            "consumer": "consumer",
            "client": "cli",
        },
        "created": at(START),
        "expires": at(START + 600),
    })
}

#[tokio::test]
async fn a_login_comes_back_whole_in_the_browser_that_began_it() {
    let site = Stage::new();
    let state = state();
    let cookie = site.sessions.begin_login(&HeaderMap::new(), &state, login()).await.unwrap();
    assert!(cookie.is_sensitive());
    let (pair, attributes) = cookie.to_str().unwrap().split_once("; ").unwrap();
    assert_eq!(pair.split_once('=').unwrap().0, "__Host-kube-bind.login");
    assert_eq!(attributes, "Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax");
    site.hands.forward(599);
    let browser = with_cookies(&[pair]);
    assert_eq!(take(&site, &browser, state.expose_secret()).await, Ok(whole()));
}

#[tokio::test]
async fn bad_input_5_a_state_that_is_changed_replayed_old_or_from_another_browser_has_no_login() {
    let site = Stage::new();
    let (mine, theirs) = (state(), state());
    let me = begin(&site, &HeaderMap::new(), &mine).await;
    let them = begin(&site, &HeaderMap::new(), &theirs).await;
    let unknown = Err(Error::LoginUnknown);
    assert_eq!(take(&site, &them, mine.expose_secret()).await, unknown, "another browser");
    assert_eq!(take(&site, &me, theirs.expose_secret()).await, unknown, "another login");
    assert_eq!(take(&site, &me, state().expose_secret()).await, unknown, "no login");
    assert_eq!(take(&site, &me, mine.expose_secret()).await, Ok(whole()), "none used it up");
    assert_eq!(take(&site, &me, mine.expose_secret()).await, unknown, "replayed");
    site.hands.forward(600);
    assert_eq!(take(&site, &them, theirs.expose_secret()).await, unknown, "10 minutes old");
    let long = "x".repeat(8192);
    let padded = format!("{}=", mine.expose_secret());
    for bad in ["", "x", &long, &padded, &mine.expose_secret()[..42]] {
        assert_eq!(take(&site, &me, bad).await, Err(Error::State), "{bad}");
    }
}

#[tokio::test]
async fn bad_input_6_a_callback_without_the_cookie_of_its_login_is_refused_and_uses_nothing_up() {
    let site = Stage::new();
    let state = state();
    let browser = begin(&site, &HeaderMap::new(), &state).await;
    let session = site.cookie("").await;
    let value = session.split_once('=').unwrap().1;
    let other_name = format!("kube-bind.login={value}");
    for cookies in [vec![], vec!["__Host-kube-bind.login="], vec![&session], vec![&other_name]] {
        let taken = take(&site, &with_cookies(&cookies), state.expose_secret()).await;
        assert_eq!(taken, Err(Error::LoginCookie), "{cookies:?}");
    }
    let mut twice = browser.clone();
    twice.append(COOKIE, browser[COOKIE].clone());
    let many = Err(Error::ManyCookies("__Host-kube-bind.login".to_owned()));
    assert_eq!(take(&site, &twice, state.expose_secret()).await, many);
    assert_eq!(take(&site, &browser, state.expose_secret()).await, Ok(whole()));
}

#[tokio::test]
async fn logins_in_two_tabs_of_a_browser_both_end_well() {
    let site = Stage::new();
    let (one, other) = (state(), state());
    let browser = begin(&site, &HeaderMap::new(), &one).await;
    let later = begin(&site, &browser, &other).await;
    assert_eq!(browser, later, "the second did not replace the cookie of the first");
    assert_eq!(take(&site, &later, one.expose_secret()).await, Ok(whole()));
    assert_eq!(take(&site, &later, other.expose_secret()).await, Ok(whole()));
}

#[tokio::test]
async fn a_login_cookie_of_no_use_is_replaced() {
    let site = Stage::new();
    for cookies in [&["__Host-kube-bind.login=x"][..], &["__Host-kube-bind.login="; 2][..]] {
        let state = state();
        let browser = begin(&site, &with_cookies(cookies), &state).await;
        assert_eq!(take(&site, &browser, state.expose_secret()).await, Ok(whole()));
    }
}

#[tokio::test]
async fn a_login_that_could_not_end_well_does_not_begin() {
    let site = Stage::new();
    let begin = async |login, state: &SecretString| {
        site.sessions.begin_login(&HeaderMap::new(), state, login).await.map(|_| ())
    };
    let rest = login().text() - login().redirect_url.len();
    let long = |length: usize| Login { redirect_url: "x".repeat(length - rest), ..login() };
    assert_eq!(begin(long(1536), &state()).await, Ok(()));
    assert_eq!(begin(long(1537), &state()).await, Err(Error::LoginTooLarge(1536)));
    let nowhere = Login { cluster: "root:x".to_owned(), ..login() };
    assert_eq!(begin(nowhere, &state()).await, Err(Error::ClusterName));
    assert_eq!(begin(login(), &"chosen by the client".into()).await, Err(Error::State));
}

#[tokio::test]
async fn bad_input_16_a_state_that_is_used_in_parallel_has_one_winner() {
    let site = Arc::new(Stage::new());
    let state = state();
    let browser = begin(&site, &HeaderMap::new(), &state).await;
    let tasks = (0..50).map(|_| {
        let (site, browser, state) = (Arc::clone(&site), browser.clone(), state.clone());
        tokio::spawn(async move { take(&site, &browser, state.expose_secret()).await.is_ok() })
    });
    let won = futures::future::join_all(tasks).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
}
