use super::super::testing::{Names, limits};
use super::*;

fn closed(resolver: Arc<dyn Resolve>) -> Network {
    Network::new(ConsumerNetworks::default(), resolver, limits())
}

async fn look(network: &Network, server: &str) -> Result<Vec<String>, NetworkError> {
    let server = ServerUrl::parse(server).unwrap();
    let found = network.addresses(&server).await?;
    Ok(found.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn a_name_is_called_at_exactly_the_addresses_that_were_checked() {
    let names = Names::of("api.example.com", &[&["8.8.8.8", "2a00::1"], &["127.0.0.1"]]);
    let found = look(&closed(names.clone()), "https://API.example.com:6443").await;
    assert_eq!(found.unwrap(), ["8.8.8.8:6443", "[2a00::1]:6443"]);
    assert_eq!(names.looks(), 1);
}

#[tokio::test]
async fn one_closed_address_among_others_refuses_the_server() {
    for answer in [
        &["127.0.0.1"][..],
        &["8.8.8.8", "10.0.0.1"],
        &["169.254.169.254", "8.8.8.8"],
        &["::1"],
        &["8.8.8.8", "::ffff:10.0.0.1"],
        &["fe80::1"],
        &["64:ff9b::a00:1"],
        &["10.96.0.1"],
    ] {
        let names = Names::of("a.example.com", &[answer]);
        let error = look(&closed(names), "https://a.example.com").await.unwrap_err();
        assert!(matches!(error, NetworkError::Denied(_)), "{answer:?}: {error}");
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        let told = error.to_string();
        assert!(answer.iter().all(|ip| !told.contains(ip)), "{told} tells what DNS knows");
    }
}

#[tokio::test]
async fn an_address_needs_no_resolver_and_is_checked_too() {
    let names = Names::of("unused", &[]);
    for server in [
        "https://127.0.0.1",
        "https://169.254.169.254",
        "https://[::1]:6443",
        "https://10.0.0.1",
        "https://[::ffff:127.0.0.1]",
        "https://[fd00::1]",
        "https://0.0.0.0",
        "https://[::]",
    ] {
        let error = look(&closed(names.clone()), server).await.unwrap_err();
        assert!(matches!(error, NetworkError::Denied(_)), "{server}: {error}");
    }
    assert_eq!(look(&closed(names.clone()), "https://8.8.8.8:1").await.unwrap(), ["8.8.8.8:1"]);
    assert_eq!(names.looks(), 0);
}

#[tokio::test]
async fn the_own_host_is_refused_unless_a_network_names_it() {
    let own: IpAddr = "127.0.0.1".parse().unwrap();
    assert!(is_own(own));
    assert!(!is_own("192.0.2.1".parse().unwrap()));
    let open = ConsumerNetworks::parse(&["127.0.0.0/8"]).unwrap();
    let network = Network::new(open, Names::of("a", &[]), limits());
    assert_eq!(look(&network, "https://127.0.0.1:1").await.unwrap(), ["127.0.0.1:1"]);
}

#[tokio::test]
async fn a_name_without_address_and_a_resolver_without_answer_are_told_apart() {
    struct Silent;
    impl Resolve for Silent {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            std::future::pending().boxed()
        }
    }
    let unknown = closed(Names::of("b", &[]));
    let error = look(&unknown, "https://a.example.com").await.unwrap_err();
    assert_eq!((&error, error.status()), (&NetworkError::Unresolved, StatusCode::BAD_REQUEST));
    let empty = closed(Names::of("a.example.com", &[&[]]));
    assert_eq!(look(&empty, "https://a.example.com").await, Err(NetworkError::Unresolved));
    let limits = Limits { call: Duration::from_millis(20), ..limits() };
    let silent = Network::new(ConsumerNetworks::default(), Arc::new(Silent), limits);
    let error = look(&silent, "https://a.example.com").await.unwrap_err();
    assert_eq!(error, NetworkError::Timeout(limits.call));
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test]
async fn only_the_first_addresses_are_tried_but_all_are_checked() {
    let many = ["8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4", "8.8.8.5"];
    let network = closed(Names::of("a.example.com", &[&many]));
    assert_eq!(look(&network, "https://a.example.com").await.unwrap().len(), MAX_ADDRESSES);
    let last_closed = [&many[..], &["10.0.0.1"]].concat();
    let network = closed(Names::of("a.example.com", &[&last_closed]));
    assert!(look(&network, "https://a.example.com").await.is_err());
}

#[tokio::test]
async fn a_private_address_of_the_provider_is_told_and_no_other() {
    for (answer, expected) in [
        (&["172.18.0.3", "172.18.0.2"][..], Some("172.18.0.2")),
        (&["8.8.8.8"], None),
        (&["127.0.0.1", "::1"], None),
        (&["8.8.8.8", "fd00::1"], Some("fd00::1")),
        (&[], None),
    ] {
        let network = closed(Names::of("kcp.example.com", &[answer]));
        let found = network.private_address("kcp.example.com").await;
        assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{answer:?}");
    }
}
