use std::collections::BTreeSet;
use std::time::Duration;

use super::endpoints::REMAKE;
use super::*;
use crate::runtime::endpoint::ClusterSource;
use crate::runtime::health::GRACE;

fn specs(names: &[&str]) -> Vec<EndpointSpec> {
    let spec = |name: &&str| EndpointSpec {
        config: kube::Config::new(format!("https://{name}").parse().unwrap()),
        source: ClusterSource::Annotation("kcp.io/cluster"),
    };
    names.iter().map(spec).collect()
}

/// A fleet with these endpoints, and their ids in the same order.
async fn fleet(names: &[&str]) -> (Arc<Fleet>, Vec<EndpointId>) {
    let fleet = Fleet::new(vec![], vec![], Arc::default(), Tasks::default());
    fleet.set_endpoints(specs(names)).await.unwrap();
    let id = |name: &&str| fleet.state().endpoints[&format!("https://{name}")].endpoint.id();
    let ids = names.iter().map(id).collect();
    (fleet, ids)
}

#[tokio::test]
async fn an_endpoint_that_is_no_longer_published_keeps_nothing_from_being_ready() {
    let (fleet, ids) = fleet(&["east", "west"]).await;
    fleet.synced(ids[0]);
    fleet.unread("slice", "no slice".to_owned());
    let west = "https://west: waiting for the first list of ";
    assert_eq!(fleet.readiness(), readiness(&["endpoints: no slice", west], &[]));
    fleet.read("slice");
    fleet.discovered();
    assert_eq!(fleet.readiness(), readiness(&[west], &[]));
    fleet.set_endpoints(specs(&["east"])).await.unwrap();
    assert_eq!(fleet.readiness(), readiness(&[], &[]));
    fleet.set_endpoints(specs(&["east", "west"])).await.unwrap();
    assert_eq!(fleet.readiness(), readiness(&[west], &[]));
}

