//! What is known while one cluster is reconciled: what was read of its schemas, and whether reading goes on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Error;
use super::marks::Facts;
use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::fleet::Cluster;

/// How many reads may fail for one binding before its others wait for the next round.
const FAILURES: usize = 8;

/// Why nothing is known of the schema of a bound resource.
pub(super) enum Unresolved {
    /// It could not be read; without a reason where that was not tried. What a template says of it stays.
    Unknown(Option<Error>),
    /// It is not to be offered.
    Refused(Error),
}

impl<E: Into<Error>> From<E> for Unresolved {
    fn from(err: E) -> Self {
        Self::Unknown(Some(err.into()))
    }
}

/// What is known of a bound schema that carries no marks of ours.
#[derive(Default)]
struct Known {
    /// What it says.
    facts: Option<Facts>,
    /// The UID of a schema of its name that somebody else labelled, and whether the two are equal.
    compared: Option<(String, bool)>,
    /// It could not be read: it waits for those that can.
    failed: bool,
    /// It is still bound.
    used: bool,
}

/// What else a failure keeps from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shut {
    /// The schemas that other workspaces have.
    Others,
    /// All schemas.
    All,
}

/// One reconcile of a cluster.
#[derive(Default)]
pub(super) struct Round {
    /// By the UID of the schema that is bound.
    known: HashMap<String, Known>,
    /// What failed would fail for all.
    shut: Option<Shut>,
    /// Of the binding that is looked at.
    failures: usize,
    looked_for_roles: bool,
}

impl Round {
    /// Begins with another binding: what failed for one keeps no other.
    pub(super) fn next_binding(&mut self) {
        self.failures = 0;
    }

    /// An error where nothing more is asked in this round.
    pub(super) fn may_ask(&self) -> Result<(), Unresolved> {
        self.may_read_but(Shut::All)
    }

    /// An error where no more schemas of other workspaces are read in this round.
    pub(super) fn may_read_of_others(&self) -> Result<(), Unresolved> {
        self.may_read_but(Shut::Others)
    }

    fn may_read_but(&self, shut: Shut) -> Result<(), Unresolved> {
        if self.shut >= Some(shut) || self.failures >= FAILURES {
            return Err(Unresolved::Unknown(None));
        }
        Ok(())
    }

    /// Whether this is the first time that somebody asks.
    pub(super) fn first_look_for_roles(&mut self) -> bool {
        !std::mem::replace(&mut self.looked_for_roles, true)
    }

    /// What a schema says that was read before.
    pub(super) fn facts(&self, source: &str) -> Option<Facts> {
        self.known.get(source)?.facts.clone()
    }

    /// Notes what a schema says.
    pub(super) fn remember(&mut self, source: &str, facts: &Facts) {
        self.of(source).facts = Some(facts.clone());
    }

    /// Whether a schema equals the one of its name with this UID, as far as that is known.
    pub(super) fn compared(&self, source: &str, uid: &str) -> Option<bool> {
        let (known, same) = self.known.get(source)?.compared.as_ref()?;
        (known == uid).then_some(*same)
    }

    /// Notes whether it does.
    pub(super) fn compare(&mut self, source: &str, uid: &str, same: bool) {
        self.of(source).compared = Some((uid.to_owned(), same));
    }

    /// Forgets a schema, of which its marks tell from now on.
    pub(super) fn forget(&mut self, source: &str) {
        self.known.remove(source);
    }

    /// Whether a schema could not be read in the last round.
    pub(super) fn has_failed(&self, source: &str) -> bool {
        self.known.get(source).is_some_and(|known| known.failed)
    }

    /// Notes how the look at a bound schema ended.
    pub(super) fn note(&mut self, source: &str, failure: Option<&Error>) {
        if let Some(failure) = failure {
            self.failures += 1;
            self.shut = self.shut.max(failure.shuts());
            self.of(source).failed = true;
        } else if let Some(known) = self.known.get_mut(source) {
            (known.failed, known.used) = (false, true);
        }
    }

    /// Notes that a schema was not looked at, and may be in the next round.
    pub(super) fn skip(&mut self, source: &str) {
        if let Some(known) = self.known.get_mut(source) {
            known.used = true;
        }
    }

    fn of(&mut self, source: &str) -> &mut Known {
        let known = self.known.entry(source.to_owned()).or_default();
        known.used = true;
        known
    }
}

