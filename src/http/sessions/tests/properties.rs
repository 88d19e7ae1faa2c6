//! Whatever a client sends, reading it ends with a verdict, and no credential comes of nothing.

use futures::executor::block_on;
use proptest::prelude::*;

use super::*;

/// Few by default; `PROPTEST_CASES` raises it.
fn cases() -> ProptestConfig {
    let set = std::env::var_os("PROPTEST_CASES").is_some();
    if set { ProptestConfig::default() } else { ProptestConfig::with_cases(128) }
}

/// Any bytes that a header can have.
fn header_value() -> impl Strategy<Value = HeaderValue> {
    let byte = prop_oneof![9 => b' '..=b'~', 1 => Just(b'\t'), 2 => 0x80..=0xff_u8];
    prop::collection::vec(byte, 0..300).prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
}

/// Cookies as an attacker writes them: our names, and almost our names.
fn cookie() -> impl Strategy<Value = HeaderValue> {
    let name = prop_oneof![
        Just("__Host-kube-bind".to_owned()),
        Just("__Host-kube-bind.login".to_owned()),
        "__Host-kube-bind-[a-z;=.]{0,3}",
        "[ -~]{0,20}",
    ];
    let value = prop_oneof!["[A-Za-z0-9_-]{43}", "[ -~]{0,50}"];
    prop::collection::vec((name, value), 0..6).prop_map(|pairs| {
        let pairs: Vec<String> =
            pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        HeaderValue::from_str(&pairs.join("; ")).unwrap()
    })
}

/// No session, no login, and a logout that ends nothing.
fn nobody(site: &Stage, headers: &HeaderMap) -> Result<(), TestCaseError> {
    let state = logins::state();
    for scope in [Scope::Cluster(""), Scope::Cluster("a"), Scope::Only] {
        prop_assert!(block_on(site.sessions.authenticate(headers, scope)).is_err());
    }
    prop_assert!(block_on(site.sessions.take_login(headers, state.expose_secret())).is_err());
    for cluster in [None, Some("a")] {
        let out = block_on(site.sessions.logout(headers, cluster));
        let out = out.map_err(|err| TestCaseError::fail(err.to_string()))?;
        prop_assert!(out.ended.is_empty());
        for cookie in out.set_cookies {
            let text = String::from_utf8(cookie.as_bytes().to_vec()).unwrap();
            prop_assert!(text.starts_with("__Host-kube-bind"));
            prop_assert!(text.ends_with("=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_cookies_are_nobody(cookies in prop::collection::vec(prop_oneof![cookie(), header_value()], 0..4)) {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, cookie);
        }
        let site = Stage::new();
        block_on(site.granted(""));
        nobody(&site, &headers)?;
    }

    #[test]
    fn any_authorization_is_nobody(
        random in header_value(),
        token in "[Bb]earer {1,2}[A-Za-z0-9_.-]{0,200}",
    ) {
        let site = Stage::new();
        let mut headers = with_cookies(&[&block_on(site.cookie(""))]);
        for value in [random, HeaderValue::from_str(&token).unwrap()] {
            headers.insert(AUTHORIZATION, value);
            prop_assert!(block_on(site.sessions.authenticate(&headers, Scope::Only)).is_err());
        }
    }

    #[test]
    fn a_token_with_a_changed_byte_is_no_session(
        at in any::<prop::sample::Index>(),
        to in "[A-Za-z0-9_.-]",
    ) {
        let site = Stage::new();
        let good = block_on(site.token(""));
        let mut token = good.clone();
        let at = at.index(token.len());
        token.replace_range(at..=at, &to);
        let found = block_on(site.credential(&bearer(&token)));
        prop_assert_eq!(found.is_ok(), token == good);
    }

    #[test]
    fn a_handle_has_one_text_and_every_other_is_none(text in any::<Vec<u8>>(), near in "[A-Za-z0-9_=+/-]{42,44}") {
        for text in [text, near.into_bytes()] {
            if let Some(handle) = Handle::parse(&text) {
                let exposed = handle.expose();
                prop_assert_eq!(exposed.as_bytes(), text.as_slice());
                prop_assert_ne!(handle.hash().to_string().into_bytes(), text);
            }
        }
    }

    #[test]
    fn a_new_handle_is_read_back(_seed in any::<u8>()) {
        let handle = Handle::generate().unwrap();
        let read = Handle::parse(handle.expose().as_bytes()).unwrap();
        prop_assert_eq!(read.hash(), handle.hash());
        prop_assert_eq!(HandleHash::parse(&handle.hash().to_string()), Some(handle.hash()));
    }
}
