//! The store that replicas share and that outlives a restart: Redis 6.2 or newer, or what speaks like it.
//!
//! Keys are `<prefix>login:<hash>` and `<prefix>session:<hash>`, values JSON. No handle is in either, so
//! whoever reads the store becomes nobody by it. Redis takes away what has expired by itself. Logins are
//! bounded by their ten minutes and by how many the server lets begin; `maxmemory-policy volatile-ttl`
//! gives up logins before sessions if the memory of Redis is short.

use std::fmt;

use http::uri::Authority;
use jiff::{SignedDuration, Timestamp};
use redis::{Cmd, FromRedisValue};
use secrecy::SecretString;
use thiserror::Error;

use self::connection::{Connector, Line};
use super::super::Clock;
use super::super::handle::HandleHash;
use super::{Record, StoreError};

mod connection;

/// What every key begins with unless configured otherwise.
const PREFIX: &str = "kube-bind:";

/// Where Redis is, and how to talk to it.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `host:port`: `--redis-addr`.
    pub address: String,
    /// Our name there, if it is not the default one.
    pub username: Option<String>,
    /// Our password there: `REDIS_PASSWORD`.
    pub password: Option<SecretString>,
    /// TLS, or none.
    pub tls: Option<RedisTls>,
    /// What every key begins with.
    pub prefix: String,
}

impl RedisConfig {
    /// With everything that has a default.
    #[must_use]
    pub fn new(address: String) -> Self {
        Self { address, username: None, password: None, tls: None, prefix: PREFIX.to_owned() }
    }
}

/// Whom to trust.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// PEM of the only CAs to trust; none for those of the system.
    pub ca: Option<Vec<u8>>,
}

/// Redis cannot be used as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RedisConfigError {
    /// The address.
    #[error("--redis-addr={0} is refused: write it as <host>:<port>")]
    Address(String),
    /// The CA for Redis.
    #[error("the CA for Redis is refused: {0}; give a PEM file with the CA of its certificate")]
    Ca(String),
    /// The CAs of the system.
    #[error(
        "no CA certificates of the system can be read: {0}; install them, or give the CA of the certificate of Redis"
    )]
    SystemRoots(String),
}

/// The store in Redis.
pub struct Redis {
    line: Line,
    prefix: String,
    clock: Clock,
}

impl Redis {
    /// One that connects when it is first asked, and again whenever the connection has broken.
    pub fn new(config: RedisConfig, clock: Clock) -> Result<Self, RedisConfigError> {
        // An address is no place for a name and a password: it is printed.
        let personal = config.address.contains('@');
        let shown = if personal { "<with a name or a password>" } else { config.address.as_str() };
        let refused = || RedisConfigError::Address(shown.to_owned());
        let authority: Authority = config.address.parse().map_err(|_| refused())?;
        let port = authority.port_u16().ok_or_else(refused)?;
        if personal || authority.host().is_empty() {
            return Err(refused());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let connector = Connector::new(host, port, &config)?;
        Ok(Self { line: Line::new(connector), prefix: config.prefix, clock })
    }

    /// Whether Redis answers.
    pub async fn check(&self) -> Result<(), StoreError> {
        let _: String = self.query(&redis::cmd("PING")).await?;
        Ok(())
    }

    pub(super) async fn add<T: Record>(
        &self,
        hash: HandleHash,
        record: &T,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_string(record).map_err(|_| unusable("it cannot be written"))?;
        let left = record.expires().duration_since((self.clock)());
        let mut command = redis::cmd("SET");
        command.arg(self.key::<T>(hash)).arg(value).arg("EX").arg(seconds(left)).arg("NX");
        match self.query::<Option<String>>(&command).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Taken),
        }
    }

    pub(super) async fn get<T: Record>(&self, hash: HandleHash) -> Result<Option<T>, StoreError> {
        self.read("GET", hash).await
    }

    pub(super) async fn take<T: Record>(&self, hash: HandleHash) -> Result<Option<T>, StoreError> {
        self.read("GETDEL", hash).await
    }

    async fn read<T: Record>(
        &self,
        command: &str,
        hash: HandleHash,
    ) -> Result<Option<T>, StoreError> {
        let mut command = redis::cmd(command);
        command.arg(self.key::<T>(hash));
        let Some(value) = self.query::<Option<Vec<u8>>>(&command).await? else { return Ok(None) };
        Ok(decode(&value, (self.clock)()))
    }

    fn key<T: Record>(&self, hash: HandleHash) -> String {
        format!("{}{}:{hash}", self.prefix, T::KIND)
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.line.query(command).await.map_err(|problem| StoreError::Unavailable { problem })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A value that has not expired. Redis counts on its own clock, and to the second.
fn decode<T: Record>(value: &[u8], now: Timestamp) -> Option<T> {
    let Ok(record) = serde_json::from_slice::<T>(value) else {
        // Another version wrote it: the user logs in again. What serde says would quote the value.
        tracing::warn!(kind = T::KIND, "an entry in Redis cannot be read and counts as absent");
        return None;
    };
    (now < record.expires()).then_some(record)
}

/// Whole seconds, not less than what is left: Redis refuses 0.
fn seconds(left: SignedDuration) -> i64 {
    let part = i64::from(left.subsec_nanos() > 0);
    left.as_secs().saturating_add(part).max(1)
}

fn unusable(problem: &str) -> StoreError {
    StoreError::Unavailable { problem: problem.to_owned() }
}
