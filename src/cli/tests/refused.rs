//! What does not start, and what is said about it.

use super::*;

#[test]
fn unknown_flags_are_refused_with_a_suggestion() {
    let Err(Error::Usage(error)) = parsed(&[HEADLESS, "--consumer-scop=x"]) else {
        panic!("an unknown flag was accepted");
    };
    assert!(error.to_string().contains("--consumer-scope"), "{error}");
    assert_eq!(error.exit_code(), 2);
    for unknown in ["--log-level=2", "--session-redis-addr=x", "word"] {
        assert!(matches!(parsed(&[HEADLESS, unknown]), Err(Error::Usage(_))), "{unknown}");
    }
}

#[test]
fn wrong_values_are_refused_naming_the_allowed_ones() {
    let vw = "https://<host>/services/apiexport/<cluster>/<export>";
    for (argument, expected) in [
        (
            "--consumer-scope=all",
            r#"--consumer-scope: unknown value "all"; allowed are Namespaced and Cluster"#.to_owned(),
        ),
        (
            "--isolation=foo",
            r#"--isolation: unknown value "foo"; allowed are Prefixed, Namespaced and None"#.to_owned(),
        ),
        (
            "--cluster-scoped-isolation=foo",
            r#"--cluster-scoped-isolation: unknown value "foo"; allowed are Prefixed, Namespaced and None"#.to_owned(),
        ),
        (
            "--multicluster-runtime-provider=KCP",
            r#"--multicluster-runtime-provider: unknown value "KCP"; allowed are kubernetes and kcp"#.to_owned(),
        ),
        (
            "--schema-source=CustomResourceDefinitions",
            "--schema-source: unknown value \"CustomResourceDefinitions\"; allowed are customresourcedefinitions \
             (CustomResourceDefinition.v1.apiextensions.k8s.io) and apiresourceschemas \
             (APIResourceSchema.v1alpha1.apis.kcp.io)".to_owned(),
        ),
        (
            "--schema-sync-interval=9.9s",
            "--schema-sync-interval: 9.9s is too short; the shortest allowed is 10s".to_owned(),
        ),
        (
            "--schema-sync-interval=5",
            r#"--schema-sync-interval: duration "5" lacks a unit; use ns, us, ms, s, m or h, as in 10s"#.to_owned(),
        ),
        (
            "--external-address=http://x",
            r#"--external-address: "http://x" is refused: it does not start with https://; expected https://<host>[:<port>]"#.to_owned(),
        ),
        (
            "--server-url=http://x",
            r#"--server-url: "http://x" is refused: it does not start with https://; expected https://<host>[:<port>]"#.to_owned(),
        ),
        (
            "--namespace-prefix=",
            "--namespace-prefix: must not be empty; leave the flag out for the default cluster-".to_owned(),
        ),
        (
            "--pretty-name=",
            "--pretty-name: must not be empty; leave the flag out to get its default".to_owned(),
        ),
        (
            "--listen-address=8080",
            r#"--listen-address: "8080" is not an address to listen on; write host:port, such as 127.0.0.1:8080 or :8080"#.to_owned(),
        ),
        (
            "--logging-format=json",
            r#"--logging-format: unknown value "json"; allowed are text"#.to_owned(),
        ),
    ] {
        assert_eq!(refused(&[HEADLESS, argument]), expected);
    }
    let kcp = "--multicluster-runtime-provider=kcp";
    for url in [
        "https://x",
        "https://x/services/apiexport/a",
        "https://x/services/apiexport//b",
        "https://x/clusters/a/b/c",
        "https://x/services/apiexport/a/b/clusters/c",
    ] {
        let message = refused(&[HEADLESS, kcp, "--server-url", url]);
        assert!(message.contains(vw), "{message}");
    }
}

#[test]
fn files_that_cannot_work_are_refused_naming_flag_and_path() {
    let message = refused(&[HEADLESS, "--kubeconfig=/nowhere/kc"]);
    assert!(message.starts_with("--kubeconfig: cannot read \"/nowhere/kc\": "), "{message}");
    let message = refused(&[HEADLESS, "--external-ca-file=/nowhere/ca"]);
    assert!(message.starts_with("--external-ca-file: cannot read \"/nowhere/ca\": "), "{message}");
    assert_eq!(
        refused(&[HEADLESS, "--external-ca-file=/dev/null"]),
        "--external-ca-file: \"/dev/null\" holds no certificate; name a PEM file with the CA to trust"
    );
}

/// Contract flags.md 3: the first failing rule wins.
#[test]
fn rules_are_checked_in_the_order_of_the_contract() {
    let wrong = [
        "--external-ca-file=/nowhere/ca",
        "--namespace-prefix=",
        "--pretty-name=",
        "--consumer-scope=x",
        "--external-address=x",
        "--multicluster-runtime-provider=x",
        "--schema-source=x",
        "--schema-sync-interval=1s",
    ];
    for (index, first) in wrong.iter().enumerate() {
        let flag = first.split('=').next().unwrap_or(first);
        let mut arguments = vec![HEADLESS];
        arguments.extend(wrong[index..].iter().rev());
        let message = refused(&arguments);
        assert!(message.contains(flag), "{first}: {message}");
    }
}
