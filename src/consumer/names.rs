//! Names derived from what a consumer calls itself (contract objects.md 1.1 and 10).

use aws_lc_rs::digest::{SHA224, digest};
use thiserror::Error;

use crate::api::keys;

/// Longest identity in bytes. Issuer plus subject stays far below; more is a mistake or an attack.
pub const MAX_IDENTITY_BYTES: usize = 1024;

/// Longest name of a namespace (DNS-1123 label).
const MAX_LABEL: usize = 63;

/// Longest name of most objects (DNS-1123 subdomain).
const MAX_SUBDOMAIN: usize = 253;

/// Digits of the largest 64-bit number in base 36: the longest name part that an identity can
/// yield.
const MAX_IDENTITY_DIGITS: usize = 13;

/// Why a name cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// No identity.
    #[error(
        "the identity is empty; set spec.clusterIdentity.identity to something unique to the consumer cluster, such as the UID of its kube-system namespace"
    )]
    IdentityEmpty,
    /// Too long an identity.
    #[error(
        "the identity has {bytes} bytes, allowed are {MAX_IDENTITY_BYTES}; use a shorter one, such as the UID of the consumer's kube-system namespace"
    )]
    IdentityTooLong {
        /// Its length.
        bytes: usize,
    },
    /// NUL, line breaks and the like.
    #[error("the identity contains a control character; use printable characters only")]
    IdentityControlCharacter,
    /// Two identities that look alike would be two consumers.
    #[error("the identity starts or ends with white space; remove it")]
    IdentityWhitespace,
    /// Empty prefix.
    #[error("must not be empty; leave the flag out for the default cluster-")]
    PrefixEmpty,
    /// Prefix too long for a namespace name.
    #[error("{0:?} is too long; a namespace name leaves room for {max} characters", max = MAX_LABEL - MAX_IDENTITY_DIGITS)]
    PrefixTooLong(String),
    /// Prefix that cannot start a namespace name.
    #[error(
        "{0:?} cannot start a namespace name; use lower case letters, digits and '-', starting with a letter or digit"
    )]
    PrefixNotALabel(String),
}

/// Name of the contract namespace of `identity`: the prefix verbatim, then the first eight bytes of
/// the SHA-224 of the identity in base 36, with one extra `0` for each leading zero byte (contract
/// objects.md 1.1).
///
/// Valid as a namespace name for every identity if [`check_prefix`] accepts the prefix.
#[must_use]
pub fn contract_namespace(prefix: &str, identity: &str) -> String {
    let hash = digest(&SHA224, identity.as_bytes());
    let mut head = [0; 8];
    for (byte, hashed) in head.iter_mut().zip(hash.as_ref()) {
        *byte = *hashed;
    }
    format!("{prefix}{}", base36(head))
}

fn base36(bytes: [u8; 8]) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut value = u64::from_be_bytes(bytes);
    let mut reversed = Vec::with_capacity(MAX_IDENTITY_DIGITS);
    while value > 0 {
        // Always in range: a remainder of 36.
        let digit = usize::try_from(value % 36).unwrap_or_default();
        reversed.push(char::from(DIGITS[digit]));
        value /= 36;
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut name = "0".repeat(zeros);
    name.extend(reversed.into_iter().rev());
    name
}

/// Accepts an identity that can own a contract namespace. v0.8.1 took any text, the empty one
/// included.
pub fn check_identity(identity: &str) -> Result<(), NameError> {
    if identity.is_empty() {
        return Err(NameError::IdentityEmpty);
    }
    if identity.len() > MAX_IDENTITY_BYTES {
        let bytes = identity.len();
        return Err(NameError::IdentityTooLong { bytes });
    }
    if identity.chars().any(char::is_control) {
        return Err(NameError::IdentityControlCharacter);
    }
    if identity.trim() != identity {
        return Err(NameError::IdentityWhitespace);
    }
    Ok(())
}

