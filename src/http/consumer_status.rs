//! `GET /api/consumer-status`: how far a consumer has come (contract http.md 7).

use serde::Serialize;

/// What the provider's cluster has for a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerStatus {
    /// Whether anything is exported to the consumer.
    pub connected: bool,
    /// Its contract namespace; none before its first binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names of its exports, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<String>,
}

impl ConsumerStatus {
    /// From the names of the APIServiceExports in the contract namespace, of which there are none
    /// without one.
    #[must_use]
    pub fn new(namespace: Option<String>, exports: impl IntoIterator<Item = String>) -> Self {
        let mut exports: Vec<String> = match namespace {
            Some(_) => exports.into_iter().collect(),
            None => Vec::new(),
        };
        exports.sort_unstable();
        Self { connected: !exports.is_empty(), namespace, exports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_answers_are_those_of_the_contract() {
        let namespace = || Some("cluster-1".to_owned());
        let exports = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (status, expected) in [
            (ConsumerStatus::new(None, exports(&["cow"])), r#"{"connected":false}"#),
            (
                ConsumerStatus::new(namespace(), exports(&[])),
                r#"{"connected":false,"namespace":"cluster-1"}"#,
            ),
            (
                ConsumerStatus::new(namespace(), exports(&["cow", "bull"])),
                r#"{"connected":true,"namespace":"cluster-1","exports":["bull","cow"]}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&status).unwrap(), expected);
        }
    }
}
