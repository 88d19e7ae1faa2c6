//! From flags to the parts of the HTTP API.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::Error;
use crate::cli::{self, Config, FrontConfig, IssuerConfig, ProviderKind};
use crate::http::audit::Audit;
use crate::http::front::{Parts, Provider};
use crate::http::konnector::{BoundApis, Konnector};
use crate::http::{front, oidc, sessions};

pub(super) fn parts(config: &Config, given: &FrontConfig) -> Result<Parts, Error> {
    let audit = match &given.audit {
        None => (Audit::default(), None),
        Some(cli::Audit::Stdout) => with_writer(Audit::to_stdout())?,
        Some(cli::Audit::File(path)) => with_writer(Audit::to_file(path))?,
    };
    let (oidc, provider) = oidc(given)?;
    Ok(Parts {
        listen: config.listen_address,
        tls: given.tls.clone(),
        external: given.external_url.clone(),
        pretty_name: config.pretty_name.clone(),
        oidc,
        provider,
        lifetime: given.token_expiry,
        keys: given.session_keys.as_ref().map(secret),
        redis: given.redis.as_ref().map(redis),
        audit,
        konnector: Konnector {
            image: given.konnector_image.clone(),
            host_aliases: given.host_aliases.clone(),
            bound: BoundApis::Any,
        },
        apply: given.apply_binding.clone(),
        named: config.provider == ProviderKind::Kcp,
        clock: Arc::new(Timestamp::now),
    })
}

fn with_writer<W>(
    opened: Result<(Audit, W), crate::http::audit::Error>,
) -> Result<(Audit, Option<W>), Error> {
    let (audit, writer) = opened.map_err(front::Error::from)?;
    Ok((audit, Some(writer)))
}

fn oidc(given: &FrontConfig) -> Result<(oidc::Config, Provider), Error> {
    let login = &given.oidc;
    let mut config =
        oidc::Config::new(login.issuer_url.clone(), String::new(), login.callback_url.clone());
    config.username_claim.clone_from(&login.username_claim);
    config.groups_claim.clone_from(&login.groups_claim);
    let provider = match &login.issuer {
        IssuerConfig::Embedded => {
            let url = url::Url::parse(&login.issuer_url);
            Provider::Embedded(
                url.map_err(|_| oidc::issuer::Error::Host).map_err(front::Error::from)?,
            )
        }
        IssuerConfig::External { client_id, client_secret, ca } => {
            config.client_id.clone_from(client_id);
            config.client_secret = client_secret.as_ref().map(secret);
            config.ca.clone_from(ca);
            Provider::External
        }
    };
    Ok((config, provider))
}

fn redis(given: &cli::RedisConfig) -> sessions::RedisConfig {
    let mut config = sessions::RedisConfig::new(given.address.clone());
    config.password = given.password.as_ref().map(secret);
    config.tls = given.tls.then(|| sessions::RedisTls { ca: given.ca.clone() });
    config
}

fn secret(given: &cli::Secret) -> SecretString {
    given.0.clone()
}
