use aws_lc_rs::digest::digest;
use serde_json::{Value, json};

use super::*;
use crate::api::apiextensions::CustomResourceDefinition;
use crate::api::kcp::{ApiResourceSchema, ApiResourceSchemaSpec};
use crate::api::v1alpha2::{Names, PrinterColumn, WebhookConversion};

/// A source as the API server sends it: by text, so that numbers and depth are those of the wire.
fn decoded(spec: &Value) -> SourceSpec {
    let text = json!({ "metadata": { "name": "a" }, "spec": spec }).to_string();
    SourceSpec::from(serde_json::from_str::<CustomResourceDefinition>(&text).unwrap())
}

fn widgets() -> SourceSpec {
    decoded(&json!({
        "group": "example.org",
        "names": {
            "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
        },
        "scope": "Namespaced",
        "conversion": { "strategy": "None" },
        "versions": [{
            "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
            "schema": {
                "openAPIV3Schema": { "type": "object", "description": "size < 5 & > 1" },
            },
            "selectableFields": [{ "jsonPath": ".spec.size" }],
        }],
    }))
}

fn gadgets() -> SourceSpec {
    decoded(&json!({
        "group": "example.org",
        "names": { "plural": "gadgets", "kind": "Gadget" },
        "scope": "Namespaced",
        "conversion": { "strategy": "None" },
        "versions": [{
            "name": "v1", "served": true, "storage": true,
            "schema": { "openAPIV3Schema": { "type": "object" } },
        }],
    }))
}

fn bound(source: &SourceSpec) -> BoundSchemaSpec {
    bound_spec(source, Scope::Namespaced, Isolation::Prefixed).unwrap()
}

