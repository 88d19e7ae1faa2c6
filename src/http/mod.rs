//! What browsers and `kubectl bind` talk to: login, sessions, the catalogue, binding (contract http.md).
//!
//! | module | what it holds |
//! |---|---|
//! | `server` | the accept loop, TLS, limits, what every response carries |
//! | `error` | the error body of the contract |
//! | `external_url` | the address that clients know us by, and where a login may lead back to |
//! | `json` | bodies read strictly |
//! | `limits` | token buckets |
//! | `oidc` | the relying party, and the issuer for development |
//! | `sessions` | logins under way, sessions, CLI tokens, and where they are kept |
//! | `apply` | a binding carried to the consumer's cluster |
//! | `konnector` | what installs the konnector in a consumer's cluster |
//! | `bindable`, `consumer_status` | the answers of two small routes |

pub mod api;
pub mod apply;
pub mod audit;
pub mod bind;
pub mod bindable;
pub mod caller;
pub mod catalogue;
pub mod clusters;
pub mod consumer_status;
pub mod error;
pub mod external_url;
pub mod front;
pub mod json;
pub mod konnector;
pub mod limits;
mod locks;
pub mod oidc;
pub mod params;
pub mod reviews;
pub mod server;
pub mod sessions;
