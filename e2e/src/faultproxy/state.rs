//! What a proxy knows: its rules, what it has seen, and whether it is cut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;
use tokio::sync::{oneshot, watch};

use super::view::View;

/// Resolves with the request that a rule struck; an error if the rule was taken back.
pub type Strike = oneshot::Receiver<Logged>;

/// On which side of its effect a request is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It does not reach the server.
    Before,
    /// The server has carried it out; its answer is lost.
    After,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is lost, and with it every connection, until the proxy is reset. No later request reaches the server.
    Cut(Side),
    /// It is answered with this status code instead of forwarded; 429 carries `Retry-After: 1`.
    Answer(u16),
    /// It is never answered nor forwarded; its client has to give up.
    Hang,
}

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// `GET`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// Status code of the answer; none while there is none, or if none was given.
    pub code: Option<u16>,
}

impl Logged {
    /// Whether the server's state could change by it. Access reviews are created, but change nothing.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.method != Method::GET && !self.path.contains("/apis/authorization.k8s.io/")
    }
}

/// The requests, one a line, for a message.
#[must_use]
pub fn listing(requests: &[Logged]) -> String {
    let line = |request: &Logged| {
        let code = request.code.map_or_else(|| "no answer".to_owned(), |code| code.to_string());
        format!("  {} {} -> {code}\n", request.method, request.path)
    };
    requests.iter().map(line).collect()
}

/// Shared by the handle and the connections.
#[derive(Debug, Default)]
pub(super) struct State {
    inner: Mutex<Inner>,
    /// Counts what closes connections; a connection watches it.
    pub(super) cuts: watch::Sender<Cuts>,
    pub(super) view: Arc<View>,
}

/// How often connections were closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cuts {
    pub(super) all: u64,
    pub(super) watches: u64,
}

#[derive(Debug, Default)]
struct Inner {
    log: Vec<Logged>,
    rules: Vec<Rule>,
    gate: Gate,
    /// The watches that were opened, by path.
    watches: BTreeMap<String, Watching>,
}

/// How it stands with a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watching {
    /// It was opened.
    Open,
    /// It is to be told at its next opening that its version is forgotten.
    Expired,
    /// It was told so, and is expected to list and to open again.
    Told,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// The request to be lost after its effect is under way: nothing that comes later may be carried out.
    Closing,
    /// New connections are refused.
    Cut,
}

#[derive(Debug)]
struct Rule {
    within: String,
    /// Counts down to the request that is struck.
    left: usize,
    fault: Fault,
    told: oneshot::Sender<Logged>,
}

/// What to do with a request that has arrived. The number is its place in the log.
#[derive(Debug)]
pub(super) enum Verdict {
    Forward(usize),
    /// The cut is done already.
    Lose,
    ForwardAndCut(usize, oneshot::Sender<Logged>),
    Answer(u16),
    /// To be told that its version is forgotten.
    Expire,
}

impl State {
    pub(super) fn arm(&self, within: &str, nth: usize, fault: Fault) -> Strike {
        let (told, strike) = oneshot::channel();
        let rule = Rule { within: within.to_owned(), left: nth, fault, told };
        self.with(|inner| inner.rules.push(rule));
        strike
    }

    pub(super) fn reset(&self) {
        self.with(|inner| {
            inner.rules.clear();
            inner.gate = Gate::Open;
        });
    }

    pub(super) fn cut_watches(&self) {
        self.cuts.send_modify(|cuts| cuts.watches += 1);
    }

    /// Forgets the versions of the watches whose path contains `within`, and ends them.
    pub(super) fn expire(&self, within: &str) {
        self.with(|inner| {
            let meant = inner.watches.iter_mut().filter(|(path, _)| path.contains(within));
            meant.for_each(|(_, watching)| *watching = Watching::Expired);
        });
        self.cut_watches();
    }

    /// Whether they have all been opened again; else those that were not.
    pub(super) fn renewed(&self, within: &str) -> Result<(), String> {
        let late = self.with(|inner| {
            let meant = inner.watches.iter().filter(|(path, _)| path.contains(within));
            let late = meant.filter(|(_, watching)| **watching != Watching::Open);
            late.map(|(path, watching)| format!("{path}: {watching:?}")).collect::<Vec<_>>()
        });
        if late.is_empty() { Ok(()) } else { Err(late.join(", ")) }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.with(|inner| inner.gate == Gate::Cut)
    }

    pub(super) fn log(&self, within: &str) -> Vec<Logged> {
        self.with(|inner| {
            inner.log.iter().filter(|request| request.path.contains(within)).cloned().collect()
        })
    }

    /// Notes a request, which may be a watch, and says what is to happen to it.
    pub(super) fn arrive(&self, method: Method, path: String, watch: bool) -> Verdict {
        let hidden = self.view.hides(&path);
        self.with(|inner| {
            if inner.gate != Gate::Open {
                return Verdict::Lose;
            }
            let index = inner.log.len();
            let request = Logged { method, path, code: hidden.then_some(404) };
            let rule = request.is_write().then(|| inner.count(&request.path)).flatten();
            inner.log.push(request.clone());
            if hidden {
                return Verdict::Answer(404);
            }
            if watch && inner.expires(request.path) {
                return Verdict::Expire;
            }
            let Some(Rule { fault, told, .. }) = rule else { return Verdict::Forward(index) };
            if fault == Fault::Cut(Side::After) {
                inner.gate = Gate::Closing;
                return Verdict::ForwardAndCut(index, told);
            }
            if let Fault::Answer(code) = fault {
                inner.log[index].code = Some(code);
            }
            if fault == Fault::Cut(Side::Before) {
                self.cut(inner);
            }
            // Nobody listens if the test is not interested.
            let _ = told.send(inner.log[index].clone());
            match fault {
                Fault::Answer(code) => Verdict::Answer(code),
                Fault::Cut(_) | Fault::Hang => Verdict::Lose,
            }
        })
    }

