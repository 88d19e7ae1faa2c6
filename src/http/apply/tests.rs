//! The bad inputs 46 to 53 of security.md, from the body of the request to the objects in the
//! consumer's cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::testing::{
    Api, Names, Server, TOKEN, kubeconfig, limits, loopback, network, tcp, with_user,
};
use super::*;
use crate::consumer::networks::ConsumerNetworks;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/kube-bind/deployments/konnector";

fn request(kubeconfig: &str) -> ApplyRequest {
    let body = json!({ "consumerKubeconfig": STANDARD.encode(kubeconfig), "bindingName": "cows" });
    serde_json::from_value(body).unwrap()
}

fn applier(names: Arc<Names>, limits: Limits) -> Applier {
    Applier::new(network(names, limits), Konnector::default())
}

/// As it is without `--consumer-cidr`.
fn closed(names: Arc<Names>) -> Applier {
    let network = Network::new(ConsumerNetworks::default(), names, limits());
    Applier::new(network, Konnector::default())
}

fn no_names() -> Arc<Names> {
    Names::of("unused", &[])
}

fn provider() -> SecretString {
    let kubeconfig = Kubeconfig {
        server: "https://kcp.example.com/clusters/a".to_owned(),
        ca_data: None,
        tls_server_name: None,
        namespace: "cluster-1".to_owned(),
        token: SecretString::from("provider-canary".to_owned()),
    };
    kubeconfig.to_yaml()
}

async fn apply(applier: &Applier, server: &str) -> Result<Applied, Error> {
    let target = applier.open(&request(&kubeconfig(server))).await?;
    applier.apply(target, &provider()).await
}

async fn canary() -> Server {
    tcp(loopback(), |_| async {}.boxed()).await
}

/// The refusal of a request, with the words and the status of its answer.
async fn refused(applier: &Applier, request: &ApplyRequest) -> (u16, &'static str, String) {
    let error = applier.open(request).await.unwrap_err();
    (error.status().as_u16(), error.message(), error.to_string())
}

#[tokio::test]
async fn a_body_without_what_is_needed_is_refused_in_the_words_of_the_contract() {
    let kubeconfig = STANDARD.encode(kubeconfig("https://127.0.0.1:1"));
    let long = "x".repeat(MAX_NAME + 1);
    let many = vec!["1.2.3.4:a"; MAX_ALIASES + 1];
    for (body, message) in [
        (json!({}), "Missing consumer kubeconfig"),
        (json!({ "bindingName": "cows" }), "Missing consumer kubeconfig"),
        (json!({ "consumerKubeconfig": kubeconfig }), "Missing binding name"),
        (
            json!({ "consumerKubeconfig": "%", "bindingName": "a" }),
            "Invalid consumer kubeconfig encoding",
        ),
        (
            json!({ "consumerKubeconfig": "eA==", "bindingName": "a" }),
            "Invalid consumer kubeconfig",
        ),
        (
            json!({ "consumerKubeconfig": kubeconfig, "bindingName": "../a" }),
            "Invalid binding name",
        ),
        (json!({ "consumerKubeconfig": kubeconfig, "bindingName": "A" }), "Invalid binding name"),
        (json!({ "consumerKubeconfig": kubeconfig, "bindingName": long }), "Invalid binding name"),
        (
            json!({ "consumerKubeconfig": kubeconfig, "bindingName": "a", "hostAliases": ["a"] }),
            "Invalid host alias",
        ),
        (
            json!({ "consumerKubeconfig": kubeconfig, "bindingName": "a", "hostAliases": many }),
            "Invalid host alias",
        ),
    ] {
        let request: ApplyRequest = serde_json::from_value(body).unwrap();
        let (status, words, _) = refused(&applier(no_names(), limits()), &request).await;
        assert_eq!((status, words), (400, message));
    }
    let null = json!({ "consumerKubeconfig": kubeconfig, "bindingName": "a", "hostAliases": null, "x": 1 });
    let request: ApplyRequest = serde_json::from_value(null).unwrap();
    assert!(!format!("{request:?}").contains(&kubeconfig));
    assert_eq!(applier(no_names(), limits()).open(&request).await.unwrap().binding(), "a");
}

