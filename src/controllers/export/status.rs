//! The conditions of an export that are ours.

use jiff::Timestamp;

use super::schemas::State;
use crate::api::conditions::{
    self, Condition, ISOLATED, PROVIDER_IN_SYNC, RIGHTS_GRANTED, SOURCE_IN_SYNC, Severity,
};
use crate::rights::Shared;
use crate::runtime::error::shortened;

/// What was seen of an export.
pub(super) struct Seen<'a> {
    /// Its resources.
    pub(super) schemas: &'a [State],
    /// Why its rights are not in place, where someone has to act: a reason, and a text.
    pub(super) refused: Option<(&'static str, String)>,
    /// Whether its consumer reaches objects of others.
    pub(super) exposure: Option<Exposure>,
}

/// How a consumer reaches objects of others.
pub(super) enum Exposure {
    /// As everything does that works in the whole cluster; the text says with what.
    Known(String),
    /// In a way that is for one consumer of a cluster only, and there is another one.
    Unsafe,
}

impl Exposure {
    fn condition(&self) -> (Severity, &'static str, String) {
        match self {
            Self::Known(text) => (Severity::Info, "ClusterWideAccess", text.clone()),
            Self::Unsafe => (Severity::Error, Shared::REASON, Shared.to_string()),
        }
    }
}

/// The whole list to write; none if it says so already. No `Ready`: nobody reads one here (objects.md
/// section 4).
pub(super) fn plan(known: &[Condition], seen: &Seen<'_>, now: Timestamp) -> Option<Vec<Condition>> {
    let mut conditions = known.to_vec();
    let mut changed = conditions::set(&mut conditions, provider_in_sync(seen.schemas), now);
    let held = seen.schemas.iter().find_map(|state| state.held.as_ref());
    for (type_, problem) in [
        (SOURCE_IN_SYNC, held.map(|held| (Severity::Warning, held.reason(), held.to_string()))),
        (
            RIGHTS_GRANTED,
            seen.refused.clone().map(|(reason, text)| (Severity::Error, reason, text)),
        ),
        (ISOLATED, seen.exposure.as_ref().map(Exposure::condition)),
    ] {
        let condition = match problem {
            Some((severity, reason, text)) => {
                Condition::failed(type_, severity, reason, shortened(text))
            }
            None if conditions::get(known, type_).is_some() => Condition::ok(type_),
            None => continue,
        };
        changed |= conditions::set(&mut conditions, condition, now);
    }
    changed.then_some(conditions)
}

fn provider_in_sync(schemas: &[State]) -> Condition {
    match schemas.iter().find(|state| state.facts.is_none()) {
        None => Condition::ok(PROVIDER_IN_SYNC),
        Some(missing) => {
            let name = missing.resource.to_string();
            let message = format!("BoundSchema {name:?} is not available: not found");
            Condition::failed(PROVIDER_IN_SYNC, Severity::Error, "BoundSchemaMissing", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha2::{GroupResource, Scope};
    use crate::consumer::bound_schema::Facts;
    use crate::controllers::export::schemas::Held;

    fn state(bound: bool, held: Option<Held>) -> State {
        let facts = Facts {
            hash: "h".into(),
            source: "u/1".into(),
            scope: Scope::Namespaced,
            synced: "v1".into(),
        };
        State { resource: cows(), facts: bound.then_some(facts), held }
    }

    fn cows() -> GroupResource {
        GroupResource { group: "wildwest.dev".into(), resource: "cowboys".into() }
    }

    fn seen(schemas: &[State]) -> Seen<'_> {
        Seen { schemas, refused: None, exposure: None }
    }

    fn said(conditions: &[Condition]) -> Vec<String> {
        let text = |c: &Condition| {
            let reason = c.reason.clone().unwrap_or_default();
            format!("{}={}{reason}", c.type_, c.status)
        };
        conditions.iter().map(text).collect()
    }

    #[test]
    fn what_is_well_costs_one_condition_and_one_write() {
        let states = [state(true, None)];
        let written = plan(&[], &seen(&states), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(said(&written), ["ProviderInSync=True"]);
        assert_eq!(plan(&written, &seen(&states), Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn other_writers_conditions_stay() {
        let mut known = Vec::new();
        conditions::set(&mut known, Condition::ok("Connected"), Timestamp::UNIX_EPOCH);
        let written = plan(&known, &seen(&[state(true, None)]), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(said(&written), ["Connected=True", "ProviderInSync=True"]);
    }

    #[test]
    fn a_missing_schema_is_named_as_the_contract_does() {
        let written = plan(&[], &seen(&[state(false, None)]), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(said(&written), ["ProviderInSync=FalseBoundSchemaMissing"]);
        assert_eq!(
            written[0].message.as_deref(),
            Some("BoundSchema \"cowboys.wildwest.dev\" is not available: not found")
        );
    }

    #[test]
    fn what_reaches_others_is_for_information_or_wrong() {
        let states = [state(true, None)];
        let severity = |exposure: Exposure| {
            let seen = Seen { exposure: Some(exposure), ..seen(&states) };
            let written = plan(&[], &seen, Timestamp::UNIX_EPOCH).unwrap();
            (said(&written), written.iter().find_map(|one| one.severity.clone()))
        };
        for (exposure, reason, expected) in [
            (Exposure::Known("it lists".into()), "ClusterWideAccess", Severity::Info),
            (Exposure::Unsafe, "SharedClusterScope", Severity::Error),
        ] {
            let reasons = vec![format!("Isolated=False{reason}"), "ProviderInSync=True".into()];
            assert_eq!(severity(exposure), (reasons, Some(expected)));
        }
    }

    #[test]
    fn what_was_wrong_is_said_until_it_is_right_and_then_once_more() {
        let held = [state(true, Some(Held::NoSource("CustomResourceDefinition", cows())))];
        let written = plan(&[], &seen(&held), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(said(&written), ["ProviderInSync=True", "SourceInSync=FalseSchemaNotFound"]);
        let healed = plan(&written, &seen(&[state(true, None)]), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(said(&healed), ["ProviderInSync=True", "SourceInSync=True"]);
    }
}
