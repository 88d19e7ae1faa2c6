//! The parameters that the routes of the contract share (http.md section 1).

use serde::Deserialize;
use url::form_urlencoded;

use super::error::ApiError;

/// Longest value. Identities have at most 1 KiB, redirect targets 2 KiB.
const LONGEST: usize = 4096;

/// Query parameters, or the body of `POST /api/authorize`, which has the same five keys. What is empty
/// counts as missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Params {
    /// The logical cluster; empty for plain Kubernetes.
    pub cluster_id: String,
    /// Where a login leads back to.
    pub redirect_url: String,
    /// A correlation id of the client's choice. It names no session of ours.
    pub session_id: String,
    /// `ui` or `cli`.
    pub client_type: String,
    /// The identity of the consumer.
    pub consumer_id: String,
}

impl Params {
    /// Reads a query. A parameter of ours that is given twice could be understood in two ways and is
    /// refused; others are ignored.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut params = Self::default();
        let mut seen = Vec::new();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let place = match &*key {
                "cluster_id" => &mut params.cluster_id,
                "redirect_url" => &mut params.redirect_url,
                "session_id" => &mut params.session_id,
                "client_type" => &mut params.client_type,
                "consumer_id" => &mut params.consumer_id,
                _ => continue,
            };
            if seen.contains(&key) {
                return Err(refused(format!("{key} is given twice; give it once")));
            }
            *place = value.into_owned();
            seen.push(key);
        }
        params.check()?;
        Ok(params)
    }

    /// Refuses values that are longer than any that means something.
    pub fn check(&self) -> Result<(), ApiError> {
        let all = [
            ("cluster_id", &self.cluster_id),
            ("redirect_url", &self.redirect_url),
            ("session_id", &self.session_id),
            ("client_type", &self.client_type),
            ("consumer_id", &self.consumer_id),
        ];
        match all.iter().find(|(_, value)| value.len() > LONGEST) {
            None => Ok(()),
            Some((key, _)) => {
                Err(refused(format!("{key} is longer than {LONGEST} bytes; shorten it")))
            }
        }
    }
}

fn refused(details: String) -> ApiError {
    ApiError::bad_request("Invalid query parameters").with_details(details)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::cluster::ClusterId;

    #[test]
    fn the_five_parameters_are_read_and_others_ignored() {
        let query = "cluster_id=a&redirect_url=http%3A%2F%2Fx&session_id=s&client_type=cli&consumer_id=c+d&x=1&x=2";
        let expected = Params {
            cluster_id: "a".to_owned(),
            redirect_url: "http://x".to_owned(),
            session_id: "s".to_owned(),
            client_type: "cli".to_owned(),
            consumer_id: "c d".to_owned(),
        };
        assert_eq!(Params::parse(Some(query)), Ok(expected));
        assert_eq!(Params::parse(None), Ok(Params::default()));
    }

    #[test]
    fn a_parameter_given_twice_or_of_any_length_is_refused() {
        let long = format!("session_id={}", "a".repeat(LONGEST + 1));
        for bad in ["cluster_id=a&cluster_id=a", "cluster_id=&cluster_id=a", &long] {
            let status = Params::parse(Some(bad)).map_err(|err| err.status().as_u16());
            assert_eq!(status, Err(400), "{}", &bad[..10]);
        }
    }

    proptest! {
        #[test]
        fn no_query_is_answered_with_anything_but_what_was_asked_or_400(
            query in "[a-z_=&%+0-9]{0,200}|.{0,60}",
        ) {
            let answer = Params::parse(Some(&query)).map_err(|err| err.status().as_u16());
            prop_assert!(answer.is_ok() || answer == Err(400));
        }

        #[test]
        fn no_cluster_id_leads_out_of_its_path_segment(text in "[a-z0-9.%/*:-]{0,70}|.{0,20}") {
            if let Ok(id) = ClusterId::parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }
    }
}