#[tokio::test]
async fn bad_input_46_a_program_is_not_run() {
    let file = std::env::temp_dir().join(format!("kube-bind-canary-{}", std::process::id()));
    let canary = canary().await;
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [file],
    } });
    let yaml = with_user(&canary.url(), &exec);
    let (status, _, text) = refused(&applier(no_names(), limits()), &request(&yaml)).await;
    assert_eq!(status, 400);
    assert!(text.contains("the field exec") && text.contains("kubectl create token"), "{text}");
    assert!(!file.exists());
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn bad_inputs_47_and_49_files_proxies_and_shortcuts_are_refused_without_a_call() {
    let canary = canary().await;
    let user = |user: Value| with_user(&canary.url(), &user);
    let cluster = |field: &str, value: Value| {
        let mut file: Value = serde_json::from_str(&kubeconfig(&canary.url())).unwrap();
        file["clusters"][0]["cluster"][field] = value;
        file.to_string()
    };
    for (yaml, field) in [
        (user(json!({ "tokenFile": "/var/run/secrets/token" })), "tokenFile"),
        (user(json!({ "token": "t", "client-key": "/etc/key" })), "client-key"),
        (user(json!({ "token": "t", "client-certificate": "/etc/x" })), "client-certificate"),
        (cluster("certificate-authority", json!("/etc/ca")), "certificate-authority"),
        (cluster("proxy-url", json!("http://127.0.0.1:1")), "proxy-url"),
        (cluster("insecure-skip-tls-verify", json!(true)), "insecure-skip-tls-verify"),
        (user(json!({ "token": "t", "as": "system:admin" })), "as"),
        (user(json!({ "auth-provider": { "name": "gcp" } })), "auth-provider"),
        (user(json!({ "username": "u" })), "username"),
    ] {
        let (status, words, text) = refused(&applier(no_names(), limits()), &request(&yaml)).await;
        assert_eq!((status, words), (400, "Invalid consumer kubeconfig"));
        assert!(text.contains(&format!("the field {field}:")), "{text}");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn bad_input_48_closed_addresses_are_not_called_however_they_are_spelled() {
    let canary = canary().await;
    let port = canary.address.port();
    let names = Names::of("rebound.test", &[&["8.8.8.8", "127.0.0.1"], &["127.0.0.1"]]);
    for host in [
        "127.0.0.1",
        "169.254.169.254",
        "[::1]",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "rebound.test",
        "user@127.0.0.1",
        "10.96.0.1",
    ] {
        let server = format!("https://{host}:{port}");
        let (status, ..) = refused(&closed(names.clone()), &request(&kubeconfig(&server))).await;
        assert_eq!(status, 400, "{server}");
    }
    let plain = format!("http://127.0.0.1:{port}");
    let open = applier(no_names(), limits());
    assert_eq!(refused(&open, &request(&kubeconfig(&plain))).await.0, 400);
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn bad_input_48_a_name_that_is_rebound_is_still_called_where_it_was_checked() {
    let api = Arc::new(Api::default());
    let first = api.serve().await;
    let second = SocketAddr::from(([127, 0, 0, 2], first.address.port()));
    let second = tcp(second, |_| async {}.boxed()).await;
    // Both are open here, so that only the second look could tell them apart.
    let names = Names::of("consumer.test", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let server = format!("https://consumer.test:{}", first.address.port());
    let applier = applier(names.clone(), limits());
    let target = applier.open(&request(&kubeconfig(&server))).await.unwrap();
    assert_eq!(names.looks(), 1);
    applier.apply(target, &provider()).await.unwrap();
    assert!(first.connections() > 0);
    assert_eq!(second.connections(), 0);
}

#[tokio::test]
async fn bad_input_50_a_yaml_bomb_is_a_bad_request() {
    let bombs = ["[".repeat(700_000), "a: &a [*a]".to_owned(), "a: 1\n---\na: 1\n".to_owned()];
    for bomb in &bombs {
        let (status, words, _) = refused(&applier(no_names(), limits()), &request(bomb)).await;
        assert_eq!((status, words), (400, "Invalid consumer kubeconfig"));
    }
}

#[tokio::test]
async fn bad_input_51_a_server_without_answers_ends_in_a_gateway_timeout() {
    let silent = tcp(loopback(), |stream| {
        async move {
            let _held = stream;
            std::future::pending::<()>().await;
        }
        .boxed()
    })
    .await;
    let limits = Limits { call: Duration::from_millis(200), ..limits() };
    let start = Instant::now();
    let error = apply(&applier(no_names(), limits), &silent.url()).await.unwrap_err();
    assert_eq!(error.status().as_u16(), 504);
    assert_eq!(error.message(), "Failed to apply binding to consumer cluster");
    assert!(start.elapsed() < limits.total);
}

#[tokio::test]
async fn bad_input_51_a_definition_that_is_never_served_ends_at_the_deadline() {
    let api = Arc::new(Api::default());
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/apiservicebindingbundles.kube-bind.io";
    let server = api.serve().await;
    let limits = Limits { total: Duration::from_millis(1500), ..limits() };
    let applier = applier(no_names(), limits);
    let target = applier.open(&request(&kubeconfig(&server.url()))).await.unwrap();
    let saboteur = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let Some(object) = api.objects.lock().unwrap().get_mut(definition) {
                object.as_object_mut().unwrap().remove("status");
            }
        }
    };
    let provider = provider();
    let error = tokio::select! {
        answer = applier.apply(target, &provider) => answer.unwrap_err(),
        () = saboteur => unreachable!(),
    };
    assert_eq!(error.status().as_u16(), 504, "{error}");
}

#[tokio::test]
async fn bad_input_52_a_foreign_deployment_is_a_conflict_and_stays_as_it_is() {
    let containers = [json!([]), json!([{ "name": "web", "image": "nginx" }])];
    for containers in containers {
        let api = Arc::new(Api::default());
        let foreign = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "konnector", "namespace": "kube-bind", "resourceVersion": "1" },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "spec": { "containers": containers } },
            },
        });
        api.put(DEPLOYMENT, foreign.clone());
        let server = api.serve().await;
        let error = apply(&applier(no_names(), limits()), &server.url()).await.unwrap_err();
        assert_eq!(error.status().as_u16(), 409);
        assert!(error.to_string().contains("kube-bind/konnector"), "{error}");
        assert_eq!(api.object(DEPLOYMENT), foreign);
        assert_eq!(api.paths(), [DEPLOYMENT]);
        assert_eq!(api.writes(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn bad_input_53_two_at_once_both_succeed_and_make_everything_once() {
    for _ in 0..5 {
        let api = Arc::new(Api::default());
        let server = api.serve().await;
        let applier = applier(no_names(), limits());
        // In tasks of their own, as routes are.
        let start = || {
            let (applier, url) = (applier.clone(), server.url());
            tokio::spawn(async move { Box::pin(apply(&applier, &url)).await.unwrap() })
        };
        let (one, other) = tokio::join!(start(), start());
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(one.konnector_deployed != other.konnector_deployed, "{one:?} {other:?}");
        let mut writes = api.writes();
        writes.sort_unstable();
        assert_eq!(writes, first_writes());
    }
}

#[tokio::test]
async fn bad_input_53_after_the_death_of_the_process_the_next_one_completes_the_work() {
    let whole = Arc::new(Api::default());
    let server = whole.serve().await;
    apply(&applier(no_names(), limits()), &server.url()).await.unwrap();
    for writes in 0..first_writes().len() {
        let api = Arc::new(Api::default());
        *api.dies_after.lock().unwrap() = Some(writes);
        let server = api.serve().await;
        let applier = applier(no_names(), limits());
        let url = server.url();
        let dying = apply(&applier, &url);
        let died = tokio::time::timeout(Duration::from_secs(1), async {
            let until = async {
                while api.writes.lock().unwrap().len() <= writes {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { answer = dying => drop(answer.unwrap()), () = until => {} }
        });
        Box::pin(died).await.unwrap();
        assert_eq!(api.writes().len(), writes + 1);
        *api.dies_after.lock().unwrap() = None;
        let answer = apply(&applier, &server.url()).await.unwrap();
        assert!(answer.bundle_created);
        assert_eq!(*api.objects.lock().unwrap(), *whole.objects.lock().unwrap(), "{writes}");
    }
}

/// The writes into an empty cluster, sorted.
fn first_writes() -> Vec<String> {
    let mut writes = [
        "POST /api/v1/namespaces",
        "POST /api/v1/namespaces/kube-bind/serviceaccounts",
        "POST /apis/rbac.authorization.k8s.io/v1/clusterroles",
        "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "POST /api/v1/namespaces/kube-bind/secrets",
        "POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "POST /apis/apps/v1/namespaces/kube-bind/deployments",
        "POST /apis/kube-bind.io/v1alpha2/apiservicebindingbundles",
    ]
    .map(str::to_owned)
    .to_vec();
    writes.sort_unstable();
    writes
}

#[tokio::test]
async fn an_applied_binding_is_there_and_a_second_time_nothing_is_written() {
    let api = Arc::new(Api::default());
    let server = api.serve().await;
    let applier = applier(no_names(), limits());
    let answer = |deployed: bool| {
        json!({
            "konnectorDeployed": deployed,
            "bundleCreated": true,
            "message": "Konnector and binding bundle applied successfully",
        })
    };
    let first = apply(&applier, &server.url()).await.unwrap();
    assert_eq!(serde_json::to_value(&first).unwrap(), answer(true));
    assert_eq!(api.writes().len(), first_writes().len());
    let secret = api.object("/api/v1/namespaces/kube-bind/secrets/kubeconfig-cows");
    let text = STANDARD.decode(secret["data"]["kubeconfig"].as_str().unwrap()).unwrap();
    assert_eq!(text, provider().expose_secret().as_bytes());
    let second = apply(&applier, &server.url()).await.unwrap();
    assert_eq!(serde_json::to_value(&second).unwrap(), answer(false));
    assert_eq!(api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn host_aliases_come_from_the_request_else_the_operator_and_the_provider_s_host_is_added() {
    let own = HostAlias::parse_list(&["10.0.0.7:from.operator"]).unwrap();
    for (asked, address, expected) in [
        (
            json!([]),
            "172.18.0.2",
            json!([
                { "ip": "10.0.0.7", "hostnames": ["from.operator"] },
                { "ip": "172.18.0.2", "hostnames": ["kcp.example.com"] },
            ]),
        ),
        (
            json!(["10.0.0.8:from.user"]),
            "8.8.8.8",
            json!([
                { "ip": "10.0.0.8", "hostnames": ["from.user"] },
            ]),
        ),
        (
            json!(["10.0.0.8:kcp.example.com"]),
            "172.18.0.2",
            json!([
                { "ip": "10.0.0.8", "hostnames": ["kcp.example.com"] },
            ]),
        ),
    ] {
        let api = Arc::new(Api::default());
        let server = api.serve().await;
        let konnector = Konnector { host_aliases: own.clone(), ..Konnector::default() };
        let names = Names::of("kcp.example.com", &[&[address]]);
        let applier = Applier::new(network(names, limits()), konnector);
        let request = ApplyRequest {
            host_aliases: serde_json::from_value(asked).unwrap(),
            ..request(&kubeconfig(&server.url()))
        };
        let target = applier.open(&request).await.unwrap();
        applier.apply(target, &provider()).await.unwrap();
        let pod = &api.object(DEPLOYMENT)["spec"]["template"]["spec"];
        assert_eq!(pod["hostAliases"], expected);
    }
}

#[tokio::test]
async fn a_refusal_of_the_consumer_names_the_object_and_nothing_else() {
    let api = Arc::new(Api::default());
    let server = api.serve().await;
    let yaml = with_user(&server.url(), &json!({ "token": "another-canary" }));
    let applier = applier(no_names(), limits());
    let target = applier.open(&request(&yaml)).await.unwrap();
    let error = applier.apply(target, &provider()).await.unwrap_err();
    assert_eq!(error.status().as_u16(), 502);
    assert_eq!(
        error.to_string(),
        "to read Namespace kube-bind in the consumer's cluster failed: its API server answered 401 \
         (Unauthorized); upload a kubeconfig with a valid credential"
    );
    let debug = format!("{error:?}");
    assert!(!debug.contains("canary") && !debug.contains(TOKEN));
}
