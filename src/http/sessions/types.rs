//! What a login and a session remember.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Who began a login, and so how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientType {
    /// The page: gets a cookie.
    Ui,
    /// `kubectl bind`: gets a token.
    Cli,
}

/// A login that begins. The `state` is not in it: it is half of what it is found by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Login {
    /// Comes back in the `id_token`.
    #[serde(with = "exposed")]
    pub nonce: SecretString,
    /// The PKCE verifier: proves at the token endpoint that we began.
    #[serde(with = "exposed")]
    pub verifier: SecretString,
    /// Where the browser goes in the end; checked before the login began.
    pub redirect_url: String,
    /// What the client calls its login (`session_id` in contract http.md). Echoed, and names nothing of ours.
    pub correlation: String,
    /// The cluster to log in for, as `cluster_id` names it. Empty: the backend's own.
    pub cluster: String,
    /// The consumer that the page is about (`consumer_id`), or empty.
    pub consumer: String,
    /// Who began it.
    pub client: ClientType,
}

impl Login {
    /// The bytes of text that the client has left with it.
    pub(super) fn text(&self) -> usize {
        self.redirect_url.len() + self.correlation.len() + self.cluster.len() + self.consumer.len()
    }
}

/// A login under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginState {
    /// What began.
    pub login: Login,
    /// When it began.
    pub created: Timestamp,
    /// When it is given up.
    pub expires: Timestamp,
}

/// Whom a session is for, and in which cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who said who the user is.
    pub issuer: String,
    /// Who it is there: never given to another person.
    pub subject: String,
    /// The name for authorisation.
    pub username: String,
    /// The groups for authorisation.
    pub groups: Vec<String>,
    /// The cluster that the user logged in for, as `cluster_id` names it. Empty: the backend's own. No
    /// request of the session is about another one: the caller compares.
    pub cluster: String,
    /// Whether the user could see that cluster when it logged in.
    pub admitted: bool,
    /// What the client called its login; names nothing of ours.
    pub correlation: String,
}

/// A session. It is not prolonged: whoever stole it has it until then at the longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose it is.
    pub user: User,
    /// When it began.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// Secrets on their way into the store. The only ones are nonce and verifier: both are good for one
/// login of at most ten minutes, and for nothing without the code, which the issuer gives to the
/// browser alone and takes only from us. The login's entry is found by `state` and cookie together,
/// and neither is in the store, so that whoever reads it cannot finish the login here.
mod exposed {
    use secrecy::{ExposeSecret as _, SecretString};
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        secret: &SecretString,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose_secret())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SecretString, D::Error> {
        String::deserialize(deserializer).map(SecretString::from)
    }
}
