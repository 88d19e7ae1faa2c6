mod refused;

use crate::api::v1alpha2::{Isolation, Scope};

use super::*;
use crate::api::claims::{API_BINDINGS, CLAIMS};
use crate::consumer::external::ExternalAddress;

const HEADLESS: &str = "--frontend-disabled=true";

fn parsed(arguments: &[&str]) -> Result<Command, Error> {
    parse_from(["backend"].iter().chain(arguments), Environment::default())
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
        endpoint_slice_names: vec!["kube-bind.io".to_owned()],
        state_dir: None,
        server_url: None,
        serve_export_workspace: false,
        apibinding_ignore_prefixes: ["kube-bind.io", "tenancy.kcp.io", "topology.kcp.io"]
            .map(str::to_owned)
            .to_vec(),
        templates_from_bindings: true,
        schema_source: SchemaSource::CustomResourceDefinitions,
        namespace_prefix: "cluster-".to_owned(),
        pretty_name: "Backend".to_owned(),
        consumer_scope: Scope::Namespaced,
        isolation: Isolation::Prefixed,
        allow_shared_cluster_scope: false,
        external_address: None,
        external_ca: None,
        external_server_name: None,
        oidc_allowed_groups: vec![],
        oidc_allowed_users: vec![],
        listen_address: ([127, 0, 0, 1], 8080).into(),
        front: None,
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
        consumer_scope: Scope::Cluster,
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
        let expected = Config { context: Some("a".to_owned()), verbosity: 4, ..defaults() };
        assert_eq!(run(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn of_a_repeated_flag_the_last_one_counts() {
    assert_eq!(run(&["--context=a", "--context=b"]).context.as_deref(), Some("b"));
    let last = refused(&[HEADLESS, "--frontend-disabled=false"]);
    assert!(last.starts_with("--oidc-issuer-client-id is needed"), "{last}");
}

#[test]
fn a_state_directory_without_a_slice_to_read_is_said_to_have_no_effect() {
    let kcp = "--multicluster-runtime-provider=kcp";
    let url = "--server-url=https://kcp/services/apiexport/abc/kube-bind.io";
    for (flags, notices) in [(vec![kcp], 0), (vec![kcp, url], 1), (vec![], 1)] {
        let config = run(&[&flags[..], &["--state-dir=/var/lib/kube-bind"]].concat());
        assert_eq!(config.state_dir.as_deref(), Some("/var/lib/kube-bind".as_ref()));
        assert_eq!(config.notices.len(), notices, "{flags:?}: {:?}", config.notices);
    }
}

#[test]
fn endpoint_slices_are_as_many_as_are_named() {
    let config =
        run(&["--apiexport-endpoint-slice-name=east", "--apiexport-endpoint-slice-name=west"]);
    assert_eq!(config.endpoint_slice_names, ["east", "west"]);
    let refused = refused(&[
        "--apiexport-endpoint-slice-name=east",
        HEADLESS,
        "--apiexport-endpoint-slice-name=We st",
    ]);
    assert!(refused.contains("--apiexport-endpoint-slice-name"), "{refused}");
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
        assert_eq!(run(&[argument]).serve_export_workspace, expected, "{argument}");
    }
    assert!(matches!(parsed(&["--frontend-disabled"]), Ok(Command::Run(_))));
    assert!(matches!(parsed(&["--frontend-disabled=yes"]), Err(Error::Usage(_))));
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
        (&["--cluster-scoped-isolation=none"][..], Isolation::None, vec![notice.to_owned()]),
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
        let expected = Config { isolation, notices, ..defaults() };
        assert_eq!(run(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_server_url_is_kept_without_a_trailing_slash() {
    let vw = "https://kcp.example.com:6443/services/apiexport/1a2b/kube-bind.io";
    let config = run(&["--multicluster-runtime-provider=kcp", &format!("--server-url={vw}/")]);
    assert_eq!(config.server_url.map(|url| url.to_string()).as_deref(), Some(vw));
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
    let config = run(&["--listen-ip=0.0.0.0", "--listen-port=99", "--admin-address=:9"]);
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
    let config =
        run(&["--external-address=https://kcp.example.com:443", "--external-server-name=kcp"]);
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
        "--allow-shared-cluster-scope",
        "--external-url=x",
        "--allow-plain-http",
        "--audit-log=-",
        "--oidc-username-claim=x",
        "--oidc-groups-claim=x",
        "--allow-remote-embedded-oidc",
        "--session-key-file=/x",
        "--redis-tls",
        "--redis-ca-file=/x",
        "--konnector-image=x",
        "--enable-apply-binding",
        "--consumer-cidr=x",
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
        ["flags without effect: --oidc-type, --oidc-issuer-client-secret, --log-text-split-stream"]
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
            claims: CLAIMS.to_vec(),
            flags: vec![],
            http_api: false,
            serves_export: false,
        })
    };
    assert_eq!(parsed(&["init"]).unwrap(), expected("root:kube-bind", "backend.kubeconfig"));
    assert_eq!(
        parsed(&["init", "--workspace=root:a:b", "--output", "k"]).unwrap(),
        expected("root:a:b", "k")
    );
    let Command::Init(given) =
        parsed(&["init", "--schema-source=customresourcedefinitions", "--isolation=none"]).unwrap()
    else {
        panic!("not init");
    };
    assert_eq!(given.flags, ["--schema-source=customresourcedefinitions", "--isolation=none"]);
    assert!(!given.claims.contains(&API_BINDINGS));
    assert!(refused(&["init", "--workspace=a"]).starts_with("--workspace: \"a\" is not"));
    assert!(matches!(parsed(&["init", "--no-such-flag=x"]), Err(Error::Usage(_))));
}

#[test]
fn init_takes_the_flags_of_the_backend_and_names_those_that_it_has_to_be_started_with() {
    let parse = |flags: &[&str]| {
        let all: Vec<&str> = ["init"].into_iter().chain(flags.iter().copied()).collect();
        let Command::Init(config) = parsed(&all).unwrap() else { panic!("not init") };
        (config.flags, config.http_api)
    };
    let flags = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        parse(&[
            "--multicluster-runtime-provider=kcp",
            "--server-url=https://kcp/services/apiexport/a/kube-bind.io",
            "--apiexport-endpoint-slice-name=east",
            "--apiexport-endpoint-slice-name=west",
            "--templates-from-bindings=false",
            "--namespace-prefix=kube-bind-",
            "--frontend-disabled",
            "--vmodule=x=4",
            "-v=4",
        ]),
        (
            flags(&[
                "--apiexport-endpoint-slice-name=east",
                "--apiexport-endpoint-slice-name=west",
                "--server-url=https://kcp/services/apiexport/a/kube-bind.io",
                "--templates-from-bindings=false",
                "--namespace-prefix=kube-bind-",
            ]),
            false,
        )
    );
    let (given, http_api) = parse(&["--oidc-issuer-client-secret=s3cret", "--pretty-name=Mine"]);
    assert_eq!((given, http_api), (flags(&["--pretty-name=Mine"]), true));
    assert!(refused(&["init", "--isolation=x"]).starts_with("--isolation: "));
}
