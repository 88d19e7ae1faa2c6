use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

fn map(name: &str, version: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn endpoint() -> EndpointId {
    use crate::runtime::endpoint::{ClusterSource, Endpoint, EndpointSpec};
    let config = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
    let source = ClusterSource::Static(ClusterId::local());
    Endpoint::connect(EndpointSpec { config, source }, &Arc::default()).unwrap().id()
}

fn scope(cluster: &str) -> Scope {
    Scope { endpoint: endpoint(), cluster: ClusterId::parse(cluster).unwrap() }
}

/// A cache, and a scope of an endpoint that it was opened for.
fn opened() -> (Cache<ConfigMap>, Scope) {
    let (cache, scope) = (Cache::default(), scope("a"));
    cache.open(scope.endpoint);
    (cache, scope)
}

fn names(cache: &Cache<ConfigMap>, scope: &Scope) -> Vec<(String, String)> {
    cache
        .list(scope)
        .iter()
        .map(|o| {
            let meta = &o.metadata;
            (meta.name.clone().unwrap(), meta.resource_version.clone().unwrap())
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn objects_of_the_same_name_in_two_clusters_never_mix() {
    let (cache, a) = opened();
    let b = Scope { cluster: ClusterId::parse("b").unwrap(), ..a.clone() };
    cache.apply(&a, Decoded::Object(map("x", "1")));
    cache.apply(&b, Decoded::Object(map("x", "2")));
    cache.remove(&a, &map("x", "3").metadata);
    assert_eq!(names(&cache, &a), []);
    assert_eq!(names(&cache, &b), pairs(&[("x", "2")]));
}

#[tokio::test]
async fn an_older_copy_never_replaces_what_we_wrote() {
    let (cache, a) = opened();
    cache.mark_synced(a.endpoint);
    assert!(cache.observe_write(&a, map("x", "10")).is_some());
    assert!(cache.apply(&a, Decoded::Object(map("x", "9"))).is_none());
    assert!(cache.remove(&a, &map("x", "9").metadata).is_none());
    assert_eq!(names(&cache, &a), pairs(&[("x", "10")]));
}

#[tokio::test(start_paused = true)]
async fn a_list_removes_what_is_gone_and_keeps_what_was_written_since_it_began() {
    let (cache, a) = opened();
    cache.apply(&a, Decoded::Object(map("gone", "1")));
    cache.apply(&a, Decoded::Object(map("stays", "2")));
    cache.observe_write(&a, map("old-write", "3"));
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let began = Instant::now();
    cache.observe_write(&a, map("new-write", "9"));
    let objects = vec![(a.cluster.clone(), Decoded::Object(map("stays", "5")))];
    let deltas = cache.replace(a.endpoint, Snapshot { began, objects });
    assert_eq!(names(&cache, &a), pairs(&[("new-write", "9"), ("stays", "5")]));
    let mut gone: Vec<_> = deltas
        .iter()
        .filter(|d| d.new.is_none())
        .filter_map(|d| d.old.as_ref()?.metadata.name.clone())
        .collect();
    gone.sort();
    assert_eq!(gone, ["gone", "old-write"]);
}

#[tokio::test]
async fn what_we_wrote_is_reported_once_when_the_watch_shows_it() {
    let (cache, a) = opened();
    cache.mark_synced(a.endpoint);
    let shown = || Decoded::Object(map("x", "10"));
    cache.observe_write(&a, map("x", "10"));
    let delta = cache.apply(&a, shown()).unwrap();
    assert_eq!(delta.new, Some(Arc::new(map("x", "10"))));
    assert!(cache.apply(&a, shown()).is_none());
    assert!(cache.observe_write(&a, map("x", "10")).is_none());
    assert!(cache.apply(&a, shown()).is_none());
}

#[tokio::test]
async fn a_late_answer_to_a_write_does_not_bring_a_deleted_object_back() {
    let (cache, a) = opened();
    cache.apply(&a, Decoded::Object(map("x", "10")));
    cache.remove(&a, &map("x", "11").metadata);
    assert!(cache.observe_write(&a, map("x", "10")).is_none());
    assert_eq!(names(&cache, &a), []);
    assert!(cache.observe_write(&a, map("x", "12")).is_some());
    cache.vanished(&a, &map("x", "12").metadata);
    assert_eq!(names(&cache, &a), []);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_a_restored_server_is_the_truth() {
    let (cache, a) = opened();
    cache.apply(&a, Decoded::Object(map("x", "1000")));
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let objects = vec![(a.cluster.clone(), Decoded::Object(map("x", "7")))];
    let began = Instant::now();
    assert_eq!(cache.replace(a.endpoint, Snapshot { began, objects }).len(), 1);
    assert_eq!(names(&cache, &a), pairs(&[("x", "7")]));
    assert!(cache.apply(&a, Decoded::Object(map("x", "8"))).is_some());
}

#[tokio::test]
async fn an_unreadable_object_is_neither_stale_nor_deleted() {
    let (cache, a) = opened();
    cache.apply(&a, Decoded::Object(map("x", "1")));
    let bad = || Decoded::Unreadable(Box::new(map("x", "2").metadata), "bad".into());
    assert!(cache.apply(&a, bad()).is_none());
    assert!(cache.get(&a, "ns", "x").is_none());
    assert_eq!(cache.unreadable(a.endpoint), [ObjKey::new(&a.cluster, "ns", "x")]);
    let snapshot = Snapshot { began: Instant::now(), objects: vec![(a.cluster.clone(), bad())] };
    assert!(cache.replace(a.endpoint, snapshot).is_empty());
    let healed = cache.apply(&a, Decoded::Object(map("x", "3"))).unwrap();
    assert_eq!((healed.old, healed.new), (None, Some(Arc::new(map("x", "3")))));
}

#[tokio::test]
async fn a_forgotten_endpoint_reports_no_deletion_and_a_kind_not_served_keeps_its_objects() {
    let (cache, a) = opened();
    cache.apply(&a, Decoded::Object(map("x", "1")));
    cache.mark_synced(a.endpoint);
    assert!(cache.synced(a.endpoint) && !cache.listed(a.endpoint));
    assert_eq!(cache.clusters(a.endpoint), std::slice::from_ref(&a.cluster));
    assert_eq!(names(&cache, &a), pairs(&[("x", "1")]));
    cache.replace(a.endpoint, Snapshot { began: Instant::now(), objects: vec![] });
    assert!(cache.listed(a.endpoint) && cache.clusters(a.endpoint).is_empty());
    cache.forget(a.endpoint);
    assert!(!cache.synced(a.endpoint));
}

#[tokio::test]
async fn what_a_watch_still_reads_after_its_endpoint_was_forgotten_is_dropped() {
    let (cache, a) = opened();
    cache.forget(a.endpoint);
    let object = || Decoded::Object(map("x", "1"));
    assert!(cache.apply(&a, object()).is_none());
    let objects = vec![(a.cluster.clone(), object())];
    assert!(cache.replace(a.endpoint, Snapshot { began: Instant::now(), objects }).is_empty());
    cache.mark_synced(a.endpoint);
    assert!(!cache.synced(a.endpoint));
    assert_eq!(names(&cache, &a), []);
}
