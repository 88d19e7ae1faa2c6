//! What a request asks for and what becomes of it, without any I/O.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Error;
use crate::api::conditions::{ConditionStatus, READY, set_standard, whole_seconds};
use crate::api::duration::GoDuration;
use crate::api::keys;
use crate::api::v1alpha2::{
    BindableResourcesRequest, BindableResourcesRequestStatus, Phase, SecretKeyRef,
};
use crate::consumer::names;
use crate::onboarding::Access;

/// Refuses what cannot work, before anything is asked of the server: names become parts of paths.
pub(super) fn check(request: &BindableResourcesRequest) -> Result<(), Error> {
    let spec = &request.spec;
    let identity = spec.cluster_identity.identity.as_deref().unwrap_or_default();
    names::check_identity(identity)
        .map_err(|err| Error::Invalid(format!("spec.clusterIdentity.identity: {err}")))?;
    let template = spec.template_ref.as_ref().map(|template| template.name.as_str());
    let secret = spec.kubeconfig_secret_ref.as_ref();
    for (field, name) in [
        ("spec.templateRef.name", template.filter(|name| !name.is_empty())),
        ("spec.kubeconfigSecretRef.name", secret.map(|secret| secret.name.as_str())),
    ] {
        if name.is_some_and(|name| !names::is_dns_subdomain(name)) {
            return Err(Error::Invalid(format!(
                "{field}: {:?} is not an object name; use lower-case letters, digits, '-' and '.'",
                name.unwrap_or_default().chars().take(40).collect::<String>()
            )));
        }
    }
    let key = secret.map_or("", |secret| secret.key.as_str());
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) || key.len() > 253 {
        return Err(Error::Invalid(
            "spec.kubeconfigSecretRef.key: use letters, digits, '-', '_' and '.'".to_owned(),
        ));
    }
    ttl(request).map(drop)
}

pub(super) fn owns(request: &BindableResourcesRequest, meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|o| o.controller == Some(true) && Some(&o.uid) == request.metadata.uid.as_ref())
}

/// Where the response goes (objects.md section 10).
pub(super) fn secret_ref(request: &BindableResourcesRequest) -> SecretKeyRef {
    match &request.spec.kubeconfig_secret_ref {
        Some(named) if named.key.is_empty() => {
            SecretKeyRef { name: named.name.clone(), key: keys::KUBECONFIG_KEY.to_owned() }
        }
        Some(named) => named.clone(),
        None => SecretKeyRef {
            name: names::response_secret(request.metadata.name.as_deref().unwrap_or_default()),
            key: keys::BINDING_RESPONSE_KEY.to_owned(),
        },
    }
}

/// How long the request lives after it finished.
pub(super) fn ttl(request: &BindableResourcesRequest) -> Result<Option<Duration>, Error> {
    let Some(text) = request.spec.ttl_after_finished.as_deref() else {
        return Ok(None);
    };
    if let Ok(ttl) = GoDuration::parse_non_negative(text) {
        return Ok(Some(ttl.to_std()));
    }
    // Anybody's text, of any length; the advice after it has to be seen.
    let text: String = text.chars().take(40).collect();
    Err(Error::Invalid(format!(
        "spec.ttlAfterFinished: {text:?} is not a duration; write a number and a unit, such as 10m \
         or 1h30m"
    )))
}

/// What is left of a finished request's life; none if it has no end.
pub(super) fn time_left(request: &BindableResourcesRequest, now: Timestamp) -> Option<Duration> {
    let ttl = ttl(request).ok().flatten()?;
    let completed = request.status.as_ref()?.completion_time.as_ref()?.0;
    // A completion time in the future (a clock that was off) only makes the request live longer.
    let lived = now.duration_since(completed);
    let ahead = Duration::try_from(-lived).unwrap_or_default();
    let lived = Duration::try_from(lived).unwrap_or_default();
    Some(ttl.saturating_add(ahead).saturating_sub(lived))
}

pub(super) fn succeeded(
    request: &BindableResourcesRequest,
    access: &Access,
    secret: &SecretKeyRef,
    now: Timestamp,
) -> BindableResourcesRequestStatus {
    let mut status = request.status.clone().unwrap_or_default();
    status.phase = Phase::Succeeded;
    status.namespace = Some(access.namespace.clone());
    status.kubeconfig_secret_ref = Some(secret.clone());
    status.completion_time = Some(whole_seconds(now));
    let message = format!("Binding response secret {:?} is ready", secret.name);
    set_standard(
        &mut status.conditions,
        READY,
        &ConditionStatus::True,
        "SecretReady",
        &message,
        now,
    );
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha2::BindableResourcesRequestSpec;

    fn request(ttl: Option<&str>, completed: Option<i64>) -> BindableResourcesRequest {
        let spec = BindableResourcesRequestSpec {
            ttl_after_finished: ttl.map(str::to_owned),
            ..BindableResourcesRequestSpec::default()
        };
        let mut request = BindableResourcesRequest::new("bind", spec);
        request.status = completed.map(|second| BindableResourcesRequestStatus {
            completion_time: Some(whole_seconds(Timestamp::from_second(second).unwrap())),
            ..BindableResourcesRequestStatus::default()
        });
        request
    }

    #[test]
    fn a_finished_request_lives_for_its_ttl_and_for_ever_without_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (ttl, now, expected) in [
            (Some("10s"), 100, Some(10)),
            (Some("10s"), 104, Some(6)),
            (Some("10s"), 110, Some(0)),
            (Some("10s"), 999, Some(0)),
            (Some("10s"), 70, Some(40)),
            (None, 999, None),
        ] {
            let left = time_left(&request(ttl, Some(100)), at(now));
            assert_eq!(left.map(|left| left.as_secs()), expected, "{ttl:?} at {now}");
        }
    }

    #[test]
    fn a_ttl_that_is_no_duration_is_refused_saying_what_one_looks_like() {
        let err = ttl(&request(Some("banana"), None)).unwrap_err();
        assert_eq!(
            err.to_string(),
            "spec.ttlAfterFinished: \"banana\" is not a duration; write a number and a unit, such \
             as 10m or 1h30m"
        );
    }

    #[test]
    fn names_that_are_no_object_names_are_refused_before_anything_is_asked() {
        let mut good = request(Some("10m"), None);
        good.spec.cluster_identity.identity = Some("me".into());
        assert!(check(&good).is_ok());
        let place =
            |name: &str, key: &str| Some(SecretKeyRef { name: name.into(), key: key.into() });
        let mut template = good.clone();
        template.spec.template_ref = Some("real?x=,other".into());
        let mut secret = good.clone();
        secret.spec.kubeconfig_secret_ref = place("../x", "k");
        let mut key = good.clone();
        key.spec.kubeconfig_secret_ref = place("x", "a/b");
        let mut identity = good.clone();
        identity.spec.cluster_identity.identity = None;
        for bad in [template, secret, key, identity] {
            assert!(matches!(check(&bad), Err(Error::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_response_goes_where_the_request_says_or_to_the_names_of_the_contract() {
        let mut request = request(None, None);
        let place = |name: &str, key: &str| SecretKeyRef { name: name.into(), key: key.into() };
        assert_eq!(secret_ref(&request), place("bind-binding-response", "binding-response"));
        request.spec.kubeconfig_secret_ref = Some(place("mine", ""));
        assert_eq!(secret_ref(&request), place("mine", "kubeconfig"));
        request.spec.kubeconfig_secret_ref = Some(place("mine", "k"));
        assert_eq!(secret_ref(&request), place("mine", "k"));
    }
}
