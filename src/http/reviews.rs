//! Who may do what: one `SubjectAccessReview` in the cluster of the request, each time, but for a few
//! seconds after an allowing one (security.md rows 10 and 11).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};

use super::locks::Locks;
use crate::api::keys;
use crate::runtime::cluster::ClusterId;
use crate::runtime::error::CallError;
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::create_unwatched;

/// How long an allowing answer is believed. A user that is removed is refused within ten seconds
/// (bad input 18); half of that leaves time for the watch of the API server's authorizer.
const BELIEVED: Duration = Duration::from_secs(5);

/// Answers that are kept.
const KEPT: usize = 4096;

/// What is to be done with bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// See what is on offer, and one's own state.
    Catalogue,
    /// Bind the template of this name.
    Template(&'a str),
}

impl What<'_> {
    fn attributes(self) -> ResourceAttributes {
        let (resource, name) = match self {
            Self::Catalogue => ("collections", None),
            Self::Template(name) => ("apiserviceexporttemplates", Some(name.to_owned())),
        };
        ResourceAttributes {
            verb: Some("bind".to_owned()),
            group: Some(keys::GROUP.to_owned()),
            resource: Some(resource.to_owned()),
            name,
            ..ResourceAttributes::default()
        }
    }
}

type Key = [u8; 32];

/// Asks, and remembers what was allowed.
#[derive(Default)]
pub struct Reviews {
    allowed: Mutex<Allowed>,
    asking: Locks<Key>,
}

#[derive(Default)]
struct Allowed {
    until: HashMap<Key, Instant>,
    /// Oldest first, which is also who is forgotten first.
    order: VecDeque<(Instant, Key)>,
}

impl Allowed {
    fn knows(&mut self, key: &Key, now: Instant) -> bool {
        while let Some((until, old)) = self.order.front()
            && (*until <= now || self.order.len() > KEPT)
        {
            // A newer answer may have taken its place.
            if self.until.get(old) == Some(until) {
                self.until.remove(old);
            }
            self.order.pop_front();
        }
        self.until.get(key).is_some_and(|until| *until > now)
    }

    fn add(&mut self, key: Key, now: Instant) {
        let until = now + BELIEVED;
        self.until.insert(key, until);
        self.order.push_back((until, key));
    }
}

impl Reviews {
    /// Whether the cluster lets a user do it.
    pub async fn allow(
        &self,
        cluster: &Cluster,
        user: &str,
        groups: &[String],
        what: What<'_>,
    ) -> Result<bool, CallError> {
        let key = key(&cluster.id, user, groups, what);
        if self.lock().knows(&key, Instant::now()) {
            return Ok(true);
        }
        // Of many equal questions at once one is asked.
        let _turn = self.asking.turn(key).await;
        if self.lock().knows(&key, Instant::now()) {
            return Ok(true);
        }
        let asked = Instant::now();
        let answer = create_unwatched(cluster, &review(user, groups, what)).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        if allowed {
            // From when it was asked: the answer may have been under way for long.
            self.lock().add(key, asked);
        }
        Ok(allowed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Allowed> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn review(user: &str, groups: &[String], what: What<'_>) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(what.attributes()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// With each length in front, no two questions have the same key.
fn key(cluster: &ClusterId, user: &str, groups: &[String], what: What<'_>) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |text: &str| {
        context.update(&text.len().to_be_bytes());
        context.update(text.as_bytes());
    };
    add(cluster.as_str());
    add(user);
    match what {
        What::Catalogue => add(""),
        What::Template(name) => add(name),
    }
    for group in groups {
        add(group);
    }
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_review_names_user_groups_verb_and_object_and_nothing_else() {
        let groups = ["dev".to_owned()];
        let of = |what| serde_json::to_value(review("ann", &groups, what)).unwrap()["spec"].clone();
        assert_eq!(
            of(What::Template("db")),
            json!({
                "user": "ann",
                "groups": ["dev"],
                "resourceAttributes": {
                    "group": "kube-bind.io", "resource": "apiserviceexporttemplates", "name": "db",
                    "verb": "bind",
                },
            })
        );
        assert_eq!(
            of(What::Catalogue)["resourceAttributes"],
            json!({ "group": "kube-bind.io", "resource": "collections", "verb": "bind" })
        );
    }

    #[test]
    fn an_allowing_answer_is_believed_for_five_seconds_by_the_same_question_only() {
        let id = |name: &str| ClusterId::parse(name).unwrap();
        let groups = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let asked = key(&id("a"), "ann", &groups(&["x", "y"]), What::Template("t"));
        let mut allowed = Allowed::default();
        let now = Instant::now();
        allowed.add(asked, now);
        assert!(allowed.knows(&asked, now + BELIEVED / 2));
        for other in [
            key(&id("b"), "ann", &groups(&["x", "y"]), What::Template("t")),
            key(&id("a"), "bob", &groups(&["x", "y"]), What::Template("t")),
            key(&id("a"), "ann", &groups(&["xy"]), What::Template("t")),
            key(&id("a"), "ann", &groups(&["x", "y"]), What::Template("u")),
            key(&id("a"), "ann", &groups(&["x", "y"]), What::Catalogue),
        ] {
            assert!(!allowed.knows(&other, now));
        }
        assert!(!allowed.knows(&asked, now + BELIEVED));
        assert_eq!((allowed.until.len(), allowed.order.len()), (0, 0));
    }

    #[test]
    fn the_number_of_answers_kept_is_bounded() {
        let mut allowed = Allowed::default();
        let now = Instant::now();
        for index in 0..=KEPT + 10 {
            let user = index.to_string();
            let key = key(&ClusterId::local(), &user, &[], What::Catalogue);
            allowed.knows(&key, now);
            allowed.add(key, now);
        }
        assert!(allowed.until.len() <= KEPT + 1, "{}", allowed.until.len());
        assert_eq!(allowed.until.len(), allowed.order.len());
    }
}
