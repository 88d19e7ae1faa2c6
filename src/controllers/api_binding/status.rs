//! The condition `ServicesOffered` of the Cluster. Written only when something is or was wrong.

use std::collections::BTreeMap;

use serde_json::json;

use super::Error;
use crate::api::conditions::{self, Condition, READY, Severity};
use crate::api::keys;
use crate::kinds::Kinds;
use crate::runtime::error::{CallError, shortened};
use crate::runtime::fleet::Cluster;

/// Condition of the Cluster: all that its `APIBinding`s bind is offered.
const SERVICES_OFFERED: &str = "ServicesOffered";

/// What is to be said.
#[derive(Clone, Copy)]
pub(super) enum Offering<'a> {
    /// What is bound is offered, but for this.
    Followed(&'a [Error]),
    /// Nothing is offered, and this is wrong with it.
    Not(Option<&'a Error>),
}

/// Says it on the Cluster.
pub(super) async fn say(
    kinds: &Kinds,
    cluster: &Cluster,
    offering: Offering<'_>,
) -> Result<(), CallError> {
    let kind = &kinds.clusters;
    let Some(object) = kind.get(cluster, "", keys::CLUSTER) else { return Ok(()) };
    let known = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if let Some(conditions) = said(known, offering, jiff::Timestamp::now()) {
        let status = json!({ "conditions": conditions });
        kind.patch_status(cluster, &object.metadata, status).await?;
    }
    Ok(())
}

/// The conditions to write: none where nothing is wrong and nothing was, which costs no request.
fn said(
    known: &[Condition],
    offering: Offering<'_>,
    now: jiff::Timestamp,
) -> Option<Vec<Condition>> {
    let (troubles, followed) = match offering {
        Offering::Followed(troubles) => (troubles, true),
        Offering::Not(trouble) => (trouble.map_or(&[][..], std::slice::from_ref), false),
    };
    // In an order of their own, so that the same troubles make the same condition; its reason is that of the first text.
    let lasting: BTreeMap<String, &'static str> =
        troubles.iter().filter_map(|err| Some((err.to_string(), err.reason()?))).collect();
    let was_said = conditions::get(known, SERVICES_OFFERED).is_some();
    let mut conditions = known.to_vec();
    let mut changed = match lasting.first_key_value() {
        Some((_, reason)) => {
            let texts: Vec<&str> = lasting.keys().map(String::as_str).collect();
            let text = shortened(texts.join("; "));
            let failed = Condition::failed(SERVICES_OFFERED, Severity::Error, reason, text);
            conditions::set(&mut conditions, failed, now)
        }
        None if !troubles.is_empty() || !was_said => return None,
        None if followed => conditions::set(&mut conditions, Condition::ok(SERVICES_OFFERED), now),
        None => conditions::remove(&mut conditions, SERVICES_OFFERED),
    };
    changed |= conditions::summarize(&mut conditions, now);
    if conditions.iter().all(|condition| condition.type_ == READY) {
        changed |= conditions::remove(&mut conditions, READY);
    }
    changed.then_some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    fn types(conditions: &[Condition]) -> Vec<(&str, bool)> {
        conditions.iter().map(|one| (one.type_.as_str(), one.is_true())).collect()
    }

    #[test]
    fn what_was_wrong_is_true_where_it_is_followed_and_unsaid_where_nothing_is_offered() {
        let missing = [Error::SchemaMissing { name: "v1.cowboys.wildwest.dev".to_owned() }];
        assert_eq!(said(&[], Offering::Followed(&[]), NOW), None);
        assert_eq!(said(&[], Offering::Not(None), NOW), None);
        let wrong = said(&[], Offering::Followed(&missing), NOW).unwrap();
        assert_eq!(types(&wrong), [(READY, false), (SERVICES_OFFERED, false)]);
        assert_eq!(said(&wrong, Offering::Followed(&missing), NOW), None);
        let right = said(&wrong, Offering::Followed(&[]), NOW).unwrap();
        assert_eq!(types(&right), [(READY, true), (SERVICES_OFFERED, true)]);
        assert_eq!(said(&wrong, Offering::Not(None), NOW), Some(Vec::new()));

        let mut others = wrong;
        conditions::set(&mut others, Condition::ok("UsersAllowed"), NOW);
        let left = said(&others, Offering::Not(None), NOW).unwrap();
        assert_eq!(types(&left), [(READY, true), ("UsersAllowed", true)]);
    }
}
