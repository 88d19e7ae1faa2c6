//! The store in this process.
//!
//! Logins and sessions have a bound each, in bytes. Anybody can begin logins, so when there is no more
//! room the oldest is given up: whoever wants to keep others from logging in has to begin thousands in
//! the seconds that a login takes. A session takes a user of the issuer, and none of them ends because
//! others come: when there is no more room, new ones are refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::super::Clock;
use super::super::handle::HandleHash;
use super::super::types::{LoginState, Session};
use super::{Record, StoreError};

/// Bytes of logins under way: some six thousand.
const LOGINS: usize = 6 * 1024 * 1024;

/// Bytes of sessions: some fifty thousand with a few groups each.
const SESSIONS: usize = 64 * 1024 * 1024;

/// What an entry takes besides its text, in bytes: the value, its places in both indexes, what an
/// allocation adds.
const OVERHEAD: usize = 768;

/// The store in this process.
pub struct Memory {
    clock: Clock,
    tables: Mutex<Tables>,
}

struct Tables {
    logins: Table<LoginState>,
    sessions: Table<Session>,
}

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::with_bounds(clock, LOGINS, SESSIONS)
    }

    /// One with room for as many logins and sessions of these sizes, and no more.
    #[cfg(test)]
    pub(in super::super) fn with_room(
        clock: Clock,
        (logins, login): (usize, &LoginState),
        (sessions, session): (usize, &Session),
    ) -> Self {
        Self::with_bounds(clock, logins * weight(login), sessions * weight(session))
    }

    /// One with these bounds, in bytes.
    fn with_bounds(clock: Clock, logins: usize, sessions: usize) -> Self {
        let tables = Tables { logins: Table::new(logins), sessions: Table::new(sessions) };
        Self { clock, tables: Mutex::new(tables) }
    }

    pub(super) fn add_login(&self, hash: HandleHash, login: &LoginState) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if !tables.logins.room(login, (self.clock)()) {
            tables.logins.make_room(login);
        }
        tables.logins.add(hash, login)
    }

    pub(super) fn take_login(&self, hash: HandleHash) -> Option<LoginState> {
        self.tables().logins.take(hash, (self.clock)())
    }

    pub(super) fn add_session(
        &self,
        hash: HandleHash,
        session: &Session,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if !tables.sessions.room(session, (self.clock)()) {
            return Err(StoreError::Full);
        }
        tables.sessions.add(hash, session)
    }

    pub(super) fn session(&self, hash: HandleHash) -> Option<Session> {
        self.tables().sessions.get(hash, (self.clock)())
    }

    pub(super) fn end_session(&self, hash: HandleHash) -> Option<Session> {
        self.tables().sessions.take(hash, (self.clock)())
    }

    /// How many logins and sessions there are, expired ones too.
    #[cfg(test)]
    pub(in super::super) fn len(&self) -> (usize, usize) {
        let tables = self.tables();
        (tables.logins.entries.len(), tables.sessions.entries.len())
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Nothing under the lock can panic half-way.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries of one kind, with a bound.
struct Table<T> {
    entries: HashMap<HandleHash, T>,
    /// The same, first that ends first.
    by_expiry: BTreeSet<(Timestamp, HandleHash)>,
    /// What the entries take.
    used: usize,
    /// What they may take.
    bound: usize,
}

impl<T: Record> Table<T> {
    fn new(bound: usize) -> Self {
        Self { entries: HashMap::new(), by_expiry: BTreeSet::new(), used: 0, bound }
    }

    /// Whether one more fits, when all that has expired is gone. The sweep is here and not in a task
    /// of its own: what is added pays for what goes, and what is not read takes no more than the bound.
    fn room(&mut self, record: &T, now: Timestamp) -> bool {
        while let Some((expires, hash)) = self.by_expiry.first().copied()
            && expires <= now
        {
            self.remove(hash);
        }
        self.used + weight(record) <= self.bound
    }

    /// Gives up those that end first, until one more fits.
    fn make_room(&mut self, record: &T) {
        while self.used + weight(record) > self.bound
            && let Some((_, hash)) = self.by_expiry.first().copied()
        {
            self.remove(hash);
        }
    }

    fn add(&mut self, hash: HandleHash, record: &T) -> Result<(), StoreError> {
        if self.entries.contains_key(&hash) {
            return Err(StoreError::Taken);
        }
        self.used += weight(record);
        self.by_expiry.insert((record.expires(), hash));
        self.entries.insert(hash, record.clone());
        Ok(())
    }

    fn get(&self, hash: HandleHash, now: Timestamp) -> Option<T> {
        self.entries.get(&hash).filter(|record| now < record.expires()).cloned()
    }

    fn take(&mut self, hash: HandleHash, now: Timestamp) -> Option<T> {
        self.remove(hash).filter(|record| now < record.expires())
    }

    fn remove(&mut self, hash: HandleHash) -> Option<T> {
        let record = self.entries.remove(&hash)?;
        self.by_expiry.remove(&(record.expires(), hash));
        self.used -= weight(&record);
        Some(record)
    }
}

/// What a record takes, in bytes.
fn weight<T: Record>(record: &T) -> usize {
    OVERHEAD + record.text()
}
