use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::fields::Section as _;
use super::*;

const SERVER_CERTIFICATE: &str = include_str!("../testdata/server.crt");
const CLIENT_CERTIFICATE: &str = include_str!("../testdata/client.crt");
const CLIENT_KEY: &str = include_str!("../testdata/client.key");

/// Cluster and user as given, in a file with another context beside.
fn file(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
preferences: {{}}
extensions: []
clusters:
- name: other
  cluster: {{server: 'http://127.0.0.1', insecure-skip-tls-verify: true}}
- name: c
  cluster:
    {cluster}
contexts:
- name: other
  context: {{cluster: other, user: other}}
- name: x
  context: {{cluster: c, user: u, namespace: n}}
current-context: x
users:
- name: other
  user: {{exec: {{command: sh}}}}
- name: u
  user:
    {user}
"
    )
}

const SERVER: &str = "server: https://api.example.com:6443";
const TOKEN: &str = "token: s3cret-t0ken";

fn refusal(yaml: &str) -> Error {
    ConsumerKubeconfig::parse(yaml.as_bytes()).map(|_| ()).expect_err(yaml)
}

#[test]
fn the_five_fields_of_the_current_context_are_read() {
    let (ca, certificate, key) = (
        STANDARD.encode(SERVER_CERTIFICATE),
        STANDARD.encode(CLIENT_CERTIFICATE),
        STANDARD.encode(CLIENT_KEY),
    );
    let yaml = file(
        &format!(
            "{SERVER}\n    certificate-authority-data: {ca}\n    extensions: [{{name: minikube}}]"
        ),
        &format!("{TOKEN}\n    client-certificate-data: {certificate}\n    client-key-data: {key}"),
    );
    let read = ConsumerKubeconfig::parse(yaml.as_bytes()).unwrap();
    assert_eq!(read.server, ServerUrl::parse("https://api.example.com:6443").unwrap());
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(read.authorities, Some(vec![der(SERVER_CERTIFICATE)]));
    assert_eq!(read.token.unwrap().expose_secret(), "s3cret-t0ken");
    let identity = read.identity.unwrap();
    assert_eq!(identity.chain, [der(CLIENT_CERTIFICATE)]);
    assert_eq!(*identity.key, PrivateKeyDer::from_pem_slice(CLIENT_KEY.as_bytes()).unwrap());
}

#[test]
fn a_token_is_enough_and_json_is_yaml() {
    let json = r#"{"current-context":"x","contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],
        "clusters":[{"name":"c","cluster":{"server":"https://a"}}],
        "users":[{"name":"u","user":{"token":"t","client-key-data":""}}]}"#;
    for text in [json.to_owned(), file(SERVER, TOKEN)] {
        let read = ConsumerKubeconfig::from_base64(&STANDARD.encode(&text)).unwrap();
        assert!(read.token.is_some() && read.authorities.is_none() && read.identity.is_none());
    }
}

#[test]
fn every_field_that_would_make_us_act_is_refused_by_name() {
    for (place, fields) in [("cluster", ClusterSection::REFUSED), ("user", UserSection::REFUSED)] {
        for (field, advice) in fields {
            for value in
                ["x", "{command: sh, args: [-c, 'touch /tmp/canary']}", "[a]", "null", "false"]
            {
                let line = format!("\n    {field}: {value}");
                let yaml = match place {
                    "cluster" => file(&format!("{SERVER}{line}"), TOKEN),
                    _ => file(SERVER, &format!("{TOKEN}{line}")),
                };
                let expected = Error::Field { place, field, advice };
                assert_eq!(refusal(&yaml), expected, "{field}: {value}");
                assert!(expected.to_string().contains(&format!("the field {field}:")));
            }
        }
    }
}

