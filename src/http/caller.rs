//! Who makes a request.

use crate::runtime::cluster::ClusterId;

/// A user with a session, as far as the routes need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who said who the user is.
    pub issuer: String,
    /// Who it is there: never given to another person.
    pub subject: String,
    /// The name for authorisation.
    pub username: String,
    /// The groups for authorisation.
    pub groups: Vec<String>,
    /// The cluster that the user logged in for: no request of the session is about another one.
    pub cluster: ClusterId,
    /// Whether the user could see that cluster when it logged in. Else it is told no more of it than of
    /// one that does not exist.
    pub admitted: bool,
    /// What the client called its login; names nothing of ours.
    pub correlation: String,
}

impl Caller {
    /// The user's own identity as a consumer: what the page binds as.
    #[must_use]
    pub fn own_identity(&self) -> String {
        format!("{}/{}", self.issuer, self.subject)
    }

    /// Whether an identity can be the caller's: those below an issuer belong to its users, each to one.
    #[must_use]
    pub fn may_be(&self, identity: &str) -> bool {
        let below = identity.strip_prefix(&self.issuer).and_then(|rest| rest.strip_prefix('/'));
        below.is_none_or(|subject| subject == self.subject)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::http) fn caller() -> Caller {
        Caller {
            issuer: "https://id.example.com".to_owned(),
            subject: "ann".to_owned(),
            username: "ann".to_owned(),
            groups: vec!["dev".to_owned()],
            cluster: ClusterId::local(),
            admitted: true,
            correlation: "s1".to_owned(),
        }
    }

    #[test]
    fn identities_of_other_users_of_the_issuer_are_theirs() {
        let ann = caller();
        assert_eq!(ann.own_identity(), "https://id.example.com/ann");
        for (identity, mine) in [
            ("https://id.example.com/ann", true),
            ("5c1b7f3e-kube-system", true),
            ("https://id.example.community/bob", true),
            ("https://id.example.com/bob", false),
            ("https://id.example.com/ann/x", false),
            ("https://id.example.com/", false),
        ] {
            assert_eq!(ann.may_be(identity), mine, "{identity}");
        }
    }
}
