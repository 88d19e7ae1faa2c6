use super::*;
use crate::cli::{Command, Config, Error, parse_from};
use crate::consumer::host_alias::HostAlias;
use crate::consumer::networks::ConsumerNetworks;
use crate::http::external_url::ExternalUrl;
use crate::http::server::TlsFiles;

const EMBEDDED: [&str; 3] = [
    "--oidc-type=embedded",
    "--oidc-issuer-url=http://127.0.0.1:8080/oidc",
    "--oidc-callback-url=http://127.0.0.1:8080/api/callback",
];
const EXTERNAL: [&str; 4] = [
    "--oidc-issuer-url=https://id.example.com",
    "--oidc-callback-url=https://bind.example.com/api/callback",
    "--oidc-issuer-client-id=kube-bind",
    "--oidc-allowed-groups=dev",
];
const EPHEMERAL: &str = "without --session-key-file tokens of kubectl bind end with this process and are not known to \
                         other replicas";

fn parsed(arguments: &[&str], environment: Environment) -> Result<Config, Error> {
    match parse_from(["backend"].iter().chain(arguments), environment)? {
        Command::Run(config) => Ok(*config),
        other => panic!("{other:?}"),
    }
}

fn run(usual: &[&str], arguments: &[&str]) -> Config {
    let all: Vec<&str> = usual.iter().chain(arguments).copied().collect();
    parsed(&all, Environment::default()).unwrap_or_else(|err| panic!("{all:?}: {err}"))
}

fn refused(usual: &[&str], arguments: &[&str]) -> String {
    let all: Vec<&str> = usual.iter().chain(arguments).copied().collect();
    match parsed(&all, Environment::default()) {
        Err(Error::Invalid(error)) => error.to_string(),
        other => panic!("{all:?}: {other:?}"),
    }
}

fn expected(external: &str, issuer: &str, kind: IssuerConfig) -> FrontConfig {
    let external_url = ExternalUrl::parse(external, true).unwrap();
    FrontConfig {
        oidc: OidcConfig {
            issuer_url: issuer.to_owned(),
            callback_url: external_url.join("/api/callback"),
            issuer: kind,
            username_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
        },
        external_url,
        tls: None,
        audit: None,
        token_expiry: std::time::Duration::from_hours(1),
        session_keys: None,
        redis: None,
        konnector_image: "ghcr.io/kube-bind/konnector:v0.8.1".to_owned(),
        host_aliases: vec![],
        apply_binding: None,
    }
}

fn external(client_secret: Option<&str>) -> FrontConfig {
    let kind = IssuerConfig::External {
        client_id: "kube-bind".to_owned(),
        client_secret: client_secret.map(|text| Secret::new(text.to_owned())),
        ca: None,
    };
    expected("https://bind.example.com", "https://id.example.com", kind)
}

#[test]
fn the_command_line_of_the_upstream_docs_starts_with_the_issuer_for_development() {
    let config = run(&EMBEDDED, &[]);
    let front =
        expected("http://127.0.0.1:8080", "http://127.0.0.1:8080/oidc", IssuerConfig::Embedded);
    assert_eq!(config.front, Some(front));
    assert_eq!(config.oidc_allowed_groups, ["system:authenticated"]);
    assert_eq!(config.notices, [EPHEMERAL]);
}

#[test]
fn an_external_issuer_needs_a_client_and_somebody_who_may_bind() {
    assert_eq!(run(&EXTERNAL, &[]).front, Some(external(None)));
    assert_eq!(run(&EXTERNAL, &[]).oidc_allowed_groups, ["dev"]);
    assert_eq!(
        run(&EXTERNAL, &["--oidc-issuer-client-secret=-flag"]).front,
        Some(external(Some("-flag")))
    );
    let environment = Environment { client_secret: Some("env".to_owned()), redis_password: None };
    let all: Vec<&str> =
        EXTERNAL.iter().chain(&["--oidc-issuer-client-secret=flag"]).copied().collect();
    assert_eq!(parsed(&all, environment).unwrap().front, Some(external(Some("env"))));
    assert!(!format!("{:?}", external(Some("s3cret"))).contains("s3cret"));
}

