use serde_json::{Value, from_value, json, to_value};

use super::*;
use crate::api::v1alpha2::{ApiServiceExportRequestStatus, Isolation};

fn request(spec: &Value) -> ApiServiceExportRequest {
    from_value(json!({
        "apiVersion": "kube-bind.io/v1alpha2",
        "kind": "APIServiceExportRequest",
        "metadata": {"name": "cows", "namespace": "cluster-a"},
        "spec": spec,
    }))
    .unwrap()
}

fn cows() -> Value {
    json!({"group": "wildwest.dev", "resource": "cowboys", "versions": ["v1"]})
}

fn claim(resource: &str) -> Value {
    json!({"resource": resource, "selector": {}})
}

fn prepared(resource: &str, source: Scope, scope: Scope) -> Prepared {
    Prepared {
        resource: GroupResource { group: "wildwest.dev".into(), resource: resource.into() },
        source_scope: source,
        spec: BoundSchemaSpec { scope, ..BoundSchemaSpec::default() },
        source: "u/1".into(),
        write: Write::Create,
    }
}

#[test]
fn a_request_that_can_never_work_is_refused_at_once() {
    let pods = json!({"resource": "pods", "selector": {}});
    let apps = json!({"group": "apps", "resource": "secrets", "selector": {}});
    for (spec, reason) in [
        (json!({"resources": [cows()], "permissionClaims": [pods]}), "InvalidPermissionClaim"),
        (json!({"resources": [cows()], "permissionClaims": [apps]}), "InvalidPermissionClaim"),
        (
            json!({"resources": [cows()], "permissionClaims": [claim("secrets"), claim("secrets")]}),
            "DuplicatePermissionClaim",
        ),
        (json!({"resources": [{"resource": "cowboys"}]}), "NoVersions"),
        (json!({"resources": [cows()], "namespaces": [{"name": "A"}]}), "InvalidNamespace"),
        (json!({"resources": [cows()], "namespaces": [{"name": ""}]}), "InvalidNamespace"),
    ] {
        let refused = check(&request(&spec).spec).unwrap_err();
        let row = refused.row().unwrap();
        assert_eq!((row.reason, row.is_final), (reason, true), "{spec}");
    }
    let good = json!({
        "resources": [cows()],
        "permissionClaims": [claim("secrets"), claim("configmaps"), claim("serviceaccounts")],
        "namespaces": [{"name": "west"}],
    });
    assert!(check(&request(&good).spec).is_ok());
}

#[test]
fn templates_limit_what_may_be_asked_for_unless_an_admin_lifts_that() {
    let namespace = |annotations: Value| from_value(json!({"annotations": annotations})).unwrap();
    let bound = |annotations| {
        let meta: ObjectMeta = namespace(annotations);
        bound_templates(&meta).map(|names| names.join(" "))
    };
    let templates = "backend.kube-bind.io/templates";
    let allow = "backend.kube-bind.io/allow-requests";
    assert_eq!(bound(json!({})), None);
    assert_eq!(bound(json!({templates: ""})), None);
    assert_eq!(bound(json!({templates: "a,b"})), Some("a b".to_owned()));
    assert_eq!(bound(json!({templates: "a", allow: "any"})), None);
    assert_eq!(bound(json!({templates: "a", allow: "none"})), Some("a".to_owned()));
}

#[test]
fn resources_versions_and_claims_have_to_be_offered() {
    let template = |spec: Value| {
        let object = json!({
            "apiVersion": "kube-bind.io/v1alpha2",
            "kind": "APIServiceExportTemplate",
            "metadata": {"name": "t"},
            "spec": spec,
        });
        Arc::new(from_value::<ApiServiceExportTemplate>(object).unwrap())
    };
    let offers = [
        template(json!({"scope": "Namespaced", "resources": [cows()]})),
        template(json!({
            "scope": "Namespaced",
            "resources": [{"group": "wildwest.dev", "resource": "saloons", "versions": []}],
            "permissionClaims": [claim("secrets")],
        })),
    ];
    let covered = |spec: Value| covered(&request(&spec).spec, &offers);
    assert_eq!(covered(json!({"resources": [cows()]})), Ok(()));
    let saloons = json!({"group": "wildwest.dev", "resource": "saloons", "versions": ["v7"]});
    let both = json!({"resources": [cows(), saloons], "permissionClaims": [claim("secrets")]});
    assert_eq!(covered(both), Ok(()));
    let newer = json!({"group": "wildwest.dev", "resource": "cowboys", "versions": ["v2"]});
    let refused = covered(json!({"resources": [newer]}));
    assert_eq!(refused, Err("cowboys.wildwest.dev (v2)".to_owned()));
    let more = json!({"resources": [cows()], "permissionClaims": [claim("configmaps")]});
    assert_eq!(covered(more), Err("the permission claim on configmaps.core".to_owned()));
}

