//! Redis dies, stands still and comes back; replicas share it; what lies in it is no credential.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use kube_bind_backend::http::sessions::{
    Class, Config, Error, KeyRing, RedisConfig, Scope, Sessions, Store, StoreError,
};
use redis::AsyncCommands as _;

use super::server::Server;
use super::{Hands, hash, login, redis as store, session, suite, text};

async fn plain_client(server: &Server) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(err @ StoreError::Unavailable { .. }) => {
            assert!(err.is_transient());
            err.to_string()
        }
        other => panic!("it is {other:?}"),
    }
}

#[tokio::test]
async fn while_redis_is_dead_errors_are_transient_and_afterwards_the_same_store_works() {
    let mut server = Server::plain().await;
    let store = store(server.config(), &Hands::new());
    let kept = hash();
    store.add_session(kept, &session()).await.unwrap();
    assert_eq!(store.session(kept).await, Ok(Some(session())));
    server.kill();
    for _ in 0..3 {
        unavailable(store.session(kept).await);
        unavailable(store.take_login(kept).await.map(text));
        unavailable(store.add_session(kept, &session()).await);
        unavailable(store.check().await);
    }
    server.run().await.unwrap();
    assert_eq!(store.session(kept).await, Ok(None), "this Redis keeps nothing on disk");
    assert_eq!(store.add_session(kept, &session()).await, Ok(()));
    assert_eq!(store.session(kept).await, Ok(Some(session())));
}

#[tokio::test]
async fn a_restart_between_two_commands_costs_no_error() {
    let mut server = Server::plain().await;
    let store = store(server.config(), &Hands::new());
    store.check().await.unwrap();
    server.kill();
    server.run().await.unwrap();
    // The end of the connection was seen meanwhile, so nothing is sent into it.
    assert_eq!(store.check().await, Ok(()));
}

#[tokio::test]
async fn a_redis_that_stands_still_costs_a_bounded_wait_for_however_many_ask() {
    let server = Server::plain().await;
    let hands = Hands::new();
    for connected in [true, false] {
        let store = Arc::new(store(server.config(), &hands));
        if connected {
            store.check().await.unwrap();
        }
        server.signal("STOP");
        let began = Instant::now();
        let tasks = (0..50).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { unavailable(store.session(hash()).await) })
        });
        for said in futures::future::join_all(tasks).await {
            let said = said.unwrap();
            assert!(said.contains("within 2 s") || said.contains("broke"), "{said}");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        server.signal("CONT");
        assert_eq!(store.check().await, Ok(()));
    }
}

#[tokio::test]
async fn one_of_fifty_takers_at_fifty_replicas_wins() {
    let server = Server::plain().await;
    let hands = Hands::new();
    let replicas: Vec<_> = (0..50).map(|_| Arc::new(store(server.config(), &hands))).collect();
    for _ in 0..10 {
        let hash = hash();
        replicas[0].add_login(hash, &login()).await.unwrap();
        assert_eq!(suite::winners(|number| Arc::clone(&replicas[number]), hash).await, 1);
    }
}