/// What is kept of each cluster from one round to the next: nothing where all is marked.
#[derive(Clone, Default)]
pub(super) struct Remembered(Arc<Mutex<HashMap<ClusterId, Kept>>>);

struct Kept {
    /// A cluster that is served no more by this endpoint comes back as a new one.
    through: Weak<Endpoint>,
    known: HashMap<String, Known>,
}

impl Remembered {
    fn kept(&self) -> MutexGuard<'_, HashMap<ClusterId, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a round.
    pub(super) fn begin(&self, cluster: &ClusterId) -> Round {
        let known = self.kept().remove(cluster).map_or_else(HashMap::new, |kept| kept.known);
        let known = known.into_iter().map(|(uid, known)| (uid, Known { used: false, ..known }));
        Round { known: known.collect(), ..Round::default() }
    }

    /// Ends a round. What is no longer bound is forgotten.
    pub(super) fn end(&self, cluster: &Cluster, round: Round) {
        let mut known = round.known;
        known.retain(|_, known| known.used);
        if known.is_empty() {
            return;
        }
        let mut all = self.kept();
        if all.len() == all.capacity() {
            all.retain(|_, kept| kept.through.strong_count() > 0);
        }
        all.insert(cluster.id.clone(), Kept { through: Arc::downgrade(&cluster.endpoint), known });
    }

    /// Forgets a cluster.
    pub(super) fn forget(&self, cluster: &ClusterId) {
        self.kept().remove(cluster);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::v1alpha2::Scope;
    use crate::runtime::cluster::ObjKey;
    use crate::runtime::error::{Action, CallError, Cause};
    use crate::runtime::fleet::ClusterInfo;
    use crate::runtime::test_support::cluster_with;

    fn missing() -> Error {
        Error::SchemaMissing { name: "v1.cowboys.wildwest.dev".to_owned() }
    }

    fn timeout() -> Error {
        let cluster = cluster_with(ClusterInfo::default()).id;
        let key = ObjKey::new(&cluster, "", "v1.cowboys.wildwest.dev");
        let (action, cause) = (Action::Get, Cause::Timeout(Duration::from_secs(30)));
        CallError { action, kind: "APIResourceSchema".to_owned(), key, cause }.into()
    }

    #[test]
    fn reading_for_a_binding_ends_after_some_failures_and_goes_on_for_the_next() {
        let mut round = Round::default();
        for _ in 1..FAILURES {
            round.note("uid", Some(&missing()));
            assert!(round.may_ask().is_ok() && round.may_read_of_others().is_ok());
        }
        round.note("uid", Some(&missing()));
        assert!(round.may_ask().is_err() && round.may_read_of_others().is_err());
        round.next_binding();
        assert!(round.may_ask().is_ok() && round.may_read_of_others().is_ok());
    }

    #[tokio::test]
    async fn what_would_fail_for_all_is_asked_once() {
        let mut round = Round::default();
        let hidden = Error::Hidden { name: "any".to_owned(), why: "no".to_owned() };
        round.note("uid", Some(&hidden));
        round.next_binding();
        assert!(round.may_ask().is_ok() && round.may_read_of_others().is_err());
        round.note("uid", Some(&timeout()));
        round.note("uid", Some(&hidden));
        round.next_binding();
        assert!(round.may_ask().is_err() && round.may_read_of_others().is_err());
    }

    #[tokio::test]
    async fn what_was_read_is_kept_for_as_long_as_it_is_bound() {
        let cluster = cluster_with(ClusterInfo::default());
        let memory = Remembered::default();
        let facts = Facts { scope: Scope::Namespaced, versions: vec!["v1".to_owned()] };
        let mut round = memory.begin(&cluster.id);
        round.remember("a", &facts);
        round.compare("b", "other", false);
        round.note("c", Some(&missing()));
        memory.end(&cluster, round);

        let mut round = memory.begin(&cluster.id);
        assert_eq!(round.facts("a"), Some(facts));
        assert_eq!(
            (round.compared("b", "other"), round.compared("b", "next")),
            (Some(false), None)
        );
        assert!(round.has_failed("c") && !round.has_failed("a"));
        round.note("a", None);
        round.forget("b");
        memory.end(&cluster, round);

        let round = memory.begin(&cluster.id);
        assert_eq!(round.known.keys().collect::<Vec<_>>(), ["a"]);
        memory.end(&cluster, round);
        assert_eq!(memory.kept().len(), 0);
    }
}