#[test]
fn the_issued_bad_inputs_are_among_them() {
    let of =
        |fields: &[(&'static str, &str)]| fields.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let known = [of(ClusterSection::REFUSED), of(UserSection::REFUSED)].concat();
    for field in [
        "exec",
        "auth-provider",
        "tokenFile",
        "client-certificate",
        "client-key",
        "certificate-authority",
        "proxy-url",
        "as",
        "as-groups",
        "insecure-skip-tls-verify",
        "username",
        "password",
        "tls-server-name",
    ] {
        assert!(known.contains(&field), "{field}");
    }
}

#[test]
fn an_unknown_field_is_named_if_it_cannot_be_a_credential() {
    for (line, shown) in [
        ("Token: x", "Token"),
        ("exec : x", "exec"),
        ("s3cret: x", "(not shown)"),
        ("abcdefghijklmnopqrstuvwxyzabcdefg: x", "(not shown)"),
    ] {
        let error = refusal(&file(SERVER, &format!("{TOKEN}\n    {line}")));
        match error {
            Error::UnknownField { field, .. } => assert_eq!(field, shown),
            Error::Field { field, .. } => assert_eq!(field, shown),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_not_usable_is_refused_without_quoting_a_value() {
    let certificate = STANDARD.encode(CLIENT_CERTIFICATE);
    let only = |user: &str| file(SERVER, user);
    for (yaml, part) in [
        (only("token: \"\""), "neither a token"),
        (only("{}"), "neither a token"),
        (only("token: \"s3cret x\""), "its token is"),
        (only("token: \"s3cret\\r\\nx: y\""), "its token is"),
        (only(&format!("token: s3cret{}", "x".repeat(MAX_TOKEN))), "its token is"),
        (only(&format!("client-certificate-data: {certificate}")), "belong together"),
        (only(&format!("{TOKEN}\n    client-key-data: {certificate}")), "belong together"),
        (
            only(&format!(
                "client-certificate-data: {certificate}\n    client-key-data: {certificate}"
            )),
            "client-key-data is not",
        ),
        (
            file(&format!("{SERVER}\n    certificate-authority-data: s3cret"), TOKEN),
            "certificate-authority-data is not",
        ),
        (
            file(&format!("{SERVER}\n    certificate-authority-data: czNjcmV0"), TOKEN),
            "certificate-authority-data is not",
        ),
        (file("server: https://u:s3cret@a", TOKEN), "it carries credentials"),
        (file("server: http://a", TOKEN), "it does not use https"),
        (file("server: https://0x7f.1", TOKEN), "unusual spelling"),
        (file("{}", TOKEN), "its cluster has no server"),
        (
            file(SERVER, TOKEN).replace("current-context: x", "current-context: s3cret"),
            "exactly one context",
        ),
        (file(SERVER, TOKEN).replace("current-context: x", ""), "no current context"),
        (file(SERVER, TOKEN).replace("name: other", "name: x"), "exactly one context"),
        (file(SERVER, TOKEN).replace("kind: Config", "kind: Secret"), "kind Config"),
        (file(SERVER, TOKEN).replace("cluster: c,", ""), "exactly one cluster"),
        (file(SERVER, TOKEN).replace("- name: u", "- name: s3cret"), "exactly one user"),
    ] {
        let error = refusal(&yaml);
        let text = format!("{error} {error:?}");
        assert!(text.contains(part), "{part}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn malformed_yaml_is_refused_without_quoting_it() {
    let good = file(SERVER, TOKEN);
    for yaml in [
        String::new(),
        "s3cret".to_owned(),
        "\u{0}".to_owned(),
        "users: {token: s3cret}".to_owned(),
        "users: s3cret".to_owned(),
        "- s3cret".to_owned(),
        format!("{good}---\n{good}"),
        format!("{good}...\n---\ns3cret: x\n"),
        good.replace("token: s3cret-t0ken", "token: &a s3cret"),
        good.replace("token: s3cret-t0ken", "<<: {token: s3cret}"),
        good.replace("preferences: {}", "preferences: &a {}\nx: *a"),
        good.replace("token: s3cret-t0ken", "token: s3cret\n    token: s3cret"),
        good.replace("token: s3cret-t0ken", "token: [s3cret]"),
    ] {
        let error = refusal(&yaml);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
        assert!(matches!(error, Error::Malformed { .. } | Error::Shape(_)), "{yaml}: {error:?}");
    }
    let error = ConsumerKubeconfig::parse(b"\xff\xfe").map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

#[test]
fn the_encoding_and_size_are_checked_before_anything_is_read() {
    let refused = |text: &str| ConsumerKubeconfig::from_base64(text).map(|_| ()).unwrap_err();
    assert_eq!(refused("%"), Error::Encoding);
    assert_eq!(refused("YQ"), Error::Encoding);
    let large = vec![b' '; MAX_BYTES + 1];
    assert_eq!(
        ConsumerKubeconfig::parse(&large).map(|_| ()).unwrap_err(),
        Error::TooLarge(MAX_BYTES + 1)
    );
    assert!(matches!(refused(&"A".repeat(2 * MAX_BYTES)), Error::TooLarge(_)));
}

#[test]
fn debug_output_hides_the_credential() {
    let read = ConsumerKubeconfig::parse(file(SERVER, TOKEN).as_bytes()).unwrap();
    assert!(!format!("{read:?}").contains("s3cret"));
}

/// Inputs that cost much to read for a reader without limits: how each begins, and what is repeated
/// after that up to the largest size.
fn bombs() -> Vec<(String, &'static str)> {
    let mut aliases = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in ('a'..='y').zip('b'..='z') {
        let list = vec![format!("*{from}"); 9].join(",");
        writeln!(aliases, "{to}: &{to} [{list}]").unwrap();
    }
    let repeated = [
        "[", "{", "{a: ", "[[],", "- ", "? ", "[]\n", "a: {}\n", "- a\n", "---\n", "&a ", "*a ",
        "!a ", "<<: {}\n", "# x\n", " ", "\n", "\t", "%\n", "\"", "'", "a\n", "\u{2028}",
    ];
    let begun = [
        ("a: &a x\n", "- *a\n"),
        ("\"", "x"),
        ("a: |\n", " x\n"),
        ("users:\n", "- {name: a, user: {token: b}}\n"),
        ("users: [", "{name: a, user: {token: b}},"),
        ("users: [{name: a, user: {", "a: b,"),
    ];
    let repeated = repeated.map(|unit| (String::new(), unit));
    let begun = begun.map(|(start, unit)| (start.to_owned(), unit));
    [(aliases, "")].into_iter().chain(repeated).chain(begun).collect()
}

fn grown((mut start, unit): (String, &str)) -> String {
    if !unit.is_empty() {
        start.push_str(&unit.repeat((MAX_BYTES - start.len()) / unit.len()));
    }
    start
}

const CHILD: &str = "KUBECONFIG_BOMB";

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Time that this thread was on a processor, in nanoseconds: not how long others kept it waiting.
fn on_cpu() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Prints time and memory of reading one input, and the memory that is measured for 24 MiB.
fn cost(number: usize) {
    let bomb = grown(bombs().swap_remove(number));
    let (time, memory) = (on_cpu(), peak());
    let refused = ConsumerKubeconfig::parse(bomb.as_bytes()).is_err();
    let (time, memory) = (on_cpu() - time, peak() - memory);
    let before = peak();
    let control = std::hint::black_box(vec![1_u8; 24 * 1024 * 1024]);
    let control = (peak() - before, control.len()).0;
    println!("cost {} {time} {memory} {control} .", u8::from(refused));
}

/// Each input is read in a process of its own (this test, run again), so that its peak is its own.
#[test]
fn no_input_costs_more_than_50_ms_and_20_mib() {
    if let Ok(number) = std::env::var(CHILD) {
        return cost(number.parse().unwrap());
    }
    for (number, bomb) in bombs().into_iter().enumerate() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("http::apply::kubeconfig::tests::no_input_costs_more_than_50_ms_and_20_mib")
            .env(CHILD, number.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        let cost = text.split("cost ").nth(1).unwrap_or_else(|| panic!("{bomb:?}: {text}"));
        let numbers: Vec<u64> = cost.split(' ').map_while(|number| number.parse().ok()).collect();
        let [refused, time, memory, control] = numbers[..] else { panic!("{bomb:?}: {text}") };
        println!("{:?} {:?}: {time} ns, {memory} KiB", bomb.0.get(..9), bomb.1);
        assert_eq!(refused, 1, "{bomb:?}");
        // Without optimisation everything takes longer; the limit is that of the product.
        let limit = if cfg!(debug_assertions) { 500_000_000 } else { 50_000_000 };
        assert!(time < limit, "{bomb:?} took {time} ns");
        assert!(memory < 20 * 1024, "{bomb:?} took {memory} KiB");
        assert!(control > 16 * 1024, "24 MiB were measured as {control} KiB");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = ConsumerKubeconfig::parse(text.as_bytes());
        let _ = ConsumerKubeconfig::from_base64(&text);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ConsumerKubeconfig::parse(&bytes);
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(
        position in 0..600_usize,
        text in "[\\-:{}\\[\\]&*!|>'\"%@`# \n\ta-z0-9]{0,8}",
        cut in 0..40_usize,
    ) {
        let mut file = file(SERVER, TOKEN);
        let start = position.min(file.len());
        let end = (start + cut).min(file.len());
        file.replace_range(start..end, &text);
        let _ = ConsumerKubeconfig::parse(file.as_bytes());
    }
}
