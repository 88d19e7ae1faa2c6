//! What an operator is told of the endpoints.

use tokio::time::Instant;

use super::{Fleet, Running};
use crate::runtime::endpoint::EndpointId;
use crate::runtime::health::GRACE;

/// What works and what does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What keeps the process from being ready; empty if nothing does.
    pub waiting: Vec<String>,
    /// What has not worked for a while, where another endpoint does: the failure of a shard is none of the others.
    pub away: Vec<String>,
}

impl Fleet {
    /// What works and what does not, each with a name. An endpoint that is no longer published is held, but nobody
    /// need wait for it. What the provider cannot read is waited for only as long as it did not name endpoints without
    /// it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (state, now) = (self.state(), Instant::now());
        let Readiness { mut waiting, mut away } = Readiness::default();
        let mut works = false;
        for running in state.endpoints.values() {
            let is_away = running.health.is_away(now);
            works |= running.ready && !is_away;
            if running.lost_since.is_none() && (is_away || !running.ready) {
                let list = if is_away { &mut away } else { &mut waiting };
                list.push(self.missing(running, now));
            }
        }
        for unmade in state.unmade.values() {
            let why = unmade.why.iter().cloned();
            if now - unmade.since > GRACE { away.extend(why) } else { waiting.extend(why) }
        }
        if state.discovered {
            away.extend(state.unread.values().cloned());
        } else if state.unread.is_empty() {
            waiting.push("endpoints: not known yet".to_owned());
        } else {
            waiting.extend(state.unread.values().map(|why| format!("endpoints: {why}")));
        }
        if !works {
            waiting.append(&mut away);
        }
        waiting.sort();
        away.sort();
        Readiness { waiting, away }
    }

    fn missing(&self, running: &Running, now: Instant) -> String {
        let (id, url) = (running.endpoint.id(), running.endpoint.url());
        let (failing, why) = running.health.trouble(now);
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        if running.ready {
            return format!("{url}: cannot watch {}{why}", failing.join(", "));
        }
        let unread = self.sources.iter().filter(|source| !source.synced(id));
        let unread: Vec<&str> = unread.map(|source| source.name()).collect();
        format!("{url}: waiting for the first list of {}{why}", unread.join(", "))
    }

    /// Whether an endpoint has not worked for a while, so that whoever asks something of it waits in vain.
    #[must_use]
    pub fn is_away(&self, endpoint: EndpointId) -> bool {
        let state = self.state();
        state.find(endpoint).is_some_and(|running| running.health.is_away(Instant::now()))
    }
}
