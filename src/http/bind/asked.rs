//! What a bind asks for: the body of `POST /api/bind` (contract http.md 6.1), checked before anything
//! is done.

use serde::Deserialize;

use crate::consumer::names;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::json;

/// What the page writes for "me".
const SELF: &str = "ui-identity";

/// Longest name for people, in characters.
const PRETTY: usize = 253;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    template_ref: Metadata,
    #[serde(default)]
    cluster_identity: Identity,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(default)]
    identity: String,
    #[serde(default)]
    pretty_name: Option<String>,
}

/// A bind that makes sense. Whether it is allowed is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Name of the request for exports, and of what follows from it.
    pub name: String,
    /// The template.
    pub template: String,
    /// The consumer.
    pub identity: String,
    /// Its name for people.
    pub pretty_name: String,
    /// The page creates no request itself: we do.
    pub creates_request: bool,
}

impl Asked {
    /// Reads a body; `consumer_id` is the query parameter, which names the consumer if it is there.
    pub fn read(body: &[u8], consumer_id: &str, caller: &Caller) -> Result<Self, ApiError> {
        let body: Body = json::read(body).map_err(|err| {
            ApiError::bad_request("Invalid JSON request body").with_details(err.to_string())
        })?;
        let refused = |message: &'static str, details: String| {
            Err(ApiError::bad_request(message).with_details(details))
        };
        let kinds = ["", "BindableResourcesRequest"];
        if !kinds.contains(&body.kind.as_str())
            || !["", crate::api::keys::API_VERSION].contains(&body.api_version.as_str())
        {
            let details = "kind must be BindableResourcesRequest and apiVersion \
                           kube-bind.io/v1alpha2, or both left out";
            return refused("Invalid request body", details.to_owned());
        }
        let given = body.spec.cluster_identity;
        if given.identity.is_empty() {
            let details = "spec.clusterIdentity.identity is required".to_owned();
            return refused("Missing cluster identity", details);
        }
        let creates_request = given.identity == SELF;
        let identity = match consumer_id {
            "" if creates_request => caller.own_identity(),
            "" => given.identity,
            consumer_id => consumer_id.to_owned(),
        };
        if let Err(err) = names::check_identity(&identity) {
            let place = if consumer_id.is_empty() {
                "spec.clusterIdentity.identity"
            } else {
                "consumer_id"
            };
            return refused("Invalid cluster identity", format!("{place}: {err}"));
        }
        for (place, name) in [
            ("metadata.name", &body.metadata.name),
            ("spec.templateRef.name", &body.spec.template_ref.name),
        ] {
            if !names::is_dns_subdomain(name) {
                let details = format!(
                    "{place} must be an object name: lower-case letters, digits, '-' and '.', at most 253"
                );
                return refused("Invalid name", details);
            }
        }
        let name = body.metadata.name;
        let pretty_name = given.pretty_name.filter(|text| !text.is_empty());
        let pretty_name = pretty_name.unwrap_or_else(|| name.clone());
        if pretty_name.chars().count() > PRETTY || pretty_name.chars().any(char::is_control) {
            let details = format!(
                "spec.clusterIdentity.prettyName must be one line of at most {PRETTY} characters"
            );
            return refused("Invalid name", details);
        }
        let template = body.spec.template_ref.name;
        Ok(Self { name, template, identity, pretty_name, creates_request })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::caller::tests::caller;

    fn read(body: &str, consumer_id: &str) -> Result<Asked, (u16, String)> {
        let refused = |err: ApiError| (err.status().as_u16(), err.to_string());
        Asked::read(body.as_bytes(), consumer_id, &caller()).map_err(refused)
    }

    fn asked(identity: &str, creates_request: bool) -> Asked {
        Asked {
            name: "west".to_owned(),
            template: "cows".to_owned(),
            identity: identity.to_owned(),
            pretty_name: "west".to_owned(),
            creates_request,
        }
    }

    const CLI: &str = r#"{"metadata":{"name":"west"},"spec":{"templateRef":{"name":"cows"},"clusterIdentity":{"identity":"id"},"author":""},"status":{}}"#;
    const UI: &str = r#"{"metadata":{"name":"west"},"spec":{"templateRef":{"name":"cows"},"clusterIdentity":{"identity":"ui-identity"},"author":"web-ui"}}"#;

    #[test]
    fn the_bodies_of_the_clients_are_read() {
        assert_eq!(read(CLI, ""), Ok(asked("id", false)));
        assert_eq!(read(CLI, "other"), Ok(asked("other", false)));
        assert_eq!(read(UI, ""), Ok(asked("https://id.example.com/ann", true)));
        assert_eq!(read(UI, "c1"), Ok(asked("c1", true)));
        let pretty =
            CLI.replace(r#""identity":"id""#, r#""identity":"id","prettyName":"The West""#);
        let expected = Asked { pretty_name: "The West".to_owned(), ..asked("id", false) };
        assert_eq!(read(&pretty, ""), Ok(expected));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_done() {
        let with = |from: &str, to: &str| CLI.replace(from, to);
        let long = "a".repeat(254);
        for (body, message) in [
            (String::new(), "Invalid JSON request body"),
            ("{}".to_owned(), "Invalid JSON request body"),
            (format!("{CLI}x"), "Invalid JSON request body"),
            (with(r#""west""#, "1"), "Invalid JSON request body"),
            (with(r#"{"identity":"id"}"#, "{}"), "Missing cluster identity"),
            (with(r#""id""#, r#""""#), "Missing cluster identity"),
            (with(r#""id""#, r#""ui-identity ""#), "Invalid cluster identity"),
            (with(r#""id""#, r#""a\u0000""#), "Invalid cluster identity"),
            (with(r#""id""#, &format!("{:?}", "i".repeat(65536))), "Invalid cluster identity"),
            (with("west", ""), "Invalid name"),
            (with("west", "../x"), "Invalid name"),
            (with("west", "West"), "Invalid name"),
            (with("west", &long), "Invalid name"),
            (with("cows", ""), "Invalid name"),
            (with("cows", "a/b"), "Invalid name"),
            (with(r#""id""#, r#""id","prettyName":"a\nb""#), "Invalid name"),
            (format!(r#"{{"kind":"Secret",{}"#, &CLI[1..]), "Invalid request body"),
        ] {
            assert_eq!(read(&body, ""), Err((400, message.to_owned())), "{body:.80}");
        }
        assert_eq!(read(CLI, " x"), Err((400, "Invalid cluster identity".to_owned())));
    }

    proptest! {
        #[test]
        fn no_body_is_answered_with_anything_but_what_was_asked_or_400(
            body in ".{0,300}", consumer in ".{0,40}",
        ) {
            let answer = read(&body, &consumer);
            prop_assert!(answer.is_ok() || answer.is_err_and(|(status, _)| status == 400));
        }

        #[test]
        fn no_identity_or_name_gets_through_that_cannot_be_one(
            name in ".{0,20}", template in "[a-z.-]{0,10}", identity in ".{0,40}",
        ) {
            let body = serde_json::json!({
                "metadata": {"name": name},
                "spec": {"templateRef": {"name": template}, "clusterIdentity": {"identity": identity}},
            });
            if let Ok(asked) = read(&body.to_string(), "") {
                prop_assert!(names::is_dns_subdomain(&asked.name));
                prop_assert!(names::is_dns_subdomain(&asked.template));
                prop_assert!(names::check_identity(&asked.identity).is_ok());
            }
        }
    }
}
