use serde_json::json;

use super::*;

#[test]
fn the_endpoints_are_those_of_all_slices_that_were_read_or_stored() {
    let urls = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let east = || Known::Endpoints(urls(&["https://east"]));
    let both = || Known::Endpoints(urls(&["https://east", "https://west"]));
    for (slices, expected, complete) in [
        (vec![Known::Nothing, east()], vec!["https://east"], false),
        (vec![Known::Absent, both()], vec!["https://east", "https://west"], false),
        (vec![east(), both()], vec!["https://east", "https://west"], true),
        (vec![Known::Endpoints(urls(&[]))], vec![], true),
        (
            vec![Known::Stored(urls(&["https://west"])), east()],
            vec!["https://east", "https://west"],
            true,
        ),
        (vec![Known::Stored(urls(&[])), east()], vec!["https://east"], false),
    ] {
        let named = slices.into_iter().enumerate().map(|(at, known)| (at.to_string(), known));
        assert_eq!(wanted(&named.collect()), (urls(&expected), complete));
    }
}

#[test]
fn of_the_urls_in_a_slice_those_of_an_export_are_taken() {
    let slice: ApiExportEndpointSlice = serde_json::from_value(json!({
        "apiVersion": "apis.kcp.io/v1alpha1", "kind": "APIExportEndpointSlice",
        "metadata": { "name": "kube-bind.io" },
        "spec": { "export": { "name": "kube-bind.io" } },
        "status": { "endpoints": [
            { "url": "https://east:6443/services/apiexport/exp0rt/kube-bind.io/" },
            { "url": "http://west:6443/services/apiexport/exp0rt/kube-bind.io" },
            { "url": "https://north:6443/clusters/root" },
            { "url": "no url" },
        ]},
    }))
    .unwrap();
    let expected = ["https://east:6443/services/apiexport/exp0rt/kube-bind.io".to_owned()];
    assert_eq!(endpoints("kube-bind.io", &slice), expected.into());
}

#[test]
fn what_is_stored_replaces_a_server_that_is_away_at_once_and_one_that_refuses_later() {
    let status = |code: u16| {
        let status = json!({"status": "Failure", "code": code, "message": "", "reason": ""});
        kube::Error::Api(serde_json::from_value(status).unwrap())
    };
    for (code, away) in [(401, false), (403, false), (404, false), (429, true), (502, true)] {
        assert_eq!(is_away(&Error::InitialListFailed(status(code))), away, "{code}");
    }
    let gone = tower::BoxError::from("connection refused");
    assert!(is_away(&Error::InitialListFailed(kube::Error::Service(gone))));
    assert!(!is_away(&Error::NoResourceVersion));
}