#[test]
fn every_flag_arrives() {
    let config = run(
        &EXTERNAL,
        &[
            "--external-url=https://bind.example.com/",
            "--tls-cert-file=/tls/crt",
            "--tls-key-file=/tls/key",
            "--audit-log=/var/log/audit",
            "--oidc-username-claim=email",
            "--oidc-groups-claim=roles",
            "--token-expiry=5m",
            "--redis-addr=redis:6379",
            "--redis-tls",
            "--konnector-image=example.com/konnector:1",
            "--konnector-host-alias=192.0.2.1:a,b",
            "--enable-apply-binding",
            "--consumer-cidr=10.1.0.0/16,10.2.0.0/16",
            "--oidc-authorize-url=x",
            "--cookie-signing-key=QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=",
        ],
    );
    let mut front = external(None);
    front.tls = Some(TlsFiles { cert: "/tls/crt".into(), key: "/tls/key".into() });
    front.audit = Some(Audit::File("/var/log/audit".into()));
    front.oidc.username_claim = "email".to_owned();
    front.oidc.groups_claim = "roles".to_owned();
    front.token_expiry = std::time::Duration::from_mins(5);
    let address = "redis:6379".to_owned();
    front.redis = Some(RedisConfig { address, tls: true, ca: None, password: None });
    front.konnector_image = "example.com/konnector:1".to_owned();
    front.host_aliases = vec![HostAlias::parse("192.0.2.1:a,b").unwrap()];
    front.apply_binding = Some(ConsumerNetworks::parse(&["10.1.0.0/16", "10.2.0.0/16"]).unwrap());
    assert_eq!(config.front, Some(front));
    assert_eq!(
        config.notices,
        [
            "--oidc-authorize-url has no effect; leave it out",
            "--cookie-signing-key has no effect; leave it out",
            "--token-expiry is below 6m: kubectl bind refuses tokens that end within five minutes",
            EPHEMERAL,
        ]
    );
}

