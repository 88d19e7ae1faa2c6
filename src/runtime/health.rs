//! The health of an endpoint, known from the answers to its own requests.
//!
//! Silence proves nothing: a watch without events is as silent as a server that hangs. A watch works once its own
//! request was answered, and until then it owes an answer since the request was sent. What fails through an endpoint is
//! asked again in turns ([`Turns`]), so that a server that is away gets one request after the other and not one of each
//! kind, and the first answer lets all others ask at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use http::{Request, Uri};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Error;
use tokio::sync::watch;
use tokio::time::Instant;

/// An answer that is owed for less counts for nothing.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// The same is not said again for so long.
const SAID: Duration = Duration::from_mins(1);
/// More different texts are not said of one trouble.
const TEXTS: usize = 8;
/// A request that is older when others are answered again is sent anew.
const OVERTAKEN: Duration = Duration::from_secs(1);
/// A version that is forgotten once in so long is nothing to wait for.
const EXPIRY: Duration = Duration::from_secs(30);

/// What the watches of an endpoint were not answered, by kind.
#[derive(Debug, Default)]
pub(super) struct Health {
    owed: BTreeMap<&'static str, Owed>,
    said: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Owed {
    /// When the first request was sent that has no answer.
    since: Instant,
    /// What became of the last one; none while it is under way.
    why: Option<String>,
}

impl Health {
    /// Notes that a request was sent.
    pub(super) fn asks(&mut self, kind: &'static str, now: Instant) {
        self.owed.entry(kind).or_insert(Owed { since: now, why: None });
    }

    /// Notes that a request or what it began has failed; whether that is worth saying.
    pub(super) fn failed(&mut self, kind: &'static str, why: &str, now: Instant) -> bool {
        let lasts = self.owed.values().any(|owed| owed.why.as_deref() == Some(why));
        self.owed.entry(kind).or_insert(Owed { since: now, why: None }).why = Some(why.to_owned());
        self.said.retain(|_, at| now - *at < SAID);
        let new = !lasts && !self.said.contains_key(why) && self.said.len() < TEXTS;
        if new {
            self.said.insert(why.to_owned(), now);
        }
        new
    }

    /// Notes that a request was answered as it should be; whether it had failed or was late.
    pub(super) fn answered(&mut self, kind: &'static str, now: Instant) -> bool {
        self.owed.remove(kind).is_some_and(|owed| owed.why.is_some() || is_late(&owed, now))
    }

    /// Whether a watch has failed and was not answered since.
    pub(super) fn fails(&self) -> bool {
        self.owed.values().any(|owed| owed.why.is_some())
    }

    /// Whether a watch has not worked for a while.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        self.owed.values().any(|owed| is_late(owed, now))
    }

    /// The kinds that fail or are late, and why, for people.
    pub(super) fn trouble(&self, now: Instant) -> (Vec<&'static str>, Option<String>) {
        let bad = |owed: &Owed| owed.why.is_some() || is_late(owed, now);
        let bad: Vec<_> = self.owed.iter().filter(|(_, owed)| bad(owed)).collect();
        let why = bad.iter().find_map(|(_, owed)| owed.why.clone());
        let why = why.or_else(|| (!bad.is_empty()).then(|| "it does not answer".to_owned()));
        (bad.into_iter().map(|(kind, _)| *kind).collect(), why)
    }
}

fn is_late(owed: &Owed, now: Instant) -> bool {
    now - owed.since > GRACE
}

/// When what failed through an endpoint is asked again.
pub(crate) struct Turns {
    turn: tokio::sync::Mutex<()>,
    pauses: Mutex<ExponentialBackoff>,
    back: watch::Sender<()>,
}

impl Default for Turns {
    fn default() -> Self {
        let (back, _) = watch::channel(());
        Self { turn: tokio::sync::Mutex::default(), pauses: Mutex::new(turns()), back }
    }
}

/// About one request a second through an endpoint that is away: its workspaces are to be served again within two.
fn turns() -> ExponentialBackoff {
    backoff(Duration::from_millis(200), Duration::from_millis(700))
}