#[test]
fn resources_of_one_export_have_one_scope() {
    use Scope::{Cluster, Namespaced};
    let of = |a, b| check_scopes(&[a, b]).is_ok();
    let same = prepared("cowboys", Namespaced, Namespaced);
    assert!(of(same, prepared("saloons", Namespaced, Namespaced)));
    let here = prepared("cowboys", Namespaced, Namespaced);
    assert!(!of(here, prepared("sheriffs", Cluster, Cluster)));
    // Both are cluster-scoped for the consumer, but only one is for the provider.
    let rewritten = prepared("cowboys", Namespaced, Cluster);
    assert!(!of(rewritten, prepared("sheriffs", Cluster, Cluster)));
}

#[test]
fn a_source_has_to_serve_one_of_the_versions_asked_for() {
    let wanted = |versions: &[&str]| ResourceVersions {
        versions: versions.iter().map(|version| (*version).to_owned()).collect(),
        ..ResourceVersions::default()
    };
    let version = |name: &str, served| json!({"name": name, "served": served, "storage": served});
    let source: SourceSpec = from_value(json!({
        "names": {"plural": "cowboys", "kind": "Cowboy"},
        "scope": "Namespaced",
        "versions": [version("v1", true), version("v2", false)],
    }))
    .unwrap();
    for (versions, fits) in [(&["v1"][..], true), (&["v2"], false), (&["v3", "v1"], true)] {
        assert_eq!(check_versions(&wanted(versions), &source).is_ok(), fits, "{versions:?}");
    }
}

#[test]
fn an_export_is_what_was_asked_for_with_the_settings_of_the_backend() {
    let spec = json!({
        "resources": [cows()],
        "permissionClaims": [claim("secrets")],
        "schemaUpdatePolicy": "Always",
    });
    let request = request(&spec);
    let settings = ExportSettings { informer_scope: Scope::Cluster, isolation: Isolation::None };
    let schemas = [prepared("cowboys", Scope::Namespaced, Scope::Namespaced)];
    let export = new_export(&ExportName::new("cluster-a", "cows"), &request, &settings, &schemas);
    assert!(same_wish(&request.spec, &export.spec));
    assert_eq!(
        to_value(export).unwrap(),
        json!({
            "apiVersion": "kube-bind.io/v1alpha2",
            "kind": "APIServiceExport",
            "metadata": {
                "name": "cows",
                "namespace": "cluster-a",
                "labels": {"backend.kube-bind.io/managed": "true"},
                "annotations": {
                    "kube-bind.io/source-spec-hash": schema::hash([&schemas[0].spec]),
                    "backend.kube-bind.io/schema-update-policy": "Always",
                },
            },
            "spec": {
                "resources": [cows()],
                "permissionClaims": [claim("secrets")],
                "informerScope": "Cluster",
                "isolation": "None",
            },
        })
    );
}

#[test]
fn a_request_lives_ten_minutes_from_when_its_export_was_ready() {
    let minutes = |minutes: u64| Duration::from_mins(minutes);
    let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
    let mut request = request(&json!({"resources": [cows()]}));
    let status: ApiServiceExportRequestStatus = from_value(json!({
        "phase": "Succeeded",
        "conditions": [{
            "type": "ExportsReady",
            "status": "True",
            "lastTransitionTime": at(100).to_string(),
        }],
    }))
    .unwrap();
    request.status = Some(status);
    for (now, left) in [(100, 10), (105, 5), (110, 0), (200, 0), (90, 20)] {
        assert_eq!(time_left(&request, minutes(10), at(now)), minutes(left), "{now}");
    }
}

#[test]
fn of_two_requests_that_wait_for_each_other_the_older_goes_on() {
    let made = |name: &str, second: i64| {
        let created = Timestamp::from_second(second).unwrap().to_string();
        from_value::<ObjectMeta>(json!({"name": name, "creationTimestamp": created})).unwrap()
    };
    for (one, other, older) in [
        (made("b", 1), made("a", 2), true),
        (made("a", 2), made("b", 1), false),
        (made("a", 1), made("b", 1), true),
        (made("b", 1), made("a", 1), false),
    ] {
        assert_eq!(is_older(&one, &other), older, "{one:?} {other:?}");
    }
}
