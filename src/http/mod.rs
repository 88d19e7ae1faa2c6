//! What browsers and `kubectl bind` talk to: login, sessions, the catalogue, binding (contract http.md).
//!
//! | module | what it holds |
//! |---|---|
//! | `front` | all of it put together, run and ended in order |
//! | `api` | the routes |
//! | `params`, `caller`, `clusters`, `reviews` | who asks, about which cluster, and whether they may |
//! | `places` | how many may ask something of one shard |
//! | `bind`, `catalogue`, `consumer_status`, `bindable` | what the routes answer |
//! | `apply` | a binding carried to the consumer's cluster |
//! | `konnector` | what installs the konnector in a consumer's cluster |
//! | `sessions` | logins under way, sessions, CLI tokens, and where they are kept |
//! | `oidc` | the relying party, and the issuer for development |
//! | `server` | the accept loop, TLS, limits, what every response carries |
//! | `error`, `json`, `external_url`, `limits`, `locks` | what the others share |
//! | `audit` | who did what |
//!
//! A request passes `server` (bounds, Host, origin), `api` (session, cluster, review), and one of the modules
//! that answer. `page/` is the page: HTML, CSS and a script, embedded in the binary.

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
pub mod places;
pub mod reviews;
pub mod server;
pub mod sessions;
