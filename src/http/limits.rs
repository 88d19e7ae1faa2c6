//! How often one address or user may ask: token buckets in bounded memory (security.md row 20).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;

/// Whom a bucket belongs to. Small, whatever the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// An IPv4 address, or the /64 that one IPv6 site has.
    Ip(IpAddr),
    /// A hash of issuer and subject.
    User([u8; 32]),
}

impl Key {
    /// The bucket of an address.
    #[must_use]
    pub fn ip(address: IpAddr) -> Self {
        Self::Ip(site(address))
    }

    /// The bucket of a user.
    #[must_use]
    pub fn user(issuer: &str, subject: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        // With its length in front no issuer can end in the start of a subject.
        context.update(&issuer.len().to_be_bytes());
        context.update(issuer.as_bytes());
        context.update(subject.as_bytes());
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self::User(hash)
    }
}

/// The address itself, or the /64 of an IPv6 address: a site has that many at least.
pub(super) fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How many requests at once, and how long until one more is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests that a full bucket allows.
    pub burst: NonZeroU32,
    /// Time in which one comes back.
    pub every: Duration,
}

/// One bucket per key, all of one rate. At most `most` are kept: where a new one has no room, the one
/// asked for longest ago is forgotten, which makes it full.
pub struct Buckets {
    rate: Rate,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buckets: HashMap<Key, Bucket>,
    /// Keys by the turn in which they were asked for last.
    order: BTreeMap<u64, Key>,
    turn: u64,
}

struct Bucket {
    /// When the bucket is full again.
    full_at: Instant,
    turn: u64,
}

impl Buckets {
    /// Full buckets for everyone. `most` below one means one.
    #[must_use]
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most: most.max(1), state: Mutex::default() }
    }

    /// Takes one token. If there is none: the seconds until there is one, for `Retry-After`.
    pub fn take(&self, key: Key, now: Instant) -> Result<(), NonZeroU32> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(now);
        let mut full_at = state.remove(&key).map_or(now, |bucket| bucket.full_at.max(now));
        let window = self.rate.every * self.rate.burst.get();
        let wanted = full_at + self.rate.every;
        let wait = wanted.duration_since(now).saturating_sub(window);
        if wait.is_zero() {
            full_at = wanted;
        }
        while state.buckets.len() >= self.most {
            state.forget_oldest();
        }
        state.insert(key, full_at);
        if wait.is_zero() {
            return Ok(());
        }
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Err(NonZeroU32::new(u32::try_from(seconds).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN))
    }

    /// How many buckets are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).buckets.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// A full bucket says the same as none. Those asked for longest ago come first, so that each is
    /// looked at about once.
    fn sweep(&mut self, now: Instant) {
        while let Some(oldest) = self.order.first_entry() {
            let key = *oldest.get();
            if self.buckets.get(&key).is_some_and(|bucket| bucket.full_at > now) {
                return;
            }
            oldest.remove();
            self.buckets.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Bucket> {
        let bucket = self.buckets.remove(key)?;
        self.order.remove(&bucket.turn);
        Some(bucket)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.buckets.remove(&key);
        }
    }

    fn insert(&mut self, key: Key, full_at: Instant) {
        self.turn += 1;
        self.order.insert(self.turn, key);
        self.buckets.insert(key, Bucket { full_at, turn: self.turn });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(burst: u32, every: u64) -> Rate {
        Rate { burst: NonZeroU32::new(burst).unwrap(), every: Duration::from_secs(every) }
    }

    fn ip(last: u8) -> Key {
        Key::ip(IpAddr::from([192, 0, 2, last]))
    }

    fn wait(seconds: u32) -> Result<(), NonZeroU32> {
        Err(NonZeroU32::new(seconds).unwrap())
    }

    #[test]
    fn a_burst_is_allowed_and_then_one_at_a_time() {
        let buckets = Buckets::new(rate(3, 10), 8);
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let asked = [0.0, 0.0, 1.0, 1.0, 9.5, 10.0, 10.0, 100.0, 100.0, 100.0, 100.0];
        let answers = asked.map(|seconds| buckets.take(ip(1), at(seconds)));
        let ok = Ok(());
        assert_eq!(
            answers,
            [ok, ok, ok, wait(9), wait(1), ok, wait(10), ok, ok, ok, wait(10)],
            "{asked:?}"
        );
        assert_eq!(buckets.take(ip(2), at(100.0)), Ok(()));
    }

    #[test]
    fn what_is_kept_is_bounded_and_full_buckets_are_swept() {
        let buckets = Buckets::new(rate(1, 60), 2);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        assert_eq!(buckets.take(ip(1), now), Ok(()));
        assert_eq!(buckets.take(ip(2), now), Ok(()));
        // Asking keeps a bucket in memory, so who hammers is not forgotten.
        assert_eq!(buckets.take(ip(1), later), wait(59));
        assert_eq!(buckets.take(ip(3), later), Ok(()));
        assert_eq!(buckets.take(ip(1), later), wait(59));
        assert_eq!(buckets.take(ip(2), later), Ok(()));
        assert_eq!(buckets.len(), 2);
        assert_eq!(buckets.take(ip(4), now + Duration::from_mins(2)), Ok(()));
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn a_hundred_thousand_addresses_take_no_more_room_than_the_bound() {
        let buckets = Buckets::new(rate(1, 60), 1000);
        let now = Instant::now();
        for address in 0..100_000_u32 {
            assert_eq!(buckets.take(Key::ip(IpAddr::from(address.to_be_bytes())), now), Ok(()));
        }
        let state = buckets.state.lock().unwrap();
        assert_eq!((state.buckets.len(), state.order.len()), (1000, 1000));
    }

    #[test]
    fn an_ipv6_site_and_a_user_each_have_one_bucket() {
        let ip = |text: &str| Key::ip(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
        assert_eq!(Key::user("a", "b"), Key::user("a", "b"));
        assert_ne!(Key::user("ab", "c"), Key::user("a", "bc"));
    }
}
