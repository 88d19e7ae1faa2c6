//! What browsers and `kubectl bind` talk to: login, sessions, the catalogue, binding (contract http.md).
//!
//! | module | what it holds |
//! |---|---|
//! | `server` | the accept loop, TLS, limits, what every response carries |
//! | `oidc` | the relying party, and the issuer for development |
//! | `sessions` | logins under way, sessions, CLI tokens, and where they are kept |
//! | `apply` | a binding carried to the consumer's cluster |

pub mod sessions;
