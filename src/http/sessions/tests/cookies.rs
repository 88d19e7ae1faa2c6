//! Names and attributes of cookies, and which of a request's cookies counts.

use super::*;

#[tokio::test]
async fn over_tls_a_session_has_a_strict_cookie_for_this_host_alone() {
    let stage = Stage::new();
    for (cluster, name) in [("", "__Host-kube-bind"), ("2qk1x", "__Host-kube-bind-2qk1x")] {
        let granted = stage.granted(cluster).await;
        let cookie = stage.sessions.cookie(&granted).unwrap();
        assert!(cookie.is_sensitive());
        let text = cookie.to_str().unwrap();
        let (pair, attributes) = text.split_once("; ").unwrap();
        let (have, value) = pair.split_once('=').unwrap();
        assert_eq!((have, value.len()), (name, 43));
        assert_eq!(attributes, "Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Strict");
    }
}

#[tokio::test]
async fn without_tls_browsers_could_not_keep_the_prefix_so_it_is_not_there() {
    let stage = Stage::at("http://127.0.0.1:8080/", KeyRing::generate().unwrap());
    for (cluster, name) in [("", "kube-bind"), ("2qk1x", "kube-bind-2qk1x")] {
        let granted = stage.granted(cluster).await;
        let cookie = stage.sessions.cookie(&granted).unwrap();
        let (pair, attributes) = cookie.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(pair.split_once('=').unwrap().0, name);
        assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Strict");
    }
}

#[tokio::test]
async fn bad_input_24_a_cookie_without_the_prefix_counts_for_nothing_over_tls() {
    let stage = Stage::new();
    let plain = stage.cookie("").await.replace("__Host-", "");
    assert_eq!(stage.credential(&with_cookies(&[&plain])).await, Err(Error::NoCredential));
}

#[tokio::test]
async fn a_cookie_lasts_as_long_as_what_is_left_of_its_session() {
    let stage = Stage::new();
    let granted = stage.granted("").await;
    stage.hands.forward(3590);
    let cookie = stage.sessions.cookie(&granted).unwrap();
    assert!(cookie.to_str().unwrap().contains("; Max-Age=10;"), "{cookie:?}");
}

#[tokio::test]
async fn a_session_is_found_among_the_cookies_of_others() {
    let stage = Stage::new();
    let cookie = stage.cookie("").await;
    let among =
        format!("a=1; =; ;;x; \u{fc}=\u{fc};__Host-kube-bind.login=y;{cookie} ; kube-bind=z");
    assert_eq!(stage.credential(&with_cookies(&[&among])).await, Ok(Credential::Cookie));
    let apart = with_cookies(&["a=1", &cookie, "__Host-kube-bindx=1"]);
    assert_eq!(stage.credential(&apart).await, Ok(Credential::Cookie));
}

#[tokio::test]
async fn a_cookie_that_is_there_twice_is_refused() {
    let stage = Stage::new();
    let (one, other) = (stage.cookie("").await, stage.cookie("").await);
    let twice = Err(Error::ManyCookies("__Host-kube-bind".to_owned()));
    for cookies in [
        with_cookies(&[&format!("{one}; {other}")]),
        with_cookies(&[&one, &other]),
        with_cookies(&[&one, &one]),
        with_cookies(&["__Host-kube-bind=", &one]),
    ] {
        assert_eq!(stage.credential(&cookies).await, twice);
    }
}

#[tokio::test]
async fn a_cookie_that_is_not_a_handle_of_a_session_is_no_session() {
    let stage = Stage::new();
    let good = stage.cookie("").await;
    let value = good.split_once('=').unwrap().1;
    let cut = &value[..42];
    for (value, expected) in [
        (String::new(), Error::Cookie),
        (format!("\"{value}\""), Error::Cookie),
        (format!("{value}="), Error::Cookie),
        (format!("{cut}%"), Error::Cookie),
        // The last character has two bits that mean nothing; they must be 0.
        (format!("{}B", "A".repeat(42)), Error::Cookie),
        (cut.to_owned(), Error::Cookie),
        ("A".repeat(43), Error::SessionUnknown),
    ] {
        let headers = with_cookies(&[&format!("__Host-kube-bind={value}")]);
        assert_eq!(stage.credential(&headers).await, Err(expected), "{value}");
    }
    let hash = Handle::parse(value.as_bytes()).unwrap().hash();
    let headers = with_cookies(&[&format!("__Host-kube-bind={hash}")]);
    assert_eq!(
        stage.credential(&headers).await,
        Err(Error::SessionUnknown),
        "what the store shows"
    );
}

