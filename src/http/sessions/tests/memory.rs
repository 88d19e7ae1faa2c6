//! The bounds of the store in this process. What both stores do is in `tests/sessions_redis`.

use super::*;

fn login(number: i64) -> LoginState {
    let created = START + number;
    LoginState { login: logins::login(), created: at(created), expires: at(created + 600) }
}

fn hash() -> HandleHash {
    Handle::generate().unwrap().hash()
}

/// A store with room for these many logins and sessions of the tests.
fn room(clock: Clock, logins: usize, sessions: usize) -> Store {
    Store::Memory(Memory::with_room(clock, (logins, &login(0)), (sessions, &session(""))))
}

#[tokio::test]
async fn bad_input_14_abandoned_logins_are_bounded_and_end_no_session() {
    let memory = Store::Memory(Memory::new(Hands::new().clock()));
    let kept = hash();
    memory.add_session(kept, &session("")).await.unwrap();
    for _ in 0..100_000 {
        memory.add_login(hash(), &login(0)).await.unwrap();
    }
    let Store::Memory(memory) = memory else { panic!("it is in memory") };
    let (logins, sessions) = memory.len();
    assert!((1000..8192).contains(&logins), "{logins}");
    assert_eq!(sessions, 1);
    let memory = Store::Memory(memory);
    assert_eq!(memory.session(kept).await, Ok(Some(session(""))));
}

#[tokio::test]
async fn when_there_is_no_more_room_the_oldest_login_is_given_up() {
    let memory = room(Hands::new().clock(), 3, 0);
    let hashes: Vec<HandleHash> = (0..5).map(|_| hash()).collect();
    for (number, hash) in (0..).zip(&hashes) {
        memory.add_login(*hash, &login(number)).await.unwrap();
    }
    let mut there = Vec::new();
    for hash in hashes {
        there.push(memory.take_login(hash).await.unwrap().is_some());
    }
    assert_eq!(there, [false, false, true, true, true]);
}

#[tokio::test]
async fn when_there_is_no_more_room_a_session_is_refused_until_another_ends() {
    let hands = Hands::new();
    let memory = room(hands.clock(), 0, 2);
    let (first, second) = (hash(), hash());
    let longer = Session { expires: at(START + LIFETIME + 1), ..session("") };
    memory.add_session(first, &session("")).await.unwrap();
    memory.add_session(second, &longer).await.unwrap();
    assert_eq!(memory.add_session(hash(), &longer).await, Err(StoreError::Full));
    assert_eq!(memory.session(first).await, Ok(Some(session(""))), "none ended for it");
    memory.end_session(first).await.unwrap();
    memory.add_session(first, &session("")).await.unwrap();
    assert_eq!(memory.add_session(hash(), &longer).await, Err(StoreError::Full));
    hands.forward(LIFETIME);
    assert_eq!(memory.add_session(hash(), &longer).await, Ok(()), "the first has expired");
}

#[tokio::test]
async fn the_groups_of_a_user_count_too() {
    let memory = room(Hands::new().clock(), 0, 2);
    let mut large = session("");
    large.user.groups = (0..1000).map(|number| format!("group-{number}")).collect();
    assert_eq!(memory.add_session(hash(), &large).await, Err(StoreError::Full));
    assert_eq!(memory.add_session(hash(), &session("")).await, Ok(()));
}
