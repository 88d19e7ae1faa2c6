//! From flags to a [`Config`]: the rules of contract flags.md 3 in its order, the first failing one
//! wins.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

use crate::api::keys;
use crate::api::v1alpha2::Isolation;
use crate::cli::args::{InitArgs, RunArgs, ServerArgs};
use crate::cli::claims::Needs;
use crate::cli::config::{Config, Format, InitConfig};
use crate::cli::front::{self, Environment, FrontError, IssuerConfig};
use crate::cli::values::{self, ProviderKind, ValueError, WorkspacePath};
use crate::consumer::external::{self, ExternalAddress};
use crate::consumer::names::{self, NameError};

/// A flag whose value cannot work.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The value itself is wrong.
    #[error("--{flag}: {source}")]
    Value {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// What is wrong.
        source: ValueError,
    },
    /// A prefix that cannot start a namespace name.
    #[error("--namespace-prefix: {0}")]
    NamespacePrefix(#[source] NameError),
    /// An external address that consumers could not use.
    #[error("--external-address: {0}")]
    ExternalAddress(#[source] external::Error),
    /// A file that cannot be read.
    #[error("--{flag}: cannot read {path:?}: {source}; name a file that this process may read")]
    File {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// The path as given.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A CA file without a certificate.
    #[error("--{flag}: {path:?} holds no certificate; name a PEM file with the CA to trust")]
    NoCertificate {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// The path as given.
        path: PathBuf,
    },
    /// The flags of the HTTP API.
    #[error(transparent)]
    Front(#[from] FrontError),
}

/// Names the flag of a refused value.
pub(super) fn flag<T>(flag: &'static str, result: Result<T, ValueError>) -> Result<T, ConfigError> {
    result.map_err(|source| ConfigError::Value { flag, source })
}

pub(super) fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Builds the settings of a run; `ignored` names the given flags that have no effect, as `--name`.
pub(super) fn run_config(
    args: &RunArgs,
    environment: Environment,
    ignored: &[String],
) -> Result<Config, ConfigError> {
    let RunArgs { access, consumers, front, server } = args;
    let (listen_address, admin_address) = addresses(server)?;
    // Read at start, so that a later change of the file cannot change what consumers get.
    let external_ca = non_empty(&consumers.external_ca_file)
        .map(|path| certificates("external-ca-file", &path))
        .transpose()?;
    names::check_prefix(&consumers.namespace_prefix).map_err(ConfigError::NamespacePrefix)?;
    if consumers.pretty_name.is_empty() {
        return flag("pretty-name", Err(ValueError::Empty));
    }
    let mut notices = notices(args, ignored);
    let mut oidc_allowed_groups = values::list(&consumers.oidc_allowed_groups);
    let oidc_allowed_users = values::list(&consumers.oidc_allowed_users);
    let mut front_config = None;
    if !server.frontend_disabled {
        let has_allowed = !(oidc_allowed_groups.is_empty() && oidc_allowed_users.is_empty());
        let (config, said) = front::front(front, environment, listen_address, has_allowed)?;
        notices.extend(said);
        // As v0.8.1: whoever the issuer for development lets in may bind.
        if config.oidc.issuer == IssuerConfig::Embedded {
            oidc_allowed_groups.push(keys::AUTHENTICATED.to_owned());
        }
        front_config = Some(config);
    }
    let consumer_scope = flag("consumer-scope", values::consumer_scope(&consumers.consumer_scope))?;
    let isolation = isolation(&consumers.isolation, consumers.cluster_scoped_isolation.as_deref())?;
    let external_address = non_empty(&consumers.external_address)
        .map(|text| ExternalAddress::parse(&text))
        .transpose()
        .map_err(ConfigError::ExternalAddress)?;
    let provider = flag(
        "multicluster-runtime-provider",
        values::provider(&access.multicluster_runtime_provider),
    )?;
    let schema_source = flag("schema-source", values::schema_source(&access.schema_source))?;
    flag("schema-sync-interval", values::schema_sync_interval(&access.schema_sync_interval))?;
    if let Some(config) = &mut front_config {
        config.host_aliases = front::aliases(front)?;
    }
    // Rules of our own come last, so that the order of the contract stays what people know.
    let slices = access.apiexport_endpoint_slice_name.iter().map(|name| values::object_name(name));
    let endpoint_slice_names = flag("apiexport-endpoint-slice-name", slices.collect())?;
    let server_url = non_empty(&access.server_url)
        .map(|url| flag("server-url", values::server_url(&url, provider)))
        .transpose()?;
    let state_dir = non_empty(&access.state_dir).map(PathBuf::from);
    if state_dir.is_some() && (provider == ProviderKind::Kubernetes || server_url.is_some()) {
        notices.push("--state-dir has no effect: no endpoint slice is read".to_owned());
    }
    Ok(Config {
        kubeconfig: kubeconfig(&access.kubeconfig)?,
        context: non_empty(&access.context),
        provider,
        endpoint_slice_names,
        state_dir,
        server_url,
        serve_export_workspace: access.serve_export_workspace,
        apibinding_ignore_prefixes: values::prefixes(&access.apibinding_ignore_prefixes),
        templates_from_bindings: access.templates_from_bindings,
        schema_source,
        namespace_prefix: consumers.namespace_prefix.clone(),
        pretty_name: consumers.pretty_name.clone(),
        consumer_scope,
        isolation,
        allow_shared_cluster_scope: consumers.allow_shared_cluster_scope,
        external_address,
        external_ca,
        external_server_name: non_empty(&consumers.external_server_name),
        oidc_allowed_groups,
        oidc_allowed_users,
        listen_address,
        front: front_config,
        admin_address,
        verbosity: server.verbosity,
        notices,
    })
}

/// Builds the settings of a look at an installation: those of a run, for which the HTTP API does not matter.
pub(super) fn look_config(mut args: RunArgs) -> Result<Config, ConfigError> {
    let lets_all_in = !args.server.frontend_disabled && front::is_embedded(&args.front);
    args.server.frontend_disabled = true;
    // What is stored is the business of those who serve.
    args.access.state_dir = String::new();
    let mut config = run_config(&args, Environment::default(), &[])?;
    if lets_all_in {
        config.oidc_allowed_groups.push(keys::AUTHENTICATED.to_owned());
    }
    Ok(config)
}

/// The format of that name, where `allowed` names those that are known.
pub(super) fn format(
    given: &str,
    known: &[(&str, Format)],
    allowed: &'static str,
) -> Result<Format, ConfigError> {
    let found = known.iter().find(|(name, _)| *name == given).map(|(_, format)| *format);
    let unknown = || ValueError::Unknown { given: given.to_owned(), allowed };
    flag("output", found.ok_or_else(unknown))
}

/// Builds the settings of `init`; `given` are the flags on the command line with which the backend is started, too,
/// but for those of the HTTP API.
pub(super) fn init_config(
    mut args: InitArgs,
    given: Vec<(String, String)>,
    http_api: bool,
) -> Result<InitConfig, ConfigError> {
    if args.output.is_empty() {
        return flag("output", Err(ValueError::Empty));
    }
    "kcp".clone_into(&mut args.run.access.multicluster_runtime_provider);
    let run = look_config(args.run)?;
    // Without the flag the claims of both sources are made: nobody has said yet which one it will be.
    let is_known = given.iter().any(|(flag, _)| flag == "schema-source");
    let needs = Needs {
        schema_source: is_known.then_some(run.schema_source),
        templates: run.templates_from_bindings,
        external_address: run.external_address.is_some(),
    };
    Ok(InitConfig {
        claims: needs.claims(),
        flags: given.into_iter().map(|(flag, value)| format!("--{flag}={value}")).collect(),
        http_api,
        serves_export: run.serve_export_workspace,
        workspace: flag("workspace", WorkspacePath::parse(&args.workspace))?,
        output: PathBuf::from(&args.output),
        export_name: flag("export-name", values::object_name(&args.export_name))?,
        kubeconfig: run.kubeconfig,
        context: run.context,
    })
}

/// The deprecated name is the same variable in v0.8.1; clap has already dropped the one that came
/// first.
fn isolation(current: &str, deprecated: Option<&str>) -> Result<Isolation, ConfigError> {
    match deprecated {
        Some(given) => flag("cluster-scoped-isolation", values::isolation(given)),
        None => flag("isolation", values::isolation(current)),
    }
}

fn addresses(server: &ServerArgs) -> Result<(SocketAddr, Option<SocketAddr>), ConfigError> {
    let listen = if server.listen_ip.is_empty() {
        flag("listen-address", values::listen_address(&server.listen_address))?
    } else {
        let address = format!("{}:{}", server.listen_ip, server.listen_port);
        flag("listen-ip", values::listen_address(&address))?
    };
    let admin = non_empty(&server.admin_address)
        .map(|address| flag("admin-address", values::listen_address(&address)))
        .transpose()?;
    if server.logging_format != "text" {
        let given = server.logging_format.clone();
        let allowed = "text";
        return flag("logging-format", Err(ValueError::Unknown { given, allowed }));
    }
    Ok((listen, admin))
}

/// The content of a file.
pub(super) fn read(flag: &'static str, path: &str) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::File { flag, path: path.into(), source })
}

/// The content of a PEM file with certificates.
pub(super) fn certificates(flag: &'static str, path: &str) -> Result<Vec<u8>, ConfigError> {
    let pem = read(flag, path)?;
    let mut certificates = CertificateDer::pem_slice_iter(&pem).peekable();
    if certificates.peek().is_none() || certificates.any(|certificate| certificate.is_err()) {
        return Err(ConfigError::NoCertificate { flag, path: path.into() });
    }
    Ok(pem)
}

/// An explicit kubeconfig must exist; the standard places may be empty.
fn kubeconfig(path: &str) -> Result<Option<PathBuf>, ConfigError> {
    if path.is_empty() {
        return Ok(None);
    }
    match Path::new(path).metadata() {
        Ok(_) => Ok(Some(path.into())),
        Err(source) => Err(ConfigError::File { flag: "kubeconfig", path: path.into(), source }),
    }
}

fn notices(args: &RunArgs, ignored: &[String]) -> Vec<String> {
    let mut notices = Vec::new();
    if args.consumers.cluster_scoped_isolation.is_some() {
        notices
            .push("--cluster-scoped-isolation is deprecated, use --isolation instead".to_owned());
    }
    if !args.server.listen_ip.is_empty() {
        notices.push(
            "--listen-ip and --listen-port are deprecated, use --listen-address instead".to_owned(),
        );
    }
    if !ignored.is_empty() {
        notices.push(format!("flags without effect: {}", ignored.join(", ")));
    }
    notices
}
