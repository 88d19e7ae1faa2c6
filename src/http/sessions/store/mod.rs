//! Where logins under way and sessions are kept.
//!
//! Both stores do the same, and the same tests run on both: nothing that has expired is ever given
//! out, a login is given out once, and nothing is overwritten.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::handle::HandleHash;
use super::types::{LoginState, Session};

mod memory;
mod redis;

pub use memory::Memory;
pub use redis::{Redis, RedisConfig, RedisConfigError, RedisTls};

/// A store that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The store cannot be reached, or gives no usable answer. It may have done what was asked.
    #[error("the session store cannot be used: {problem}; try again in a moment")]
    Unavailable {
        /// What the attempt met.
        problem: String,
    },
    /// There is room for no more sessions, and none of those that are there ends for another.
    #[error("there are too many sessions; try again when some have ended")]
    Full,
    /// The name is taken: a handle of 256 random bits came up twice.
    #[error("a new session has the name of another one; try again")]
    Taken,
}

impl StoreError {
    /// Whether the same may go well later without anybody's help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Full => true,
            // The next handle is another one.
            Self::Taken => false,
        }
    }
}

/// What can be kept.
trait Record: Clone + Serialize + DeserializeOwned {
    /// What it is called in a key.
    const KIND: &'static str;

    /// When it ends.
    fn expires(&self) -> Timestamp;

    /// The bytes of text in it.
    fn text(&self) -> usize;
}

impl Record for LoginState {
    const KIND: &'static str = "login";

    fn expires(&self) -> Timestamp {
        self.expires
    }

    fn text(&self) -> usize {
        use secrecy::ExposeSecret as _;
        let login = &self.login;
        let secrets = login.nonce.expose_secret().len() + login.verifier.expose_secret().len();
        secrets + login.text()
    }
}

impl Record for Session {
    const KIND: &'static str = "session";

    fn expires(&self) -> Timestamp {
        self.expires
    }

    fn text(&self) -> usize {
        let user = &self.user;
        let texts = [&user.issuer, &user.subject, &user.username, &user.cluster, &user.correlation];
        // A name in a list costs its place in the list too.
        let groups = user.groups.iter().map(|group| group.len() + size_of::<String>());
        texts.into_iter().map(String::len).chain(groups).sum()
    }
}

/// Where logins under way and sessions are kept.
pub enum Store {
    /// In this process: gone when it ends, and not seen by other replicas.
    Memory(Memory),
    /// In Redis.
    Redis(Redis),
}

impl Store {
    /// Keeps a login.
    pub async fn add_login(&self, hash: HandleHash, login: &LoginState) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.add_login(hash, login),
            Self::Redis(redis) => redis.add(hash, login).await,
        }
    }

    /// Takes a login out: of all who ask, at all replicas, one gets it.
    pub async fn take_login(&self, hash: HandleHash) -> Result<Option<LoginState>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.take_login(hash)),
            Self::Redis(redis) => redis.take(hash).await,
        }
    }

    /// Keeps a session.
    pub async fn add_session(&self, hash: HandleHash, session: &Session) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.add_session(hash, session),
            Self::Redis(redis) => redis.add(hash, session).await,
        }
    }

    /// A session that has not ended.
    pub async fn session(&self, hash: HandleHash) -> Result<Option<Session>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.session(hash)),
            Self::Redis(redis) => redis.get(hash).await,
        }
    }

    /// Ends a session, and says which it was.
    pub async fn end_session(&self, hash: HandleHash) -> Result<Option<Session>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.end_session(hash)),
            Self::Redis(redis) => redis.take(hash).await,
        }
    }

    /// Whether the store can be used now.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => redis.check().await,
        }
    }
}