fn line(value: &impl serde::Serialize) -> String {
    let mut bytes = Vec::new();
    go_json::write_line(&mut bytes, value).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn gadgets_resource() -> GroupResource {
    GroupResource { group: "example.org".into(), resource: "gadgets".into() }
}

/// Versions `v1`, `v2`, … in the order given; `-v2` is one that is not served.
fn with_versions(names: &[&str]) -> BoundSchemaSpec {
    let versions = names.iter().map(|name| BoundSchemaVersion {
        name: name.trim_start_matches('-').into(),
        served: !name.starts_with('-'),
        schema: json!({ "description": name }),
        ..BoundSchemaVersion::default()
    });
    BoundSchemaSpec { versions: versions.collect(), ..bound(&gadgets()) }
}

#[test]
fn the_bytes_under_the_hash_are_those_of_the_go_backend() {
    let expected = concat!(
        r#"{"informerScope":"Namespaced","group":"example.org","#,
        r#""names":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList"},"#,
        r#""scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":true,"#,
        r#""schema":{"openAPIV3Schema":{"description":"size \u003c 5 \u0026 \u003e 1","type":"object"}},"#,
        r#""subresources":{"status":{}}}],"conversion":{"strategy":"None"}}"#,
        "\n"
    );
    assert_eq!(line(&bound(&widgets())), expected);
}

#[test]
fn the_worked_examples_of_the_contract_have_their_hashes() {
    let (widgets, gadgets) = (bound(&widgets()), bound(&gadgets()));
    for (specs, expected) in [
        (vec![&widgets], "accfb185e8409fc7e552a6997192f64742334819188665394abcd05cd7d6e46f"),
        (vec![&gadgets], "445f48571885313f14cd0076c2b25aaf924af06b7117a2cc0a0137788ab96696"),
        (
            vec![&widgets, &gadgets],
            "47a5cf3b7facbb538967832ab9d2844b05abaa162658907c3f5ec1ec2dcc24fe",
        ),
        // SHA-256 of nothing.
        (vec![], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ] {
        assert_eq!(hash(specs), expected);
    }
    assert_ne!(hash([&gadgets, &widgets]), hash([&widgets, &gadgets]));
}

#[test]
fn the_schema_of_the_golden_run_has_its_hash() {
    let spec: ApiResourceSchemaSpec = serde_json::from_value(json!({
        "group": "wildwest.dev",
        "names": {
            "kind": "Cowboy", "listKind": "CowboyList", "plural": "cowboys", "singular": "cowboy",
        },
        "scope": "Namespaced",
        "versions": [{
            "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
            "schema": {
                "description": "Cowboy is part of the wild west",
                "type": "object",
                "properties": {
                    "apiVersion": {
                        "description": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
                        "type": "string",
                    },
                    "kind": {
                        "description": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
                        "type": "string",
                    },
                    "metadata": { "type": "object" },
                    "spec": {
                        "description": "CowboySpec holds the desired state of the Cowboy.",
                        "type": "object",
                        "properties": {
                            "intent": { "type": "string" },
                            "secretRefs": {
                                "description": "Array of references to Secrets containing cowboy credentials",
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["name"],
                                    "properties": {
                                        "name": {
                                            "description": "Name of the referenced Secret",
                                            "type": "string",
                                        },
                                    },
                                },
                            },
                        },
                    },
                    "status": {
                        "description": "CowboyStatus communicates the observed state of the Cowboy.",
                        "type": "object",
                        "properties": { "result": { "type": "string" } },
                    },
                },
            },
        }],
    }))
    .unwrap();
    let source = SourceSpec::from(ApiResourceSchema::new("today.cowboys.wildwest.dev", spec));
    let spec = bound_spec(&source, Scope::Cluster, Isolation::Prefixed).unwrap();
    assert_eq!(hash([&spec]), "6ffa5817815cec7c6457c31cc8e7e0d3f31d59ca9c836f4ce3bfca5d34a432f4");
}

#[test]
fn optional_fields_are_written_where_and_when_go_does() {
    let spec = bound(&decoded(&json!({
        "group": "example.org",
        "names": {
            "plural": "pods", "singular": "", "shortNames": ["p"], "kind": "Pod", "listKind": "",
            "categories": ["all"],
        },
        "scope": "Cluster",
        "versions": [
            {
                "name": "v1", "served": true, "storage": false, "deprecated": true,
                "deprecationWarning": "", "schema": { "b": 1, "a": { "d": [], "C": {} } },
                "subresources": {
                    "scale": { "specReplicasPath": ".s", "statusReplicasPath": ".t", "labelSelectorPath": ".l" },
                    "status": {},
                },
                "additionalPrinterColumns": [
                    { "name": "a", "type": "string", "jsonPath": ".a" },
                    {
                        "name": "b", "type": "integer", "format": "int32", "description": "d",
                        "priority": 1, "jsonPath": ".b",
                    },
                ],
            },
            {
                "name": "v2", "served": false, "storage": true, "schema": {},
                "subresources": { "scale": { "specReplicasPath": ".s", "statusReplicasPath": ".t" } },
                "additionalPrinterColumns": [],
            },
        ],
    })));
    let expected = concat!(
        r#"{"informerScope":"Namespaced","group":"example.org","#,
        r#""names":{"plural":"pods","shortNames":["p"],"kind":"Pod","categories":["all"]},"#,
        r#""scope":"Cluster","versions":[{"name":"v1","served":true,"storage":false,"#,
        r#""deprecated":true,"deprecationWarning":"","schema":{"a":{"C":{},"d":[]},"b":1},"#,
        r#""subresources":{"status":{},"scale":{"specReplicasPath":".s","statusReplicasPath":".t","#,
        r#""labelSelectorPath":".l"}},"additionalPrinterColumns":["#,
        r#"{"name":"a","type":"string","jsonPath":".a"},"#,
        r#"{"name":"b","type":"integer","format":"int32","description":"d","priority":1,"#,
        r#""jsonPath":".b"}]},"#,
        r#"{"name":"v2","served":false,"storage":true,"schema":{},"#,
        r#""subresources":{"scale":{"specReplicasPath":".s","statusReplicasPath":".t"}}}]}"#,
        "\n"
    );
    assert_eq!(line(&spec), expected);
}

#[test]
fn the_consumer_gets_the_source_with_the_scope_that_isolation_gives_it() {
    use Scope::{Cluster, Namespaced};
    for (source, informer_scope, isolation, expected) in [
        (Namespaced, Namespaced, Isolation::Prefixed, Namespaced),
        (Namespaced, Cluster, Isolation::Prefixed, Namespaced),
        (Namespaced, Namespaced, Isolation::None, Namespaced),
        (Namespaced, Namespaced, Isolation::Namespaced, Cluster),
        (Namespaced, Cluster, Isolation::Namespaced, Cluster),
        (Cluster, Namespaced, Isolation::Prefixed, Cluster),
        (Cluster, Cluster, Isolation::None, Cluster),
        (Cluster, Namespaced, Isolation::Namespaced, Cluster),
    ] {
        let source = SourceSpec { scope: source, ..widgets() };
        let expected = BoundSchemaSpec {
            informer_scope,
            group: source.group.clone(),
            names: source.names.clone(),
            scope: expected,
            versions: source.versions.clone(),
            conversion: source.conversion.clone(),
        };
        assert_eq!(bound_spec(&source, informer_scope, isolation), Ok(expected));
    }
}

#[test]
fn a_conversion_is_absent_or_spelt_out() {
    let none = Some(Conversion { strategy: Some(ConversionStrategy::None), webhook: None });
    for (given, expected) in
        [(None, None), (none.clone(), none.clone()), (Some(Conversion::default()), none)]
    {
        assert_eq!(bound(&SourceSpec { conversion: given, ..widgets() }).conversion, expected);
    }
}

#[test]
fn what_no_consumer_can_use_is_refused() {
    let webhook = |strategy, webhook| Some(Conversion { strategy, webhook });
    let resource = gadgets_resource;
    let unserved = with_versions(&["-v1", "-v2"]).versions;
    let mut without_schema = with_versions(&["v1", "-v2"]).versions;
    without_schema[1].schema = Value::Null;
    for (source, expected) in [
        (
            SourceSpec {
                conversion: webhook(Some(ConversionStrategy::Webhook), None),
                ..gadgets()
            },
            Problem::WebhookConversion(resource()),
        ),
        (
            SourceSpec {
                conversion: webhook(None, Some(WebhookConversion::default())),
                ..gadgets()
            },
            Problem::WebhookConversion(resource()),
        ),
        (SourceSpec { versions: vec![], ..gadgets() }, Problem::NoServedVersion(resource())),
        (SourceSpec { versions: unserved, ..gadgets() }, Problem::NoServedVersion(resource())),
        (
            SourceSpec { versions: without_schema, ..gadgets() },
            Problem::SchemaMissing { resource: resource(), version: "v2".into() },
        ),
    ] {
        assert_eq!(bound_spec(&source, Scope::Cluster, Isolation::None), Err(expected));
    }
}

#[test]
fn the_picked_version_is_the_first_served() {
    for (versions, expected) in [
        (&["v1", "v2"][..], Some("v1")),
        (&["-v1", "v2", "v3"], Some("v2")),
        (&["-v1"], None),
        (&[], None),
    ] {
        assert_eq!(served(&with_versions(versions)), expected);
    }
}

#[test]
fn an_update_keeps_the_picked_version_first() {
    let resource = gadgets_resource;
    let dropped = Problem::FirstServedVersionDropped { resource: resource(), version: "v1".into() };
    for (versions, expected) in [
        (&["v1"][..], Ok(&["v1"][..])),
        (&["v1", "v2"], Ok(&["v1", "v2"])),
        (&["v2", "v1"], Ok(&["v1", "v2"])),
        (&["v3", "v2", "v1", "v4"], Ok(&["v1", "v3", "v2", "v4"])),
        (&["-v3", "v1", "v2"], Ok(&["-v3", "v1", "v2"])),
        (&["-v4", "v3", "-v2", "v1"], Ok(&["-v4", "v1", "v3", "-v2"])),
        (&["-v1", "v2"], Err(dropped.clone())),
        (&["v2"], Err(dropped.clone())),
        (&["-v1"], Err(dropped.clone())),
        (&[], Err(dropped.clone())),
    ] {
        let expected = expected.map(with_versions);
        let updated = update("v1", Scope::Namespaced, with_versions(versions));
        assert_eq!(updated, expected, "{versions:?}");
    }
}

#[test]
fn an_update_never_changes_the_scope() {
    use Scope::{Cluster, Namespaced};
    for (from, to) in [(Namespaced, Cluster), (Cluster, Namespaced)] {
        let new = BoundSchemaSpec { scope: to, ..with_versions(&["v2"]) };
        let expected = Problem::ScopeChanged { resource: gadgets_resource(), from, to };
        assert_eq!(update("v1", from, new), Err(expected));
    }
}

#[test]
fn a_problem_names_the_resource_and_the_next_step() {
    let resource = gadgets_resource;
    let core = GroupResource { group: String::new(), resource: "pods".into() };
    let version = || "v1".to_owned();
    for (problem, reason, message) in [
        (
            Problem::WebhookConversion(core),
            "ConversionUnsupported",
            "pods.core converts its versions by a webhook, which consumer clusters cannot reach; export a resource with conversion strategy None",
        ),
        (
            Problem::NoServedVersion(resource()),
            "NoServedVersion",
            "gadgets.example.org has no served version; set served to true for at least one of its versions",
        ),
        (
            Problem::SchemaMissing { resource: resource(), version: version() },
            "SchemaMissing",
            "version v1 of gadgets.example.org has no schema; add one, or remove the version from the resource definition",
        ),
        (
            Problem::FirstServedVersionDropped { resource: resource(), version: version() },
            "FirstServedVersionDropped",
            "gadgets.example.org no longer serves v1, the version that bound consumers sync; serve v1 again, or delete the APIServiceExport and bind again",
        ),
        (
            Problem::ScopeChanged {
                resource: resource(),
                from: Scope::Namespaced,
                to: Scope::Cluster,
            },
            "ScopeChanged",
            "the scope of gadgets.example.org for consumers would change from Namespaced to Cluster, which a bound resource cannot; restore the scope and isolation it was bound with, or delete the APIServiceExport and bind again",
        ),
    ] {
        assert_eq!((problem.reason(), problem.to_string().as_str()), (reason, message));
        assert!(!message.contains('%'), "{message}");
    }
}

#[test]
fn large_schemas_with_many_versions_are_hashed_as_they_are_written() {
    let description = "size < 5 \u{2028} ".repeat(1_572_864 / 14);
    let versions: Vec<_> = (1..=64)
        .map(|number| BoundSchemaVersion {
            name: format!("v{number}"),
            served: true,
            storage: number == 1,
            schema: json!({ "type": "object" }),
            additional_printer_columns: vec![PrinterColumn::default(); 100],
            ..BoundSchemaVersion::default()
        })
        .collect();
    let mut source = SourceSpec {
        group: "example.org".into(),
        names: Names { plural: "pods".into(), kind: "Pod".into(), ..Names::default() },
        versions,
        ..SourceSpec::default()
    };
    source.versions[0].schema = json!({ "openAPIV3Schema": { "description": description } });
    let spec = bound_spec(&source, Scope::Cluster, Isolation::Namespaced).unwrap();
    assert_eq!(spec.versions, source.versions);
    let text = line(&spec);
    assert!(text.len() > 1_572_864);
    let expected = digest(&SHA256, text.as_bytes());
    let expected: Vec<_> = expected.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash([&spec]), expected.concat());
    let last = update("v64", Scope::Cluster, spec).unwrap();
    assert_eq!((last.versions.len(), served(&last)), (64, Some("v64")));
}