/// Accepts a namespace prefix that makes a valid namespace name with every identity.
pub fn check_prefix(prefix: &str) -> Result<(), NameError> {
    if prefix.is_empty() {
        return Err(NameError::PrefixEmpty);
    }
    if prefix.len() > MAX_LABEL - MAX_IDENTITY_DIGITS {
        return Err(NameError::PrefixTooLong(prefix.to_owned()));
    }
    // A digit stands for what an identity adds.
    if !is_dns_label(&format!("{prefix}0")) {
        return Err(NameError::PrefixNotALabel(prefix.to_owned()));
    }
    Ok(())
}

/// Whether `text` is a DNS-1123 label, the form of namespace names.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_label_of_any_length(text)
}

/// Whether `text` is a DNS-1123 subdomain, the form of most objects' names.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Default name of the Secret with the response to the `BindableResourcesRequest` `request`
/// (contract objects.md 10).
#[must_use]
pub fn response_secret(request: &str) -> String {
    format!("{request}{}", keys::BINDING_RESPONSE_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_namespaces_equal_those_of_the_go_backend() {
        for (prefix, identity, expected) in [
            ("cluster-", "a79772e9-e7a1-4c0b-bd05-6e97e1aef11b", "cluster-11p3ppvf18xmo"),
            ("kube-bind-", "a79772e9-e7a1-4c0b-bd05-6e97e1aef11b", "kube-bind-11p3ppvf18xmo"),
            (
                "cluster-",
                "http://127.0.0.1:8080/oidc/kube-bind-embedded-user",
                "cluster-3lw6gg1eo1i0m",
            ),
            ("cluster-", "my-consumer", "cluster-2u084ntpxd9q0"),
            ("cluster-", "consumer-236", "cluster-0hwqwzllwte5"),
        ] {
            assert_eq!(contract_namespace(prefix, identity), expected, "{identity}");
        }
    }

    #[test]
    fn base36_keeps_leading_zero_bytes_and_fits_thirteen_digits() {
        assert_eq!(base36([0; 8]), "00000000");
        assert_eq!(base36([0, 0, 0, 0, 0, 0, 0, 36]), "000000010");
        assert_eq!(base36([0xff; 8]), "3w5e11264sgsf");
    }

    #[test]
    fn identities_that_cannot_be_told_apart_are_refused() {
        let long = "x".repeat(MAX_IDENTITY_BYTES + 1);
        for (identity, expected) in [
            ("", NameError::IdentityEmpty),
            (" ", NameError::IdentityWhitespace),
            ("a ", NameError::IdentityWhitespace),
            ("\u{a0}a", NameError::IdentityWhitespace),
            ("a\0b", NameError::IdentityControlCharacter),
            ("a\n", NameError::IdentityControlCharacter),
            (&long, NameError::IdentityTooLong { bytes: 1025 }),
        ] {
            assert_eq!(check_identity(identity), Err(expected), "{identity:?}");
        }
        for identity in ["a", "https://issuer/sub ject", "Zoë", &long[1..]] {
            assert_eq!(check_identity(identity), Ok(()), "{identity:?}");
        }
    }

    #[test]
    fn a_prefix_is_accepted_only_if_every_identity_gives_a_namespace_name() {
        for prefix in ["cluster-", "kube-bind-", "x", "1", &"p".repeat(50)] {
            assert_eq!(check_prefix(prefix), Ok(()), "{prefix}");
        }
        let long = "p".repeat(51);
        for (prefix, expected) in [
            ("", NameError::PrefixEmpty),
            ("-a", NameError::PrefixNotALabel("-a".to_owned())),
            ("Cluster-", NameError::PrefixNotALabel("Cluster-".to_owned())),
            ("a.", NameError::PrefixNotALabel("a.".to_owned())),
            (&long, NameError::PrefixTooLong(long.clone())),
        ] {
            assert_eq!(check_prefix(prefix), Err(expected), "{prefix}");
        }
    }

    #[test]
    fn the_names_of_objects_are_told_from_other_texts() {
        for name in ["a", "a.b-c", &"x".repeat(253)] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        for other in ["", ".", "a..b", "A", "a/b", "..", "a?b", "-a", &"x".repeat(254)] {
            assert!(!is_dns_subdomain(other), "{other}");
        }
    }

    #[test]
    fn a_response_secret_is_named_after_its_request() {
        assert_eq!(response_secret("crm"), "crm-binding-response");
    }
}
