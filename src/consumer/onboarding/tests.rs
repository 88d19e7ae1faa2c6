use super::*;

const IDENTITY: &str = "my-consumer";
const NAME: &str = "cluster-2u084ntpxd9q0";

fn consumer(binder: &Binder) -> Consumer<'_> {
    let pretty_name = "cow";
    Consumer { identity: IDENTITY, author: "ann", pretty_name, binder, template: None }
}

fn meta(name: &str, label: bool, annotations: &[(&str, &str)]) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        labels: label.then(ours::labels),
        annotations: Some(
            annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ),
        ..ObjectMeta::default()
    }
}

fn plan(binder: &Binder, namespaces: &[&ObjectMeta]) -> Result<NamespacePlan, Refusal> {
    namespace(&consumer(binder), "cluster-", namespaces, |_| None)
}

#[test]
fn the_first_bind_creates_the_namespace_and_records_identity_and_binder() {
    let binder = Binder::namespace("team");
    let expected = Namespace {
        metadata: meta(
            NAME,
            true,
            &[
                (keys::ANNOTATION_IDENTITY, IDENTITY),
                (keys::ANNOTATION_AUTHOR, "ann"),
                (keys::ANNOTATION_BOUND_BY, "namespace:team"),
            ],
        ),
        ..Namespace::default()
    };
    assert_eq!(plan(&binder, &[]), Ok(NamespacePlan::Create(Box::new(expected))));
}

#[test]
fn a_repeated_bind_of_the_same_binder_changes_nothing() {
    let binder = Binder::namespace("team");
    let known = meta(
        "any-name",
        true,
        &[(keys::ANNOTATION_IDENTITY, IDENTITY), (keys::ANNOTATION_BOUND_BY, "namespace:team")],
    );
    assert_eq!(plan(&binder, &[&known]), Ok(NamespacePlan::Use(known.clone())));
}

#[test]
fn another_binder_is_refused_until_an_admin_hands_the_identity_over() {
    let binder = Binder::namespace("other");
    let mut known = meta(
        NAME,
        true,
        &[(keys::ANNOTATION_IDENTITY, IDENTITY), (keys::ANNOTATION_BOUND_BY, "namespace:team")],
    );
    let refusal = plan(&binder, &[&known]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the identity was bound first by another requester and belongs to it; to hand it over, \
         an admin runs: kubectl annotate namespace cluster-2u084ntpxd9q0 \
         backend.kube-bind.io/transfer-to=namespace:other"
    );
    let annotations = known.annotations.as_mut().unwrap();
    annotations.insert(keys::ANNOTATION_TRANSFER_TO.into(), "namespace:other".into());
    let patch = json!({ "metadata": { "annotations": {
        "backend.kube-bind.io/bound-by": "namespace:other",
        "backend.kube-bind.io/transfer-to": null,
    }}});
    assert_eq!(plan(&binder, &[&known]), Ok(NamespacePlan::Patch(known.clone(), patch)));
}

#[test]
fn a_namespace_that_we_did_not_make_is_never_used_whatever_its_annotations() {
    let binder = Binder::namespace("team");
    let squatter = meta(NAME, false, &[(keys::ANNOTATION_IDENTITY, IDENTITY)]);
    assert_eq!(plan(&binder, &[&squatter]), Err(Refusal::NameTaken(NAME.into())));
    let bare = meta(NAME, true, &[(keys::ANNOTATION_IDENTITY, IDENTITY)]);
    assert_eq!(plan(&binder, &[&bare]), Err(Refusal::NameTaken(NAME.into())));
    let collision = meta(
        NAME,
        true,
        &[
            (keys::ANNOTATION_IDENTITY, "someone-else"),
            (keys::ANNOTATION_BOUND_BY, "namespace:team"),
        ],
    );
    assert_eq!(plan(&binder, &[&collision]), Err(Refusal::NameTaken(NAME.into())));
    let elsewhere = meta("elsewhere", false, &[(keys::ANNOTATION_IDENTITY, IDENTITY)]);
    assert!(matches!(plan(&binder, &[&elsewhere]), Ok(NamespacePlan::Create(_))));
}

#[test]
fn a_namespace_of_v081_is_recognised_by_its_cluster_binding_and_given_to_whom_an_admin_names() {
    let binder = Binder::namespace("team");
    let mut known = meta("old", false, &[(keys::ANNOTATION_IDENTITY, IDENTITY)]);
    let binding = cluster_binding(&consumer(&binder), "p", "old");
    let plan = |known: &ObjectMeta| {
        namespace(&consumer(&binder), "cluster-", &[known], |_| Some(&binding))
    };
    let to = "namespace:team".to_owned();
    assert_eq!(
        plan(&known),
        Err(Refusal::IdentityTaken { namespace: "old".into(), to: to.clone() })
    );
    let annotations = known.annotations.as_mut().unwrap();
    annotations.insert(keys::ANNOTATION_TRANSFER_TO.to_owned(), to);
    let patch = json!({ "metadata": {
        "annotations": {
            "backend.kube-bind.io/bound-by": "namespace:team",
            "backend.kube-bind.io/transfer-to": null,
        },
        "labels": { "backend.kube-bind.io/managed": "true" },
    }});
    assert_eq!(plan(&known), Ok(NamespacePlan::Patch(known.clone(), patch)));
}

