//! The stores of sessions: the same tests on the one in memory and on a real Redis, and what only
//! happens to Redis: TLS and passwords, a server that dies, replicas that want the same login.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly, their helpers too")]

mod outage;
mod server;
mod suite;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use kube_bind_backend::http::sessions::{
    ClientType, Clock, Handle, HandleHash, Login, LoginState, Memory, Redis, RedisConfig, Session,
    Store, User,
};

use server::Server;

/// When the tests begin.
const START: i64 = 1_800_000_000;

/// A clock that the test sets.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    fn clock(&self) -> Clock {
        let hands = self.clone();
        Arc::new(move || at(hands.0.load(Ordering::SeqCst)))
    }

    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn hash() -> HandleHash {
    Handle::generate().unwrap().hash()
}

fn login() -> LoginState {
    let login = Login {
        nonce: "the nonce".into(),
        verifier: "the verifier".into(),
        redirect_url: "http://127.0.0.1:40123/callback".to_owned(),
        correlation: "ABC".to_owned(),
        cluster: "2qk1x".to_owned(),
        consumer: "consumer".to_owned(),
        client: ClientType::Ui,
    };
    LoginState { login, created: at(START), expires: at(START + 600) }
}

fn session() -> Session {
    let user = User {
        issuer: "https://id.example.com".to_owned(),
        subject: "ann".to_owned(),
        username: "ann@example.com".to_owned(),
        groups: vec!["dev".to_owned(), "\u{fc}\"\n".to_owned()],
        cluster: "2qk1x".to_owned(),
        admitted: true,
        correlation: "ABC".to_owned(),
    };
    Session { user, created: at(START), expires: at(START + 3600) }
}

/// Secrets have no `==`; what is stored of them does.
fn text(login: Option<LoginState>) -> serde_json::Value {
    serde_json::to_value(login).unwrap()
}

fn redis(config: RedisConfig, hands: &Hands) -> Store {
    Store::Redis(Redis::new(config, hands.clock()).unwrap())
}

#[tokio::test]
async fn the_store_in_memory_does_what_a_store_does() {
    let hands = Hands::new();
    suite::all(&hands, || Store::Memory(Memory::new(hands.clock()))).await;
}

#[tokio::test]
async fn the_store_in_redis_does_what_a_store_does() {
    let server = Server::plain().await;
    let hands = Hands::new();
    suite::all(&hands, || redis(server.config(), &hands)).await;
}
