//! What every store does.

use std::sync::Arc;

use kube_bind_backend::http::sessions::{Store, StoreError};
use serde_json::Value;

use super::{Hands, hash, login, session, text};

/// The whole suite, each part on a store of its own making.
pub(crate) async fn all(hands: &Hands, store: impl Fn() -> Store) {
    what_was_added_is_there(&store()).await;
    a_login_is_taken_once(&store()).await;
    a_session_is_read_until_it_ends(&store()).await;
    nothing_is_overwritten(&store()).await;
    logins_and_sessions_do_not_mix(&store()).await;
    one_of_fifty_takers_wins(&Arc::new(store())).await;
    what_has_expired_is_gone(hands, &store()).await;
}

async fn what_was_added_is_there(store: &Store) {
    assert_eq!(store.check().await, Ok(()));
    let (one, other) = (hash(), hash());
    store.add_login(one, &login()).await.unwrap();
    store.add_session(one, &session()).await.unwrap();
    assert_eq!(store.session(one).await, Ok(Some(session())));
    assert_eq!(store.session(other).await, Ok(None));
    assert_eq!(store.end_session(other).await, Ok(None));
    assert_eq!(text(store.take_login(other).await.unwrap()), Value::Null);
    assert_eq!(text(store.take_login(one).await.unwrap()), text(Some(login())));
}

async fn a_login_is_taken_once(store: &Store) {
    let hash = hash();
    store.add_login(hash, &login()).await.unwrap();
    assert_eq!(text(store.take_login(hash).await.unwrap()), text(Some(login())));
    assert_eq!(text(store.take_login(hash).await.unwrap()), Value::Null);
}

async fn a_session_is_read_until_it_ends(store: &Store) {
    let (one, other) = (hash(), hash());
    store.add_session(one, &session()).await.unwrap();
    store.add_session(other, &session()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.session(one).await, Ok(Some(session())));
    }
    assert_eq!(store.end_session(one).await, Ok(Some(session())));
    assert_eq!(store.session(one).await, Ok(None));
    assert_eq!(store.end_session(one).await, Ok(None));
    assert_eq!(store.session(other).await, Ok(Some(session())));
}

async fn nothing_is_overwritten(store: &Store) {
    let hash = hash();
    let mut other = session();
    "bob".clone_into(&mut other.user.subject);
    store.add_session(hash, &session()).await.unwrap();
    assert_eq!(store.add_session(hash, &other).await, Err(StoreError::Taken));
    assert_eq!(store.session(hash).await, Ok(Some(session())));
    store.add_login(hash, &login()).await.unwrap();
    assert_eq!(store.add_login(hash, &login()).await, Err(StoreError::Taken));
}

async fn logins_and_sessions_do_not_mix(store: &Store) {
    let (of_login, of_session) = (hash(), hash());
    store.add_login(of_login, &login()).await.unwrap();
    store.add_session(of_session, &session()).await.unwrap();
    assert_eq!(store.session(of_login).await, Ok(None));
    assert_eq!(text(store.take_login(of_session).await.unwrap()), Value::Null);
}

async fn one_of_fifty_takers_wins(store: &Arc<Store>) {
    let hash = hash();
    store.add_login(hash, &login()).await.unwrap();
    assert_eq!(winners(|_| Arc::clone(store), hash).await, 1);
}

/// How many of fifty tasks get a login, each with the store that it is given.
pub(crate) async fn winners(
    store: impl Fn(usize) -> Arc<Store>,
    hash: kube_bind_backend::http::sessions::HandleHash,
) -> usize {
    let tasks = (0..50).map(|number| {
        let store = store(number);
        tokio::spawn(async move { store.take_login(hash).await.unwrap().is_some() })
    });
    let won = futures::future::join_all(tasks).await;
    won.into_iter().filter(|won| *won.as_ref().unwrap()).count()
}

async fn what_has_expired_is_gone(hands: &Hands, store: &Store) {
    let (early, late) = (hash(), hash());
    store.add_login(early, &login()).await.unwrap();
    store.add_login(late, &login()).await.unwrap();
    store.add_session(early, &session()).await.unwrap();
    hands.forward(599);
    assert_eq!(text(store.take_login(early).await.unwrap()), text(Some(login())));
    hands.forward(1);
    assert_eq!(text(store.take_login(late).await.unwrap()), Value::Null);
    hands.forward(2999);
    assert_eq!(store.session(early).await, Ok(Some(session())));
    hands.forward(1);
    assert_eq!(store.session(early).await, Ok(None));
    assert_eq!(store.end_session(early).await, Ok(None));
    hands.forward(-3600);
}