#[test]
fn what_cannot_work_is_refused_with_what_to_do() {
    let plain = "--oidc-callback-url=http://bind.example.com/api/callback";
    for (usual, argument, expected) in [
        (&EMBEDDED[..], "--tls-key-file=/x", "belong together"),
        (&EXTERNAL[..], "--oidc-issuer-client-id=", "--oidc-issuer-client-id is needed"),
        (&EXTERNAL[..], "--oidc-issuer-url=", "--oidc-issuer-url is needed"),
        (&EXTERNAL[..], "--oidc-callback-url=", "--oidc-callback-url is needed"),
        (&EMBEDDED[..], "--oidc-ca-file=/x", "leave it out with --oidc-type=embedded"),
        (&EXTERNAL[..], "--oidc-ca-file=/nowhere", "--oidc-ca-file: cannot read"),
        (&EXTERNAL[..], "--oidc-ca-file=/dev/null", "--oidc-ca-file: \"/dev/null\" holds no"),
        (&EXTERNAL[..], "--oidc-type=Embedded", "allowed are external and embedded"),
        (&EXTERNAL[..], "--oidc-issuer-url=ldap://x", "is not an http or https URL"),
        (&EXTERNAL[..], "--oidc-callback-url=https://x/callback", "/api/callback"),
        (&EXTERNAL[..], "--oidc-callback-url=https://x/y/api/callback", "is more than"),
        (&EXTERNAL[..], "--oidc-callback-url=https://x/api/callback?a=b", "is more than"),
        (&EMBEDDED[..], "--oidc-issuer-url=http://127.0.0.1:8080/dex", "served at /oidc"),
        (&EXTERNAL[..], "--cookie-signing-key=%", "--cookie-signing-key: it is not base64"),
        (&EXTERNAL[..], "--cookie-signing-key=eA==", "does not decode to 32 bytes"),
        (&EXTERNAL[..], "--cookie-encryption-key=eA==", "16, 24 or 32 bytes"),
        (&EXTERNAL[..], "--redis-tls", "need --redis-addr"),
        (&EXTERNAL[..], "--redis-addr=redis", "write host:port"),
        (&EXTERNAL[..], "--redis-addr=redis:0", "write host:port"),
        (&EXTERNAL[..], "--frontend=http://x", "--frontend: unknown value"),
        (&EXTERNAL[..], "--external-url=https://other.example.com", "is not at --external-url"),
        (&EXTERNAL[..], "--external-url=https://bind.example.com/x", "scheme, host and port"),
        (&EXTERNAL[..], plain, "or add --allow-plain-http"),
        (&EMBEDDED[..], "--oidc-issuer-url=http://127.0.0.1:81/oidc", "is not at --external-url"),
        (&EMBEDDED[..], "--listen-address=:8080", "or add --allow-remote-embedded-oidc"),
        (&EXTERNAL[..], "--token-expiry=59s", "the shortest allowed is 1m"),
        (&EXTERNAL[..], "--token-expiry=1", "lacks a unit"),
        (&EXTERNAL[..], "--session-key-file=/nowhere", "--session-key-file: cannot read"),
        (&EXTERNAL[..], "--konnector-image=", "--konnector-image: must not be empty"),
        (&EXTERNAL[..], "--konnector-host-alias=x", "--konnector-host-alias: "),
        (&EXTERNAL[..], "--consumer-cidr=10.0.0.0/16", "--enable-apply-binding"),
    ] {
        let message = refused(usual, &[argument]);
        assert!(message.contains(expected), "{argument}: {message}");
    }
    assert!(refused(&EXTERNAL[..3], &[]).starts_with("nobody may bind: "));
    let secret = || Environment { client_secret: Some("x".to_owned()), redis_password: None };
    let message = parsed(&EMBEDDED, secret()).unwrap_err().to_string();
    assert!(message.starts_with("OIDC_CLIENT_SECRET is set"), "{message}");
    let password = Environment { client_secret: None, redis_password: Some("x".to_owned()) };
    let message = parsed(&EXTERNAL, password).unwrap_err().to_string();
    assert!(message.starts_with("REDIS_PASSWORD is set"), "{message}");
}

#[test]
fn what_is_dangerous_has_a_flag() {
    let callback = "--oidc-callback-url=http://bind.example.com/api/callback";
    let plain = run(&EXTERNAL, &[callback, "--allow-plain-http"]).front.unwrap();
    assert_eq!(plain.external_url.origin(), "http://bind.example.com");
    run(&EMBEDDED, &["--listen-address=:8080", "--allow-remote-embedded-oidc"]);
}

/// Contract flags.md 3: the first failing rule wins.
#[test]
fn rules_are_checked_in_the_order_of_the_contract() {
    let wrong = [
        ("--pretty-name=", "--pretty-name"),
        ("--tls-cert-file=/x", "--tls-cert-file"),
        ("--oidc-issuer-client-id=", "--oidc-issuer-client-id"),
        ("--oidc-issuer-url=", "--oidc-issuer-url is needed"),
        ("--oidc-callback-url=", "--oidc-callback-url is needed"),
        ("--oidc-ca-file=/nowhere", "--oidc-ca-file"),
        ("--oidc-type=x", "--oidc-type"),
        ("--oidc-issuer-url=x", "--oidc-issuer-url: \"x\""),
        ("--oidc-callback-url=x", "--oidc-callback-url: \"x\""),
        ("--cookie-signing-key=%", "--cookie-signing-key"),
        ("--redis-addr=x", "--redis-addr"),
        ("--consumer-scope=x", "--consumer-scope"),
        ("--konnector-host-alias=x", "--konnector-host-alias"),
    ];
    for index in 0..wrong.len() {
        // The last of a repeated flag counts, so the earlier rule goes to the end.
        let arguments: Vec<&str> = wrong[index..].iter().rev().map(|(given, _)| *given).collect();
        let message = refused(&EXTERNAL, &arguments);
        assert!(message.contains(wrong[index].1), "{:?}: {message}", wrong[index]);
    }
}
