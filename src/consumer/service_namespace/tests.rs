use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{from_value, to_value};

use super::*;

const CONTRACT: &str = "cluster-11p3ppvf18xmo";

fn contract() -> Contract {
    Contract {
        namespace: CONTRACT.into(),
        uid: "contract".into(),
        binding: Some("binding".into()),
        deleting: false,
    }
}

fn rules(isolation: Isolation, informer_scope: Scope) -> Rules {
    Rules { isolation, informer_scope, namespace_prefix: "cluster-".into() }
}

fn wanted(name: &str) -> Wanted<'_> {
    Wanted { name, uid: "sns", known: None }
}

fn meta(value: Value) -> ObjectMeta {
    from_value(value).unwrap()
}

/// A namespace as we make it for `west`.
fn made() -> ObjectMeta {
    meta(json!({
        "name": format!("{CONTRACT}-west"),
        "labels": {"backend.kube-bind.io/managed": "true"},
        "annotations": {
            "kube-bind.io/api-service-namespace": format!("{CONTRACT}/west"),
            "backend.kube-bind.io/owner-uid": "sns",
            "backend.kube-bind.io/contract-uid": "contract",
            "backend.kube-bind.io/binding-uid": "binding",
        },
    }))
}

#[test]
fn names_follow_the_isolation_and_a_known_one_stays() {
    for (isolation, known, expected) in [
        (Isolation::Prefixed, None, "cluster-11p3ppvf18xmo-west"),
        (Isolation::Namespaced, None, "cluster-11p3ppvf18xmo-west"),
        (Isolation::None, None, "west"),
        (Isolation::None, Some("old"), "old"),
        (Isolation::None, Some(""), "west"),
    ] {
        let wanted = Wanted { known, ..wanted("west") };
        let name = name(&rules(isolation, Scope::Cluster), CONTRACT, &wanted);
        assert_eq!(name, expected, "{isolation} {known:?}");
    }
}

#[test]
fn a_new_namespace_says_what_it_is_for() {
    let rules = rules(Isolation::Prefixed, Scope::Namespaced);
    let name = name(&rules, CONTRACT, &wanted("west"));
    let plan = plan(&rules, &contract(), &wanted("west"), &name, None, false).unwrap();
    let Plan::Create(namespace) = plan else { panic!("{plan:?}") };
    assert_eq!(
        to_value(namespace).unwrap(),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": made()})
    );
    assert!(is_deletable(&made()));
    assert_eq!(made_for(&made()), Some((CONTRACT, "west")));
}

#[test]
fn an_existing_namespace_is_used_only_where_that_harms_nobody() {
    use Isolation::{None as Never, Prefixed};
    use Scope::{Cluster, Namespaced};
    let foreign = || meta(json!({"name": "x"}));
    let other = || {
        let annotations = json!({"kube-bind.io/api-service-namespace": "cluster-other/west"});
        meta(json!({"name": "x", "annotations": annotations}))
    };
    let going = || ObjectMeta { deletion_timestamp: Some(now()), ..foreign() };
    let now_deleting = || ObjectMeta { deletion_timestamp: Some(now()), ..made() };
    let taken = |name: &str| Err(Refusal::Taken(name.to_owned()));
    let kept = |name: &str| Err(Refusal::NotAllowed(name.to_owned()));
    for (isolation, scope, name, target, is_contract, expected) in [
        (Never, Cluster, "default", foreign(), false, Ok(Plan::Borrow)),
        (Never, Namespaced, "default", foreign(), false, taken("default")),
        (Prefixed, Cluster, "cluster-x-west", foreign(), false, taken("cluster-x-west")),
        (Never, Cluster, "west", other(), false, taken("west")),
        (Never, Cluster, "west", foreign(), true, kept("west")),
        (Never, Cluster, "kube-system", foreign(), false, kept("kube-system")),
        (Never, Cluster, "cluster-2u084ntpxd9q0", foreign(), false, kept("cluster-2u084ntpxd9q0")),
        (Never, Cluster, "west", going(), false, Err(Refusal::Deleting("west".into()))),
        (Never, Cluster, "west", made(), false, Ok(Plan::Use)),
        (Never, Cluster, "west", now_deleting(), false, Err(Refusal::Deleting("west".into()))),
    ] {
        let rules = rules(isolation, scope);
        let got = plan(&rules, &contract(), &wanted("west"), name, Some(&target), is_contract);
        assert_eq!(got, expected, "{isolation} {scope} {name}");
    }
}

fn now() -> Time {
    Time(jiff::Timestamp::UNIX_EPOCH)
}

#[test]
fn names_that_would_be_refused_by_the_server_or_belong_to_others_are_not_tried() {
    let long = "w".repeat(50);
    for (isolation, name, expected) in [
        (Isolation::Prefixed, format!("{CONTRACT}-{long}"), "NamespaceNameTooLong"),
        (Isolation::Prefixed, format!("{CONTRACT}-a.b"), "NamespaceNameInvalid"),
        (Isolation::None, "a.b".to_owned(), "NamespaceNameInvalid"),
        (Isolation::None, "kube-public".to_owned(), "NamespaceNotAllowed"),
        (Isolation::None, "cluster-2u084ntpxd9q0".to_owned(), "NamespaceNotAllowed"),
    ] {
        let rules = rules(isolation, Scope::Namespaced);
        let refused = plan(&rules, &contract(), &wanted("x"), &name, None, false).unwrap_err();
        assert_eq!(refused.reason(), expected, "{name}");
    }
}

#[test]
fn what_a_konnector_made_anew_is_adopted_and_what_an_earlier_consumer_left_is_not() {
    let rules = rules(Isolation::Prefixed, Scope::Namespaced);
    let name = format!("{CONTRACT}-west");
    let anew = Wanted { uid: "sns-2", ..wanted("west") };
    let plan = |contract: &Contract| plan(&rules, contract, &anew, &name, Some(&made()), false);
    let mut annotations = made().annotations.unwrap();
    annotations.insert("backend.kube-bind.io/owner-uid".into(), "sns-2".into());
    let labels = made().labels;
    assert_eq!(
        plan(&contract()),
        Ok(Plan::Adopt(json!({"metadata": {"labels": labels, "annotations": annotations}})))
    );
    let unseen = Contract { binding: None, ..contract() };
    let mut annotations = annotations.clone();
    annotations.remove("backend.kube-bind.io/binding-uid");
    assert_eq!(
        plan(&unseen),
        Ok(Plan::Adopt(json!({"metadata": {"labels": labels, "annotations": annotations}})))
    );
    let later = Contract { uid: "later".into(), ..contract() };
    assert_eq!(plan(&later), Err(Refusal::Deleting(name.clone())));
}

#[test]
fn a_consumer_that_bound_anew_takes_up_what_it_had() {
    let rules = rules(Isolation::Prefixed, Scope::Namespaced);
    let name = format!("{CONTRACT}-west");
    let plan = |binding: Option<&str>| {
        let contract = Contract { binding: binding.map(str::to_owned), ..contract() };
        plan(&rules, &contract, &wanted("west"), &name, Some(&made()), false)
    };
    assert_eq!(plan(Some("binding")), Ok(Plan::Use));
    assert_eq!(plan(None), Ok(Plan::Use));
    let mut annotations = made().annotations.unwrap();
    annotations.insert("backend.kube-bind.io/binding-uid".into(), "anew".into());
    let labels = made().labels;
    assert_eq!(
        plan(Some("anew")),
        Ok(Plan::Adopt(json!({"metadata": {"labels": labels, "annotations": annotations}})))
    );
}