#[test]
fn a_second_namespace_with_the_identity_does_not_lock_its_owner_out() {
    let binder = Binder::namespace("team");
    let bound_by = |binder| (keys::ANNOTATION_BOUND_BY, binder);
    let identity = (keys::ANNOTATION_IDENTITY, IDENTITY);
    let own = meta(NAME, true, &[identity, bound_by("namespace:team")]);
    let squatter = meta("x", true, &[identity, bound_by("namespace:evil")]);
    assert_eq!(plan(&binder, &[&squatter, &own]), Ok(NamespacePlan::Use(own.clone())));
    let both = plan(&Binder::namespace("third"), &[&squatter, &own]);
    assert_eq!(both, Err(Refusal::Ambiguous(format!("x, {NAME}"))));
}

#[test]
fn a_namespace_that_is_going_is_waited_for() {
    let binder = Binder::namespace("team");
    let mut known = meta(
        NAME,
        true,
        &[(keys::ANNOTATION_IDENTITY, IDENTITY), (keys::ANNOTATION_BOUND_BY, "namespace:team")],
    );
    known.deletion_timestamp =
        Some(crate::api::conditions::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(plan(&binder, &[&known]), Err(Refusal::Deleting(NAME.into())));
}

#[test]
fn templates_are_recorded_once_each() {
    let binder = Binder::namespace("team");
    let known = meta(
        NAME,
        true,
        &[
            (keys::ANNOTATION_IDENTITY, IDENTITY),
            (keys::ANNOTATION_BOUND_BY, "namespace:team"),
            (keys::ANNOTATION_TEMPLATES, "a,b"),
        ],
    );
    let with = |template| Consumer { template: Some(template), ..consumer(&binder) };
    let b = namespace(&with("b"), "cluster-", &[&known], |_| None);
    assert_eq!(b, Ok(NamespacePlan::Use(known.clone())));
    let c = namespace(&with("c"), "cluster-", &[&known], |_| None);
    let patch =
        json!({ "metadata": { "annotations": { "backend.kube-bind.io/templates": "a,b,c" }}});
    assert_eq!(c, Ok(NamespacePlan::Patch(known.clone(), patch)));
}

#[test]
fn an_empty_contract_namespace_gets_everything_and_a_complete_one_nothing() {
    let binder = Binder::namespace("team");
    let consumer = consumer(&binder);
    let steps = contents(&consumer, "Backend", NAME, &Contents::default());
    let binding = cluster_binding(&consumer, "Backend", NAME);
    assert_eq!(
        steps,
        [
            Step::ServiceAccount(Box::new(rbac::binder_service_account(NAME))),
            Step::CreateClusterRole(Box::new(rbac::binder_cluster_role())),
            Step::CreateRoleBinding(Box::new(rbac::binder_role_binding(NAME))),
            Step::TokenSecret(Box::new(rbac::binder_token_secret(NAME))),
            Step::ClusterBinding(Box::new(binding.clone())),
        ]
    );
    let (role, role_binding) = (rbac::binder_cluster_role(), rbac::binder_role_binding(NAME));
    let complete = Contents {
        service_account: true,
        token_secret: true,
        cluster_role: Some(&role),
        role_binding: Some(&role_binding),
        cluster_binding: Some(&binding),
    };
    assert_eq!(contents(&consumer, "Backend", NAME, &complete), []);
}

#[test]
fn foreign_edits_of_rights_are_put_right() {
    let binder = Binder::namespace("team");
    let (mut role, mut binding) = (rbac::binder_cluster_role(), rbac::binder_role_binding(NAME));
    role.rules = None;
    binding.subjects = None;
    let seen = Contents {
        service_account: true,
        token_secret: true,
        cluster_role: Some(&role),
        role_binding: Some(&binding),
        cluster_binding: Some(&ClusterBinding::default()),
    };
    assert_eq!(
        contents(&consumer(&binder), "Backend", NAME, &seen),
        [
            Step::ReplaceClusterRole(Box::new(rbac::binder_cluster_role())),
            Step::ReplaceRoleBinding(Box::new(rbac::binder_role_binding(NAME))),
        ]
    );
}