    /// Notes the status code of an answer.
    pub(super) fn answered(&self, index: usize, code: u16) {
        self.with(|inner| inner.log[index].code = Some(code));
    }

    /// The request to be lost after its effect has been answered, or has failed.
    pub(super) fn carried_out(&self, index: usize, told: oneshot::Sender<Logged>) {
        self.with(|inner| {
            self.cut(inner);
            let _ = told.send(inner.log[index].clone());
        });
    }

    fn cut(&self, inner: &mut Inner) {
        inner.gate = Gate::Cut;
        self.cuts.send_modify(|cuts| cuts.all += 1);
    }

    fn with<T>(&self, with: impl FnOnce(&mut Inner) -> T) -> T {
        with(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// Notes that a watch is to be opened; whether it is to be told that its version is forgotten.
    fn expires(&mut self, path: String) -> bool {
        let watching = self.watches.entry(path).or_insert(Watching::Open);
        let expires = *watching == Watching::Expired;
        *watching = if expires { Watching::Told } else { Watching::Open };
        expires
    }

    /// Counts a mutating request; gives the rule that strikes it.
    fn count(&mut self, path: &str) -> Option<Rule> {
        let meant = |rule: &Rule| path.contains(&rule.within);
        for rule in self.rules.iter_mut().filter(|rule| meant(rule)) {
            rule.left = rule.left.saturating_sub(1);
        }
        let struck = self.rules.iter().position(|rule| rule.left == 0 && meant(rule))?;
        Some(self.rules.swap_remove(struck))
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::Hidden;
    use super::*;

    fn post(state: &State, path: &str) -> Verdict {
        state.arrive(Method::POST, path.to_owned(), false)
    }

    #[test]
    fn only_mutating_requests_within_the_given_part_are_counted() {
        let state = State::default();
        let mut strike = state.arm("/clusters/a/", 2, Fault::Answer(409));
        let review = "/clusters/a/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert!(matches!(post(&state, "/clusters/a/x"), Verdict::Forward(0)));
        assert!(matches!(post(&state, "/clusters/b/x"), Verdict::Forward(1)));
        assert!(matches!(post(&state, review), Verdict::Forward(2)));
        let get = state.arrive(Method::GET, "/clusters/a/x".to_owned(), false);
        assert!(matches!(get, Verdict::Forward(3)));
        assert!(strike.try_recv().is_err());
        assert!(matches!(post(&state, "/clusters/a/y"), Verdict::Answer(409)));
        let struck = strike.try_recv().unwrap();
        assert_eq!(listing(&[struck]), "  POST /clusters/a/y -> 409\n");
        assert!(matches!(post(&state, "/clusters/a/z"), Verdict::Forward(5)));
    }

    #[test]
    fn nothing_is_forwarded_between_the_last_request_and_the_reset() {
        let state = State::default();
        let mut strike = state.arm("", 1, Fault::Cut(Side::After));
        let Verdict::ForwardAndCut(index, told) = post(&state, "/a") else { panic!("not struck") };
        assert!(matches!(post(&state, "/b"), Verdict::Lose));
        assert!(!state.is_cut());
        state.answered(index, 201);
        state.carried_out(index, told);
        assert_eq!(strike.try_recv().unwrap().code, Some(201));
        assert!(state.is_cut());
        assert!(matches!(post(&state, "/c"), Verdict::Lose));
        state.reset();
        assert!(matches!(post(&state, "/d"), Verdict::Forward(1)));
    }

    #[test]
    fn a_watch_that_expired_is_told_so_once_and_is_renewed_when_it_is_opened_again() {
        let state = State::default();
        let open = |path: &str| {
            let verdict = state.arrive(Method::GET, path.to_owned(), true);
            matches!(verdict, Verdict::Expire)
        };
        assert!(!open("/a/x") && !open("/b/x"));
        assert_eq!(state.renewed("/x"), Ok(()));
        state.expire("/a/");
        assert_eq!(state.renewed("/x"), Err("/a/x: Expired".to_owned()));
        assert!(!open("/b/x") && open("/a/x"));
        assert_eq!(state.renewed("/x"), Err("/a/x: Told".to_owned()));
        assert!(!open("/a/x"));
        assert_eq!(state.renewed("/x"), Ok(()));
    }

    #[test]
    fn nothing_is_forwarded_to_a_hidden_cluster() {
        let state = State::default();
        state.view.hide("a", Some(Hidden::All));
        assert!(matches!(post(&state, "/clusters/a/x"), Verdict::Answer(404)));
        assert!(matches!(post(&state, "/clusters/b/x"), Verdict::Forward(1)));
        assert_eq!(state.log("/a/")[0].code, Some(404));
    }
}