#[tokio::test]
async fn bad_input_23_more_cookies_than_are_read_are_refused() {
    let stage = Stage::new();
    let cookie = stage.cookie("").await;
    let filler = |bytes: usize| format!("{cookie}; x={}", "y".repeat(bytes - cookie.len() - 4));
    let most = with_cookies(&[&filler(16 * 1024)]);
    assert_eq!(stage.credential(&most).await, Ok(Credential::Cookie));
    let more = with_cookies(&[&filler(16 * 1024 + 1)]);
    assert_eq!(stage.credential(&more).await, Err(Error::CookiesTooLarge(16 * 1024)));
    let split = with_cookies(&[&filler(16 * 1024), "x"]);
    assert_eq!(stage.credential(&split).await, Err(Error::CookiesTooLarge(16 * 1024)));
}

async fn found(stage: &Stage, cookies: &[&str], scope: Scope<'_>) -> Result<String, Error> {
    let found = stage.sessions.authenticate(&with_cookies(cookies), scope).await?;
    Ok(found.session.user.cluster)
}

#[tokio::test]
async fn a_request_has_the_session_of_the_cluster_that_it_names() {
    let stage = Stage::new();
    let (own, a, b) = (stage.cookie("").await, stage.cookie("a").await, stage.cookie("b").await);
    let all = [own.as_str(), a.as_str(), b.as_str()];
    for cluster in ["", "a", "b"] {
        let cluster_of = found(&stage, &all, Scope::Cluster(cluster)).await;
        assert_eq!(cluster_of.as_deref(), Ok(cluster));
    }
    for (cookies, cluster) in [(&all[..], "c"), (&all[1..], ""), (&all[..1], "a")] {
        assert_eq!(found(&stage, cookies, Scope::Cluster(cluster)).await, Err(Error::NoCredential));
    }
}

#[tokio::test]
async fn a_page_that_leaves_out_the_cluster_has_the_only_session_of_the_browser() {
    let stage = Stage::new();
    let (own, a, b) = (stage.cookie("").await, stage.cookie("a").await, stage.cookie("b").await);
    let name = |cookie: &str| cookie.split_once('=').unwrap().0.to_owned();
    for (cookies, expected) in [
        (vec![&own], Ok(String::new())),
        (vec![&a], Ok("a".to_owned())),
        (vec![&own, &a, &b], Ok(String::new())),
        (vec![&a, &b], Err(Error::WhichCluster)),
        (vec![&a, &a], Err(Error::ManyCookies(name(&a)))),
        (vec![], Err(Error::NoCredential)),
    ] {
        let cookies: Vec<&str> = cookies.into_iter().map(String::as_str).collect();
        assert_eq!(found(&stage, &cookies, Scope::Only).await, expected, "{cookies:?}");
    }
    // Names that no cluster's cookie has.
    let others =
        ["__Host-kube-bind-=x", "__Host-kube-bind-\u{fc}=x", "__Host-kube-bind.login=x", &a];
    assert_eq!(found(&stage, &others, Scope::Only).await, Ok("a".to_owned()));
}

#[tokio::test]
async fn bad_input_32_a_cluster_whose_name_no_cookie_can_have_is_refused() {
    let stage = Stage::new();
    let long = "a".repeat(129);
    for cluster in ["*", "root:x", "a/../b", "%2e", "a;b", "a=b", "a b", "a\r\nb", "\u{fc}", &long]
    {
        let created = stage.sessions.create_session(user(cluster)).await.map(|_| ());
        assert_eq!(created, Err(Error::ClusterName), "{cluster}");
        let found = found(&stage, &[], Scope::Cluster(cluster)).await;
        assert_eq!(found, Err(Error::ClusterName), "{cluster}");
    }
    assert!(stage.sessions.create_session(user(&"a".repeat(128))).await.is_ok());
}