fn readiness(waiting: &[&str], away: &[&str]) -> Readiness {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Readiness { waiting: texts(waiting), away: texts(away) }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_away_keeps_nobody_from_being_ready_as_long_as_another_works() {
    let (fleet, ids) = fleet(&["east", "west"]).await;
    fleet.discovered();
    fleet.synced(ids[0]);
    fleet.failed(ids[1], "Cluster", "refused");
    let west = "https://west: waiting for the first list of : refused";
    assert_eq!(fleet.readiness(), readiness(&[west], &[]), "it may come within a moment");
    tokio::time::advance(GRACE + Duration::from_secs(1)).await;
    assert_eq!(fleet.readiness(), readiness(&[], &[west]));
    fleet.failed(ids[0], "Cluster", "refused");
    assert_eq!(fleet.readiness(), readiness(&[], &[west]), "it may come within a moment");
    tokio::time::advance(GRACE + Duration::from_secs(1)).await;
    let east = "https://east: cannot watch Cluster: refused";
    assert_eq!(fleet.readiness(), readiness(&[east, west], &[]));
    fleet.answered(ids[0], "Cluster");
    assert_eq!(fleet.readiness(), readiness(&[], &[west]));
}

#[tokio::test]
async fn a_cluster_is_served_through_a_published_endpoint_and_until_the_last_one_lets_go() {
    let (fleet, ids) = fleet(&["east", "west"]).await;
    let cluster = ClusterId::parse("abc").unwrap();
    for id in &ids {
        fleet.synced(*id);
        fleet.engage(*id, &cluster, ClusterInfo::default());
    }
    let newest = ids.iter().max().copied();
    assert_eq!(fleet.serving(&cluster), newest);
    fleet.set_endpoints(specs(&["east"])).await.unwrap();
    assert_eq!(fleet.serving(&cluster), Some(ids[0]));
    fleet.disengage(ids[0], &cluster);
    assert_eq!(fleet.serving(&cluster), Some(ids[1]), "the one that is held");
    fleet.disengage(ids[1], &cluster);
    assert_eq!(fleet.serving(&cluster), None);
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_goes_away_is_said_and_keeps_nobody_from_being_ready_while_something_is_served()
 {
    let (fleet, ids) = fleet(&["east", "west"]).await;
    fleet.discovered();
    for id in &ids {
        fleet.synced(*id);
    }
    fleet.unread("one", "no slice one".to_owned());
    fleet.unread("two", "no slice two".to_owned());
    let both = ["no slice one", "no slice two"];
    assert_eq!(fleet.readiness(), readiness(&[], &both));
    fleet.set_endpoints(vec![]).await.unwrap();
    assert_eq!(fleet.readiness(), readiness(&[], &both), "all endpoints are held");
    tokio::time::advance(HOLD).await;
    assert_eq!(fleet.retire_lost(), None);
    assert_eq!(fleet.readiness(), readiness(&both, &[]));
    assert!(fleet.read("one") && !fleet.read("one"));
    assert_eq!(fleet.readiness(), readiness(&["no slice two"], &[]));
}

/// A fleet that notes of which cluster it told what way.
async fn telling(names: &[&str]) -> (Arc<Fleet>, Vec<EndpointId>, Arc<Mutex<Vec<EndpointId>>>) {
    let told = Arc::<Mutex<Vec<EndpointId>>>::default();
    let note = Arc::clone(&told);
    let listener: Listener =
        Box::new(move |cluster| note.lock().unwrap().push(cluster.endpoint.id()));
    let fleet = Fleet::new(vec![], vec![listener], Arc::default(), Tasks::default());
    fleet.set_endpoints(specs(names)).await.unwrap();
    let id = |name: &&str| fleet.state().endpoints[&format!("https://{name}")].endpoint.id();
    let ids: Vec<EndpointId> = names.iter().map(id).collect();
    let cluster = ClusterId::parse("abc").unwrap();
    for id in &ids {
        fleet.synced(*id);
        fleet.engage(*id, &cluster, ClusterInfo::default());
    }
    told.lock().unwrap().clear();
    (fleet, ids, told)
}

#[tokio::test(start_paused = true)]
async fn whoever_serves_a_cluster_from_now_on_has_its_objects_looked_at_again() {
    let (fleet, ids, told) = telling(&["east", "west"]).await;
    let (older, newer) = (*ids.iter().min().unwrap(), *ids.iter().max().unwrap());
    let names = |id| if id == ids[0] { "east" } else { "west" };
    let cluster = ClusterId::parse("abc").unwrap();
    let now = || (fleet.serving(&cluster), std::mem::take(&mut *told.lock().unwrap()));
    fleet.failed(newer, "Cluster", "refused");
    assert_eq!(now(), (Some(older), vec![older]), "one that works is better");
    fleet.failed(newer, "Secret", "refused");
    fleet.failed(older, "Cluster", "refused");
    assert_eq!(now(), (Some(newer), vec![newer]), "neither works");
    fleet.set_endpoints(specs(&[names(older)])).await.unwrap();
    assert_eq!(now(), (Some(older), vec![older]), "one that is published is better");
    assert!(fleet.answered(newer, "Cluster") && fleet.answered(newer, "Secret"));
    assert_eq!(now(), (Some(older), vec![]));
    fleet.disengage(newer, &cluster);
    assert_eq!(now(), (Some(older), vec![]), "nothing is another");
    fleet.engage(newer, &cluster, ClusterInfo::default());
    told.lock().unwrap().clear();
    fleet.set_endpoints(specs(&[names(newer)])).await.unwrap();
    assert_eq!(now(), (Some(newer), vec![newer]));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_held_long_enough_is_given_up_and_made_anew_when_it_comes_back() {
    let (fleet, ids, told) = telling(&["east", "west"]).await;
    let cluster = ClusterId::parse("abc").unwrap();
    let mut given_up = fleet.given_up();
    fleet.set_endpoints(specs(&["east"])).await.unwrap();
    assert_eq!(fleet.held(), BTreeSet::from(["https://west".to_owned()]));
    tokio::time::advance(HOLD / 2).await;
    assert_eq!(fleet.retire_lost(), Some(HOLD / 2));
    tokio::time::advance(HOLD / 2).await;
    assert!(!given_up.has_changed().unwrap());
    assert_eq!((fleet.retire_lost(), fleet.held()), (None, BTreeSet::new()));
    assert!(given_up.has_changed().unwrap());
    given_up.mark_unchanged();
    assert_eq!(fleet.serving(&cluster), Some(ids[0]));

    told.lock().unwrap().clear();
    fleet.engage(ids[1], &cluster, ClusterInfo { leaving: true, ..ClusterInfo::default() });
    fleet.set_endpoints(specs(&["east", "west"])).await.unwrap();
    let back = fleet.state().endpoints["https://west"].endpoint.id();
    assert!(!ids.contains(&back), "nothing read through the old one is taken for current");
    fleet.synced(back);
    assert_eq!(
        fleet.serving(&cluster),
        Some(ids[0]),
        "what is late to the old one counts for nothing"
    );
    assert_eq!(*told.lock().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_cannot_be_made_is_said_and_tried_again() {
    let broken = |name: &str| {
        let mut specs = specs(&[name]);
        specs[0].config.auth_info.token_file = Some("/nonexistent/token".to_owned());
        specs
    };
    let fleet = Fleet::new(vec![], vec![], Arc::default(), Tasks::default());
    fleet.discovered();
    fleet.set_endpoints(specs(&["east"])).await.unwrap();
    let east = fleet.endpoints()[0].id();
    fleet.synced(east);
    let wanted = [specs(&["east"]), broken("west")].concat();
    let why = fleet.set_endpoints(wanted).await.unwrap_err().to_string();
    assert!(why.starts_with("cannot connect to https://west/: "), "{why}");
    assert_eq!(fleet.readiness(), readiness(&[&why], &[]));
    tokio::time::advance(GRACE + Duration::from_secs(1)).await;
    assert_eq!(fleet.readiness(), readiness(&[], &[&why]));

    // As if the file had come.
    fleet.state().unmade.get_mut("https://west").unwrap().spec = specs(&["west"]).remove(0);
    let tended = Arc::clone(&fleet);
    let tending = tokio::spawn(async move { tended.tend().await });
    let came = async {
        while !fleet.state().endpoints.contains_key("https://west") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(REMAKE * 2, came).await.unwrap();
    tending.abort();
    assert!(fleet.state().unmade.is_empty());
}