#[tokio::test]
async fn keys_have_the_prefix_and_a_time_to_live() {
    let server = Server::plain().await;
    let hands = Hands::new();
    let config = RedisConfig { prefix: "mine:".to_owned(), ..server.config() };
    let store = store(config, &hands);
    let (of_login, of_session) = (hash(), hash());
    hands.forward(100);
    store.add_login(of_login, &login()).await.unwrap();
    store.add_session(of_session, &session()).await.unwrap();
    let mut client = plain_client(&server).await;
    let mut keys: Vec<String> = client.keys("*").await.unwrap();
    keys.sort();
    let expected = [format!("mine:login:{of_login}"), format!("mine:session:{of_session}")];
    assert_eq!(keys, expected);
    for (key, seconds) in keys.iter().zip([500, 3500]) {
        let left: i64 = client.ttl(key).await.unwrap();
        assert!((seconds - 10..=seconds).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn an_entry_of_another_version_counts_as_absent() {
    let server = Server::plain().await;
    let store = store(server.config(), &Hands::new());
    let hash = hash();
    let mut client = plain_client(&server).await;
    for value in ["", "{}", "null", "\u{0}", "[1"] {
        let _: () = client.set(format!("kube-bind:session:{hash}"), value).await.unwrap();
        assert_eq!(store.session(hash).await, Ok(None), "{value}");
    }
    let _: () = client.del(format!("kube-bind:session:{hash}")).await.unwrap();
    let _: () = client.lpush(format!("kube-bind:session:{hash}"), "secret").await.unwrap();
    let said = unavailable(store.session(hash).await);
    assert!(said.contains("WRONGTYPE") && !said.contains("secret"), "{said}");
    assert_eq!(store.check().await, Ok(()));
}

/// The sessions of a replica, and the tokens' key that replicas share.
fn replica(server: &Server, hands: &Hands, pem: &str) -> Sessions {
    let config = Config {
        external_url: "https://backend.example.com/".parse().unwrap(),
        lifetime: Duration::from_hours(1),
    };
    let keys = KeyRing::from_pem(pem.as_bytes()).unwrap();
    let store: Store = store(server.config(), hands);
    Sessions::new(&config, store, keys, hands.clock())
}

fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, value.parse().unwrap())])
}

#[tokio::test]
async fn a_login_that_begins_at_one_replica_ends_at_another_and_redis_has_no_credential() {
    use secrecy::{ExposeSecret as _, SecretString};
    let mut server = Server::plain().await;
    let hands = Hands::new();
    let pem = include_str!("../../src/http/sessions/tests/p256-pkcs8.pem");
    let (one, other) = (replica(&server, &hands, pem), replica(&server, &hands, pem));
    let handle = kube_bind_backend::http::sessions::Handle::generate().unwrap();
    let state = SecretString::from(handle.expose().as_str());
    let set = one.begin_login(&HeaderMap::new(), &state, login().login).await.unwrap();
    let browser = set.to_str().unwrap().split(';').next().unwrap().to_owned();
    let stored = dump(&server).await;
    let headers_of_browser = headers(http::header::COOKIE, &browser);
    other.take_login(&headers_of_browser, state.expose_secret()).await.unwrap();

    let granted = other.create_session(session().user).await.unwrap();
    let cookie = other.cookie(&granted).unwrap();
    let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    let token = other.token(&granted).unwrap().token;
    let stored = stored + &dump(&server).await;
    for secret in [state.expose_secret(), &browser, &cookie, token.expose_secret()] {
        let value = secret.rsplit('=').next().unwrap();
        assert!(!stored.contains(value), "{stored}");
    }
    let by_cookie = headers(http::header::COOKIE, &cookie);
    let by_token =
        headers(http::header::AUTHORIZATION, &format!("Bearer {}", token.expose_secret()));
    for shown in [&by_cookie, &by_token] {
        let found = one.authenticate(shown, Scope::Cluster("2qk1x")).await.unwrap();
        assert_eq!(found.session, session());
    }
    one.logout(&by_cookie, Some("2qk1x")).await.unwrap();
    for shown in [&by_cookie, &by_token] {
        let found = other.authenticate(shown, Scope::Cluster("2qk1x")).await;
        assert_eq!(found, Err(Error::SessionUnknown));
    }
    server.kill();
    for shown in [&by_cookie, &by_token] {
        let found = other.authenticate(shown, Scope::Cluster("2qk1x")).await;
        let class = found.unwrap_err().class();
        assert_eq!(class, Class::Unavailable { retry_after: Duration::from_secs(5) });
    }
    assert!(one.logout(&by_cookie, None).await.is_err(), "a logout that ended nothing is none");
}

/// All keys and values.
async fn dump(server: &Server) -> String {
    let mut client = plain_client(server).await;
    let keys: Vec<String> = client.keys("*").await.unwrap();
    let mut all = String::new();
    for key in keys {
        let value: String = client.get(&key).await.unwrap();
        all = [all, key, value].join("\n");
    }
    assert!(all.contains("2qk1x"), "{all}");
    all
}
