//! Logins under way, sessions, and what clients show to prove that they have one.
//!
//! | module | what it holds |
//! |---|---|
//! | `facade` | [`Sessions`], all that the routes use |
//! | `types` | what a login and a session remember |
//! | `handle` | 256 random bits that a browser holds, and the hash of them that we keep |
//! | `store` | where logins and sessions are: in this process, or in Redis |
//! | `cookies` | names and attributes of the cookies, and how they are read |
//! | `bearer` | the `Authorization` header |
//! | `keys`, `token` | the tokens of `kubectl bind` |
//!
//! A credential is only ever compared by looking up its SHA-256: what an attacker can learn from the
//! time of a lookup is about the hash, not about the credential. So nothing here compares in constant time.

use std::sync::Arc;

use jiff::Timestamp;

mod bearer;
mod cookies;
mod error;
mod facade;
mod handle;
mod keys;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod types;

pub use super::external_url::ClientType;
pub use error::{Class, Error, Refusal};
pub use facade::{Authenticated, Config, Credential, Granted, LoggedOut, Scope, Sessions};
pub use handle::{Handle, HandleHash};
pub use keys::{KeyError, KeyRing};
pub use store::{Memory, Redis, RedisConfig, RedisConfigError, RedisTls, Store, StoreError};
pub use token::CliToken;
pub use types::{Login, LoginState, Session, User};

/// Says what time it is. A parameter everywhere, so that no test has to wait.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