#[test]
fn depth_is_bounded_by_the_decoder_and_all_that_it_accepts_is_hashed() {
    let nested = |depth: usize| {
        let schema = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let spec = r#"{"group":"example.org","names":{"plural":"pods","kind":"Pod"},"scope":"Cluster","versions":[{"name":"v1","served":true,"storage":true,"schema":SCHEMA}]}"#;
        let text = format!(r#"{{"metadata":{{}},"spec":{}}}"#, spec.replace("SCHEMA", &schema));
        serde_json::from_str::<CustomResourceDefinition>(&text).map(|crd| (schema, crd.spec))
    };
    // The object, its spec, the list and the version take four of the 127 levels.
    let (schema, source) = nested(123).unwrap();
    let spec = bound(&source);
    assert!(line(&spec).contains(&schema));
    assert_eq!(hash([&spec]).len(), 64);
    assert!(nested(124).is_err());
    assert!(nested(100_000).is_err());
}

#[test]
fn a_group_that_is_not_a_providers_own_is_never_exported() {
    for (group, own) in [
        ("example.org", true),
        ("myk8s.io", true),
        ("", false),
        ("apps", false),
        ("k8s.io", false),
        ("rbac.authorization.k8s.io", false),
        ("apis.kcp.io", false),
        ("kube-bind.io", false),
    ] {
        let source = SourceSpec { group: group.into(), ..gadgets() };
        let refused = bound_spec(&source, Scope::Cluster, Isolation::Namespaced).err();
        let resource = GroupResource { group: group.into(), resource: "gadgets".into() };
        let expected = (!own).then_some(Problem::GroupNotExportable(resource));
        assert_eq!(refused, expected, "{group:?}");
    }
}

#[test]
fn a_version_in_which_objects_may_be_stored_stays() {
    let spec = bound(&gadgets());
    assert_eq!(check_stored(&[], &spec), Ok(()));
    assert_eq!(check_stored(&["v1".into()], &spec), Ok(()));
    let dropped =
        Problem::StoredVersionDropped { resource: gadgets_resource(), version: "v1alpha1".into() };
    assert_eq!(check_stored(&["v1alpha1".into(), "v1".into()], &spec), Err(dropped));
}