/// Pauses that double up to a longest one; each is up to twice as long by chance.
pub(super) fn backoff(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Turns {
    /// Waits for a turn to ask again, or until somebody else was answered.
    pub(crate) async fn next(&self) {
        let turn = async {
            let _turn = self.turn.lock().await;
            let pause = self.pauses.lock().unwrap_or_else(PoisonError::into_inner).next();
            tokio::time::sleep(pause.unwrap_or(OVERTAKEN)).await;
        };
        let mut back = self.back.subscribe();
        tokio::select! {
            _ = back.changed() => {}
            () = turn => {}
        }
    }

    /// Waits for so long, or until somebody else was answered.
    pub(crate) async fn pause(&self, pause: Duration) {
        let mut back = self.back.subscribe();
        tokio::select! {
            _ = back.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Lets all ask at once, since one was answered that was not before.
    pub(crate) fn back(&self) {
        *self.pauses.lock().unwrap_or_else(PoisonError::into_inner) = turns();
        self.back.send_replace(());
    }
}

/// Wants to know of the requests of a watch.
pub(crate) trait Observer: Send + Sync + 'static {
    /// A list or watch is asked for.
    fn asks(&self);
    /// A watch was answered, and events may follow. That a list was, its objects tell.
    fn answered(&self);
}

/// Other requests are answered again, and this one is not: it is to be sent anew, perhaps on a connection that works.
#[derive(Debug, thiserror::Error)]
#[error("no answer, while others are answered again")]
struct Overtaken;

/// Whether a request has to be sent anew without anything being wrong.
pub(crate) fn is_overtaken(err: &Error) -> bool {
    match err {
        Error::InitialListFailed(kube::Error::Service(err))
        | Error::WatchStartFailed(kube::Error::Service(err)) => err.is::<Overtaken>(),
        _ => false,
    }
}

/// A client for a watch whose requests are observed.
pub(crate) fn observed(
    client: Client,
    turns: &Arc<Turns>,
    observer: &Arc<impl Observer>,
) -> Client {
    let (turns, observer) = (Arc::clone(turns), Arc::clone(observer));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, turns, observer) = (client.clone(), Arc::clone(&turns), Arc::clone(&observer));
        async move {
            let watches = is_watch(request.uri());
            let mut back = turns.back.subscribe();
            observer.asks();
            let overtaken = async {
                tokio::time::sleep(OVERTAKEN).await;
                // Only where it was sent before; the endpoint lives as long as its watches.
                let _ = back.changed().await;
            };
            let answer = tokio::select! {
                answer = client.send(request) => answer.map_err(tower::BoxError::from)?,
                () = overtaken => return Err(tower::BoxError::from(Overtaken)),
            };
            if watches && answer.status().is_success() {
                observer.answered();
            }
            Ok(answer)
        }
    });
    Client::new(service, "default")
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// Whether the server has forgotten the version that a list or watch went on from: a new list follows, and nothing is
/// wrong.
pub(crate) fn is_expired(err: &Error) -> bool {
    match err {
        Error::WatchError(status)
        | Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// Versions of a watch that the server has forgotten.
#[derive(Default)]
pub(crate) struct Expiries {
    last: Option<Instant>,
    in_a_row: u32,
}

impl Expiries {
    /// How long to wait before the next list: not at all, unless one has only just been made. Without chance, so that
    /// kinds whose versions are forgotten together are listed together: until then they do not fit each other.
    pub(crate) fn next(&mut self) -> Duration {
        let now = Instant::now();
        let again = self.last.is_some_and(|last| now - last < EXPIRY);
        self.in_a_row = if again { self.in_a_row.saturating_add(1) } else { 0 };
        let pause = match self.in_a_row {
            0 => Duration::ZERO,
            row => Duration::from_millis(100).saturating_mul(1 << (row - 1).min(16)).min(EXPIRY),
        };
        self.last = Some(now + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_owed_from_the_first_request_that_got_none() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::default();
        health.asks("Cluster", at(0));
        assert!(!health.is_away(at(10)) && health.is_away(at(11)));
        assert_eq!(health.trouble(at(9)), (vec![], None));
        let silent = (vec!["Cluster"], Some("it does not answer".to_owned()));
        assert_eq!(health.trouble(at(11)), silent);
        assert!(!health.fails());

        assert!(health.failed("Cluster", "refused", at(11)));
        health.asks("Cluster", at(12));
        health.asks("Secret", at(12));
        assert!(health.fails() && health.is_away(at(12)));
        let refused = (vec!["Cluster"], Some("refused".to_owned()));
        assert_eq!(health.trouble(at(12)), refused);
        assert!(health.answered("Cluster", at(13)));
        assert!(!health.fails() && !health.is_away(at(13)));
        assert!(!health.answered("Secret", at(13)), "in time");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_a_minute_whatever_happens_between() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::default();
        let mut said = Vec::new();
        for second in 0..=60 {
            let text = if second % 2 == 0 { "refused" } else { "no answer" };
            if health.failed("Cluster", text, at(second)) {
                said.push((second, text));
            }
            health.answered("Cluster", at(second));
        }
        assert_eq!(said, [(0, "refused"), (1, "no answer"), (60, "refused")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_away_is_asked_about_once_a_second_and_its_first_answer_wakes_all()
    {
        let turns = Arc::new(Turns::default());
        let asked = Arc::new(Mutex::new(0));
        let kinds: Vec<_> = (0..17)
            .map(|_| {
                let (turns, asked) = (Arc::clone(&turns), Arc::clone(&asked));
                tokio::spawn(async move {
                    loop {
                        turns.next().await;
                        *asked.lock().unwrap() += 1;
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_mins(1)).await;
        let during = std::mem::take(&mut *asked.lock().unwrap());
        assert!((40..=90).contains(&during), "{during}");
        turns.back();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*asked.lock().unwrap(), 17);
        kinds.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_is_forgotten_again_and_again_is_not_asked_for_at_once() {
        let mut expiries = Expiries::default();
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let pause = expiries.next();
            pauses.push(pause.as_millis());
            tokio::time::advance(pause).await;
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800]);
        tokio::time::advance(EXPIRY).await;
        assert_eq!(expiries.next(), Duration::ZERO);
    }
}
