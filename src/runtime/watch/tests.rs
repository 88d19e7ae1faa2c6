use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::runtime::endpoint::ClusterSource;
use crate::runtime::tasks::Tasks;

/// What the server does with requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Lists are empty, watches are silent.
    Serve,
    /// Nothing, until whoever asked gives up.
    Hang,
    Refuse,
}

/// As many as the backend has, in the order of the texts.
const KINDS: [&str; 17] =
    ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q"];

/// A fleet of one endpoint with these kinds, what its server does, and how many requests it got.
struct Scene {
    fleet: Arc<Fleet>,
    does: tokio::sync::watch::Sender<Does>,
    requests: Arc<std::sync::atomic::AtomicU64>,
}

type Answer = Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>;

fn answer(code: u16, body: &serde_json::Value) -> Answer {
    let body = http_body_util::Full::from(body.to_string()).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

async fn serve(does: Does, request: Request<Body>) -> Result<Answer, tower::BoxError> {
    match does {
        Does::Hang => {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Err("it took too long to connect".into())
        }
        Does::Refuse => {
            let refusal = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                "reason": "Forbidden", "message": "no",
            });
            Ok(answer(403, &refusal))
        }
        Does::Serve if request.uri().query().unwrap_or_default().contains("watch=true") => {
            let silence = futures::stream::pending();
            let body = http_body_util::StreamBody::new(silence).boxed_unsync();
            Ok(Response::new(body))
        }
        Does::Serve => {
            let list = json!({
                "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" },
                "items": [],
            });
            Ok(answer(200, &list))
        }
    }
}

impl Scene {
    fn new(does: Does) -> Self {
        let (does, now) = tokio::sync::watch::channel(does);
        let requests = Arc::<std::sync::atomic::AtomicU64>::default();
        let counted = Arc::clone(&requests);
        let service = tower::service_fn(move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            serve(*now.borrow(), request)
        });
        let endpoint = Endpoint::for_tests(
            Client::new(service, "default"),
            ClusterSource::Annotation("kcp.io/cluster"),
        );
        let metrics = Arc::<Metrics>::default();
        let kinds = KINDS.map(|name| Arc::new(Kind::<ConfigMap>::whole(name, None)));
        let watched = kinds.map(|kind| Watched::new(kind, Arc::clone(&metrics)) as Arc<dyn Source>);
        let fleet = Fleet::new(watched.to_vec(), vec![], metrics, Tasks::default());
        fleet.discovered();
        fleet.add_for_tests(endpoint);
        Self { fleet, does, requests }
    }

    /// What keeps it from being ready after so many seconds.
    async fn after(&self, seconds: u64) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let readiness = self.fleet.readiness();
        assert_eq!(readiness.away, Vec::<String>::new(), "there is no other endpoint");
        readiness.waiting
    }

    /// How many requests the server gets in so many seconds.
    async fn asked(&self, seconds: u64) -> u64 {
        let before = self.requests.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        self.requests.load(Ordering::Relaxed) - before
    }
}

const READY: Vec<String> = Vec::new();

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_from_the_start_is_away_and_is_read_within_two_seconds_of_its_return() {
    let scene = Scene::new(Does::Hang);
    let unread = format!("https://test: waiting for the first list of {}", KINDS.join(", "));
    assert_eq!(scene.after(9).await, [unread.as_str()]);
    let id = scene.fleet.endpoints()[0].id();
    assert!(!scene.fleet.is_away(id));
    let why = format!("{unread}: ServiceError: it took too long to connect");
    for _ in 0..20 {
        assert_eq!(scene.after(3).await, [why.as_str()]);
    }
    assert!(scene.fleet.is_away(id));
    scene.does.send_replace(Does::Serve);
    assert_eq!(scene.after(2).await, READY);
    assert!(!scene.fleet.is_away(id));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_later_is_away_until_it_answers_again() {
    let scene = Scene::new(Does::Serve);
    assert_eq!(scene.after(1).await, READY);
    // The open watches are as silent as before; their ends are noticed after a minute.
    scene.does.send_replace(Does::Hang);
    assert_eq!(scene.after(60).await, READY);
    let kinds = KINDS.join(", ");
    let failing =
        format!("https://test: cannot watch {kinds}: ServiceError: it took too long to connect");
    assert_eq!(scene.after(20).await, [failing.as_str()]);
    assert_eq!(scene.after(40).await, [failing.as_str()]);
    scene.does.send_replace(Does::Serve);
    assert_eq!(scene.after(2).await, READY, "by an answer without any event");
    assert_eq!(scene.asked(50).await, 0, "and nothing but the watches is asked for");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_is_asked_once_a_second_for_all_kinds_together() {
    let scene = Scene::new(Does::Refuse);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = scene.asked(60).await;
    assert!((40..=90).contains(&asked), "{asked}");
    scene.does.send_replace(Does::Serve);
    assert_eq!(scene.after(2).await, READY);
}
