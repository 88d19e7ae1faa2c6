use super::*;

fn golden() -> Kubeconfig {
    Kubeconfig {
        server: "https://127.0.0.1:6443/clusters/28rwq3skw0u9rkqq".to_owned(),
        ca_data: Some(b"PEM of the CA".to_vec()),
        tls_server_name: None,
        namespace: "kube-bind-11p3ppvf18xmo".to_owned(),
        token: SecretString::from("eyJhbGciOi.eyJpc3-MiOi_.c2ln".to_owned()),
    }
}

const GOLDEN: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: UEVNIG9mIHRoZSBDQQ==
    server: https://127.0.0.1:6443/clusters/28rwq3skw0u9rkqq
  name: default
contexts:
- context:
    cluster: default
    namespace: kube-bind-11p3ppvf18xmo
    user: default
  name: default
current-context: default
kind: Config
users:
- name: default
  user:
    token: eyJhbGciOi.eyJpc3-MiOi_.c2ln
";

#[test]
fn the_yaml_is_byte_for_byte_that_of_the_go_backend() {
    assert_eq!(golden().to_yaml().expose_secret(), GOLDEN);
}

#[test]
fn optional_fields_stand_where_the_go_backend_puts_them() {
    let with_name =
        Kubeconfig { ca_data: None, tls_server_name: Some("kcp.internal".to_owned()), ..golden() };
    let expected = GOLDEN
        .replace("    certificate-authority-data: UEVNIG9mIHRoZSBDQQ==\n", "")
        .replace("28rwq3skw0u9rkqq\n", "28rwq3skw0u9rkqq\n    tls-server-name: kcp.internal\n");
    assert_eq!(with_name.to_yaml().expose_secret(), expected);
}

#[test]
fn what_was_written_is_read_back_with_the_same_access() {
    for kubeconfig in [
        golden(),
        Kubeconfig {
            ca_data: None,
            tls_server_name: Some("1.5".to_owned()),
            namespace: "1e5".to_owned(),
            server: "https://[::1]:6443".to_owned(),
            token: SecretString::from("no: \"#'\n".to_owned()),
        },
    ] {
        let read = Kubeconfig::parse(kubeconfig.to_yaml().expose_secret().as_bytes()).unwrap();
        assert!(read.same_access(&kubeconfig), "{read:?}");
    }
}

#[test]
fn another_writer_of_the_same_values_gives_the_same_access() {
    let json = r#"{"kind":"Config","apiVersion":"v1","preferences":{},
        "users":[{"user":{"token":"eyJhbGciOi.eyJpc3-MiOi_.c2ln"},"name":"u"}],
        "clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:6443/clusters/28rwq3skw0u9rkqq",
            "tls-server-name":"","certificate-authority-data":"UEVNIG9mIHRoZSBDQQ=="}}],
        "contexts":[{"name":"x","context":{"user":"u","cluster":"c","namespace":"kube-bind-11p3ppvf18xmo"}}],
        "current-context":"x"}"#;
    assert!(Kubeconfig::parse(json.as_bytes()).unwrap().same_access(&golden()));
}

#[test]
fn the_same_certificates_in_other_bytes_give_the_same_access() {
    let certificate =
        |der: &str| format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    let with = |pem: String| Kubeconfig { ca_data: Some(pem.into_bytes()), ..golden() };
    let (one, two) = (certificate("AAEC"), certificate("AwQF"));
    let both = with(format!("{one}{two}"));
    assert!(both.same_access(&with(format!("# the CAs\r\n{two}\n{one}\n"))));
    for other in [one.clone(), format!("{one}{}", certificate("AwQG")), String::new()] {
        assert!(!both.same_access(&with(other)));
    }
}

#[test]
fn any_changed_value_is_another_access() {
    let changed = [
        Kubeconfig { server: "https://x".to_owned(), ..golden() },
        Kubeconfig { ca_data: None, ..golden() },
        Kubeconfig { tls_server_name: Some("x".to_owned()), ..golden() },
        Kubeconfig { namespace: "x".to_owned(), ..golden() },
        Kubeconfig { token: SecretString::from("x".to_owned()), ..golden() },
    ];
    assert!(changed.iter().all(|other| !golden().same_access(other)));
    assert!(golden().same_access(&golden()));
}

#[test]
fn everything_but_the_five_values_is_refused() {
    let only_token = "its user may have a token only";
    let cluster =
        "its cluster may have server, certificate-authority-data and tls-server-name only";
    for (from, to, expected) in [
        ("    token:", "    exec: {command: sh}\n    token:", only_token),
        ("    token:", "    auth-provider: {name: gcp}\n    token:", only_token),
        ("    token:", "    tokenFile: /etc/passwd\n    token:", only_token),
        ("    token:", "    client-key-data: eA==\n    token:", only_token),
        ("    server:", "    insecure-skip-tls-verify: true\n    server:", cluster),
        ("    server:", "    proxy-url: http://p\n    server:", cluster),
        ("    server:", "    certificate-authority: /ca\n    server:", cluster),
        ("UEVN", "*", "its certificate-authority-data is not base64"),
        ("kind: Config", "kind: Secret", "it is not of kind Config, version v1"),
        (
            "current-context: default",
            "current-context: other",
            "its current context does not name its cluster and user",
        ),
        ("eyJhbGciOi.eyJpc3-MiOi_.c2ln", "\"\"", "its user has no token"),
        ("users:\n", "users:\n- name: b\n  user: {}\n", "it must have exactly one user"),
        (
            "kind: Config",
            "kind: Config\nextensions: []",
            "it has a field at the top that is not allowed",
        ),
    ] {
        let yaml = GOLDEN.replace(from, to).replace(": *", ": \"*");
        let yaml = if from == "UEVN" { yaml.replace("QQ==", "QQ==\"") } else { yaml };
        assert_eq!(
            Kubeconfig::parse(yaml.as_bytes()).unwrap_err(),
            Error::Shape(expected),
            "{yaml}"
        );
    }
}

#[test]
fn malformed_and_oversized_input_is_refused_without_quoting_it() {
    for yaml in [
        "",
        "token",
        "users: {token: s3cret}",
        "users: &a [*a]",
        "\u{0}",
        "a: &a x\nkind: *a",
        "---\nkind: Config\n---\nkind: Config\n",
    ] {
        let error = Kubeconfig::parse(yaml.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{yaml}");
    }
    let deep = "[".repeat(5000);
    assert!(matches!(Kubeconfig::parse(deep.as_bytes()), Err(Error::Malformed { .. })));
    assert_eq!(
        Kubeconfig::parse(&vec![b' '; MAX_BYTES + 1]).unwrap_err(),
        Error::TooLarge(MAX_BYTES + 1)
    );
}

#[test]
fn debug_output_hides_the_token() {
    assert!(!format!("{:?}", golden()).contains("eyJ"));
}
