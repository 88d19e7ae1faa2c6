//! The flags of the HTTP API: login, sessions, and what is served (contract flags.md 2 and 3).

mod args;
mod config;
#[cfg(test)]
mod tests;
mod validate;

pub(super) use args::FrontArgs;
pub use config::{Audit, FrontConfig, IssuerConfig, OidcConfig, RedisConfig, Secret};
pub use validate::FrontError;
pub(super) use validate::{Environment, aliases, front, is_embedded};
