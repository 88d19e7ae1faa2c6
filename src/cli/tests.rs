use std::time::Duration;

use super::*;
use crate::consumer::external::ExternalAddress;

const HEADLESS: &str = "--frontend-disabled=true";

fn parsed(arguments: &[&str]) -> Result<Command, Error> {
    parse_from(["backend"].iter().chain(arguments))
}

fn run(arguments: &[&str]) -> Config {
    let all: Vec<&str> = [HEADLESS].iter().chain(arguments).copied().collect();
    match parsed(&all) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// The message after `error: `.
fn refused(arguments: &[&str]) -> String {
    match parsed(arguments) {
        Err(Error::Invalid(error)) => error.to_string(),
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn defaults() -> Config {
    Config {
        kubeconfig: None,
        context: None,
        provider: ProviderKind::Kubernetes,
        endpoint_slice_name: "kube-bind.io".to_owned(),
        server_url: None,
        serve_export_workspace: false,
        apibinding_ignore_prefixes: ["kube-bind.io", "tenancy.kcp.io", "topology.kcp.io"]
            .map(str::to_owned)
            .to_vec(),
        schema_source: SchemaSource::CustomResourceDefinitions,
        schema_sync_interval: Duration::from_mins(5),
        namespace_prefix: "cluster-".to_owned(),
        pretty_name: "Backend".to_owned(),
        consumer_scope: ConsumerScope::Namespaced,
        isolation: Isolation::Prefixed,
        external_address: None,
        external_ca: None,
        external_server_name: None,
        oidc_allowed_groups: vec![],
        oidc_allowed_users: vec![],
        listen_address: ([127, 0, 0, 1], 8080).into(),
        admin_address: None,
        verbosity: 2,
        notices: vec![],
    }
}

#[test]
fn clap_finds_no_fault_in_the_definition() {
    args::command().debug_assert();
}

#[test]
fn without_flags_the_defaults_are_those_of_the_contract() {
    assert_eq!(run(&[]), defaults());
}

#[test]
fn the_usual_kcp_command_line_gives_its_config() {
    let config = run(&[
        "--multicluster-runtime-provider=kcp",
        "--apiexport-endpoint-slice-name=kube-bind.io",
        "--pretty-name=BigCorp.com",
        "--namespace-prefix=kube-bind-",
        "--schema-source=apiresourceschemas",
        "--consumer-scope=cluster",
        "--isolation=None",
    ]);
    let expected = Config {
        provider: ProviderKind::Kcp,
        pretty_name: "BigCorp.com".to_owned(),
        namespace_prefix: "kube-bind-".to_owned(),
        schema_source: SchemaSource::ApiResourceSchemas,
        consumer_scope: ConsumerScope::Cluster,
        isolation: Isolation::None,
        ..defaults()
    };
    assert_eq!(config, expected);
}

#[test]
fn a_value_may_follow_an_equals_sign_or_a_space() {
    for arguments in [
        &["--context=a", "-v=4"][..],
        &["--context", "a", "-v", "4"],
        &["--context", "a", "--v=4"],
        &["--context=a", "-v4"],
    ] {
        let expected = Config {
            context: Some("a".to_owned()),
            verbosity: 4,
            ..defaults()
        };
        assert_eq!(run(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn of_a_repeated_flag_the_last_one_counts() {
    assert_eq!(
        run(&["--context=a", "--context=b"]).context.as_deref(),
        Some("b")
    );
    assert!(!matches!(
        parsed(&[HEADLESS, "--frontend-disabled=false"]),
        Ok(Command::Run(_))
    ));
}

#[test]
fn booleans_stand_bare_or_with_a_value() {
    for (argument, expected) in [
        ("--serve-export-workspace", true),
        ("--serve-export-workspace=true", true),
        ("--serve-export-workspace=1", true),
        ("--serve-export-workspace=false", false),
        ("--serve-export-workspace=F", false),
    ] {
        assert_eq!(
            run(&[argument]).serve_export_workspace,
            expected,
            "{argument}"
        );
    }
    assert!(matches!(
        parsed(&["--frontend-disabled"]),
        Ok(Command::Run(_))
    ));
    assert!(matches!(
        parsed(&["--frontend-disabled=yes"]),
        Err(Error::Usage(_))
    ));
}

#[test]
fn lists_are_repeatable_and_comma_separated() {
    let config = run(&[
        "--oidc-allowed-groups=a,b",
        "--oidc-allowed-groups",
        "c",
        "--oidc-allowed-users=u",
        "--apibinding-ignore-prefixes=mine",
    ]);
    let expected = Config {
        oidc_allowed_groups: ["a", "b", "c"].map(str::to_owned).to_vec(),
        oidc_allowed_users: vec!["u".to_owned()],
        apibinding_ignore_prefixes: vec!["mine".to_owned()],
        ..defaults()
    };
    assert_eq!(config, expected);
}

#[test]
fn the_deprecated_isolation_flag_works_and_says_so_and_the_last_one_wins() {
    let notice = "--cluster-scoped-isolation is deprecated, use --isolation instead";
    for (arguments, isolation, notices) in [
        (
            &["--cluster-scoped-isolation=none"][..],
            Isolation::None,
            vec![notice.to_owned()],
        ),
        (
            &["--isolation=Namespaced", "--cluster-scoped-isolation=none"],
            Isolation::None,
            vec![notice.to_owned()],
        ),
        (
            &["--cluster-scoped-isolation=none", "--isolation=NAMESPACED"],
            Isolation::Namespaced,
            vec![],
        ),
        (&["--isolation="], Isolation::Prefixed, vec![]),
    ] {
        let expected = Config {
            isolation,
            notices,
            ..defaults()
        };
        assert_eq!(run(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_server_url_is_kept_without_a_trailing_slash() {
    let vw = "https://kcp.example.com:6443/services/apiexport/1a2b/kube-bind.io";
    let config = run(&[
        "--multicluster-runtime-provider=kcp",
        &format!("--server-url={vw}/"),
    ]);
    assert_eq!(
        config.server_url.map(|url| url.to_string()).as_deref(),
        Some(vw)
    );
    let config = run(&["--server-url=https://10.0.0.1:6443"]);
    assert_eq!(
        config.server_url.map(|url| url.to_string()).as_deref(),
        Some("https://10.0.0.1:6443/")
    );
}

#[test]
fn listen_addresses_are_read_as_go_reads_them() {
    for (argument, expected) in [
        ("--listen-address=:0", "0.0.0.0:0"),
        ("--listen-address=0.0.0.0:9090", "0.0.0.0:9090"),
        ("--listen-address=localhost:80", "127.0.0.1:80"),
        ("--listen-address=[::1]:80", "[::1]:80"),
    ] {
        assert_eq!(run(&[argument]).listen_address.to_string(), expected);
    }
    let config = run(&[
        "--listen-ip=0.0.0.0",
        "--listen-port=99",
        "--admin-address=:9",
    ]);
    let expected = Config {
        listen_address: ([0, 0, 0, 0], 99).into(),
        admin_address: Some(([0, 0, 0, 0], 9).into()),
        notices: vec![
            "--listen-ip and --listen-port are deprecated, use --listen-address instead".to_owned(),
        ],
        ..defaults()
    };
    assert_eq!(config, expected);
}

#[test]
fn an_external_address_is_kept_verbatim() {
    let config = run(&[
        "--external-address=https://kcp.example.com:443",
        "--external-server-name=kcp",
    ]);
    let expected = Config {
        external_address: ExternalAddress::parse("https://kcp.example.com:443").ok(),
        external_server_name: Some("kcp".to_owned()),
        ..defaults()
    };
    assert_eq!(config, expected);
}

/// Contract flags.md 2 and 5: a command line of v0.5.0 to v0.8.1 starts.
#[test]
fn every_documented_flag_starts() {
    for argument in [
        "--kubeconfig=/dev/null",
        "--context=x",
        "--multicluster-runtime-provider=kcp",
        "--multicluster-runtime-provider=",
        "--apiexport-endpoint-slice-name=kube-bind.io",
        "--apibinding-ignore-prefixes=a,b",
        "--schema-source=CustomResourceDefinition.v1.apiextensions.k8s.io",
        "--schema-sync-interval=1m",
        "--namespace-prefix=cluster",
        "--pretty-name=x",
        "--consumer-scope=NAMESPACED",
        "--isolation=prefixed",
        "--cluster-scoped-isolation=Prefixed",
        "--external-address=https://api.example.com",
        "--external-ca-file=",
        "--external-server-name=x",
        "--server-url=https://api.example.com",
        "--listen-address=:0",
        "--listen-ip=127.0.0.1",
        "--listen-port=8080",
        "--tls-cert-file=/x",
        "--tls-key-file=/x",
        "--frontend=embedded",
        "--frontend-disabled",
        "--token-expiry=1h",
        "--konnector-host-alias=1.2.3.4:a",
        "--oidc-type=embedded",
        "--oidc-issuer-url=http://127.0.0.1:8080/oidc",
        "--oidc-callback-url=http://127.0.0.1:8080/api/callback",
        "--oidc-issuer-client-id=x",
        "--oidc-issuer-client-secret=-x",
        "--oidc-allowed-groups=g",
        "--oidc-allowed-users=u",
        "--oidc-authorize-url=x",
        "--oidc-ca-file=x",
        "--cookie-signing-key=eA==",
        "--cookie-encryption-key=eA==",
        "--redis-addr=redis:6379",
        "-v=2",
        "--v=2",
        "--vmodule=a=1",
        "--logging-format=text",
        "--log-flush-frequency=5s",
        "--log-text-split-stream",
        "--log-text-split-stream=true",
        "--log-text-info-buffer-size=0",
        "--testing-auto-select=cowboys.wildwest.dev",
        // Our own.
        "--admin-address=:0",
        "--serve-export-workspace",
    ] {
        run(&[argument]);
    }
}

#[test]
fn ignored_flags_are_named_once_without_their_values() {
    let config = run(&[
        "--oidc-type=embedded",
        "--oidc-issuer-client-secret=s3cret",
        "--oidc-issuer-client-secret=s3cret2",
        "--log-text-split-stream",
    ]);
    assert_eq!(
        config.notices,
        [
            "flags without effect while the front end is disabled: --oidc-type, --oidc-issuer-client-secret, \
             --log-text-split-stream"
        ]
    );
}

#[test]
fn unknown_flags_are_refused_with_a_suggestion() {
    let Err(Error::Usage(error)) = parsed(&[HEADLESS, "--consumer-scop=x"]) else {
        panic!("an unknown flag was accepted");
    };
    assert!(error.to_string().contains("--consumer-scope"), "{error}");
    assert_eq!(error.exit_code(), 2);
    for unknown in ["--log-level=2", "--session-redis-addr=x", "word"] {
        assert!(
            matches!(parsed(&[HEADLESS, unknown]), Err(Error::Usage(_))),
            "{unknown}"
        );
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
    assert!(
        message.starts_with("--kubeconfig: cannot read \"/nowhere/kc\": "),
        "{message}"
    );
    let message = refused(&[HEADLESS, "--external-ca-file=/nowhere/ca"]);
    assert!(
        message.starts_with("--external-ca-file: cannot read \"/nowhere/ca\": "),
        "{message}"
    );
    assert_eq!(
        refused(&[HEADLESS, "--external-ca-file=/dev/null"]),
        "--external-ca-file: \"/dev/null\" holds no certificate; name a PEM file with the CA of the API server"
    );
}

/// Contract flags.md 3: the first failing rule wins.
#[test]
fn rules_are_checked_in_the_order_of_the_contract() {
    let wrong = [
        "--external-ca-file=/nowhere/ca",
        "--namespace-prefix=",
        "--pretty-name=",
        "--frontend-disabled=false",
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

#[test]
fn without_frontend_disabled_one_line_tells_what_to_add() {
    assert_eq!(
        refused(&[]),
        "this version serves consumers without an HTTP front end only; add `--frontend-disabled=true`"
    );
}

#[test]
fn init_has_flags_of_its_own() {
    let expected = |workspace: &str, output: &str| {
        Command::Init(InitConfig {
            kubeconfig: None,
            context: None,
            workspace: WorkspacePath::parse(workspace).unwrap(),
            output: output.into(),
            export_name: "kube-bind.io".to_owned(),
        })
    };
    assert_eq!(
        parsed(&["init"]).unwrap(),
        expected("root:kube-bind", "backend.kubeconfig")
    );
    assert_eq!(
        parsed(&["init", "--workspace=root:a:b", "--output", "k"]).unwrap(),
        expected("root:a:b", "k")
    );
    assert!(refused(&["init", "--workspace=a"]).starts_with("--workspace: \"a\" is not"));
    assert!(matches!(
        parsed(&["init", "--isolation=None"]),
        Err(Error::Usage(_))
    ));
}
