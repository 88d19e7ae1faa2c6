//! What the process was asked to do, with every value validated.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::Uri;

use crate::api::claims::Claim;
use crate::api::v1alpha2::{Isolation, Scope};
use crate::cli::claims::Needs;
use crate::cli::front::FrontConfig;
use crate::cli::values::{ProviderKind, SchemaSource, WorkspacePath};
use crate::consumer::external::ExternalAddress;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the backend.
    Run(Box<Config>),
    /// Prepare a kcp workspace for it.
    Init(InitConfig),
    /// Check an installation.
    Doctor(Box<Config>, Format),
    /// Show what is served.
    Workspaces(Box<Config>, Format),
}

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: paragraphs or a table.
    Text,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Settings of a running backend. Flags and defaults: contract flags.md 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `--kubeconfig`; none means the standard loading rules.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`; none means the current context of the kubeconfig.
    pub context: Option<String>,
    /// `--multicluster-runtime-provider`.
    pub provider: ProviderKind,
    /// `--apiexport-endpoint-slice-name`, given once or more, read with [`ProviderKind::Kcp`] only.
    pub endpoint_slice_names: Vec<String>,
    /// `--state-dir`, read with [`ProviderKind::Kcp`] only; none means that nothing is stored.
    pub state_dir: Option<PathBuf>,
    /// `--server-url` without a trailing slash in its path. With [`ProviderKind::Kubernetes`] it
    /// replaces the host of the kubeconfig, with [`ProviderKind::Kcp`] it is the one virtual
    /// workspace URL.
    pub server_url: Option<Uri>,
    /// `--serve-export-workspace`: serve the export's own logical cluster like a tenant (off: its
    /// Secrets hold our token).
    pub serve_export_workspace: bool,
    /// `--apibinding-ignore-prefixes`.
    pub apibinding_ignore_prefixes: Vec<String>,
    /// `--templates-from-bindings`; see [`Config::offers_bindings`].
    pub templates_from_bindings: bool,
    /// `--schema-source`.
    pub schema_source: SchemaSource,
    /// `--namespace-prefix`; together with any identity it makes a valid namespace name.
    pub namespace_prefix: String,
    /// `--pretty-name`, never empty.
    pub pretty_name: String,
    /// `--consumer-scope`.
    pub consumer_scope: Scope,
    /// `--isolation`.
    pub isolation: Isolation,
    /// `--allow-shared-cluster-scope`: several consumers of one cluster may have exports that reach
    /// each other's objects.
    pub allow_shared_cluster_scope: bool,
    /// `--external-address`.
    pub external_address: Option<ExternalAddress>,
    /// Content of `--external-ca-file`: PEM with at least one certificate.
    pub external_ca: Option<Vec<u8>>,
    /// `--external-server-name`.
    pub external_server_name: Option<String>,
    /// `--oidc-allowed-groups`: group subjects of `kube-bind-oidc-user`.
    pub oidc_allowed_groups: Vec<String>,
    /// `--oidc-allowed-users`: user subjects of `kube-bind-oidc-user`.
    pub oidc_allowed_users: Vec<String>,
    /// `--listen-address` (or the deprecated pair `--listen-ip`, `--listen-port`).
    pub listen_address: SocketAddr,
    /// What the HTTP API does; none with `--frontend-disabled`.
    pub front: Option<FrontConfig>,
    /// `--admin-address`; none means that `listen_address` serves health and metrics where there is no
    /// HTTP API.
    pub admin_address: Option<SocketAddr>,
    /// `-v`: the klog verbosity, 2 by default.
    pub verbosity: u8,
    /// Lines to log once logging works: deprecated and ignored flags.
    pub notices: Vec<String>,
}

impl Config {
    /// Whether templates are generated for what `APIBindings` bind: what they offer are `APIResourceSchemas`.
    #[must_use]
    pub fn offers_bindings(&self) -> bool {
        self.templates_from_bindings
            && self.provider == ProviderKind::Kcp
            && self.schema_source == SchemaSource::ApiResourceSchemas
    }

    /// The permission claims that a workspace of kcp has to grant.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        let needs = Needs {
            schema_source: Some(self.schema_source),
            templates: self.templates_from_bindings,
            external_address: self.external_address.is_some(),
        };
        needs.claims()
    }
}

/// Settings of `backend init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitConfig {
    /// `--kubeconfig` of a kcp admin; none means the standard loading rules.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`; none means the current context of the kubeconfig.
    pub context: Option<String>,
    /// `--workspace`: holds the APIExport, created where it is missing.
    pub workspace: WorkspacePath,
    /// `--output`: the kubeconfig file to write.
    pub output: PathBuf,
    /// `--export-name`.
    pub export_name: String,
    /// The permission claims that the flags of the backend need.
    pub claims: Vec<Claim>,
    /// Those flags of the backend that were given, for the command that starts it; without those of the HTTP API.
    pub flags: Vec<String>,
    /// Flags of the HTTP API were given, too.
    pub http_api: bool,
    /// `--serve-export-workspace`: the backend is to reach into this workspace, too.
    pub serves_export: bool,
}
