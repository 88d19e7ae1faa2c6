//! The flags as clap sees them. Values are taken as text; `validate` gives them meaning, so that
//! every wrong value is reported in the order of contract flags.md 3 and in the same form.

use clap::builder::ArgAction;
use clap::{Arg, Args, CommandFactory, Parser};

use super::front::FrontArgs;

/// Logging details of Kubernetes component-base and a test switch that v0.8.1 accepts; they have no
/// counterpart here.
const LOGGING: [&str; 4] =
    ["vmodule", "log-flush-frequency", "log-text-info-buffer-size", "testing-auto-select"];

/// The only accepted-and-ignored flag that may stand without a value.
const LOGGING_SWITCH: &str = "log-text-split-stream";

/// Names of all flags that are accepted and ignored.
pub(super) fn ignored_names() -> impl Iterator<Item = &'static str> {
    LOGGING.into_iter().chain([LOGGING_SWITCH])
}

/// Names of the flags of the HTTP API. Without it v0.8.1 neither completes nor validates them
/// (contract flags.md 2), so neither do we.
pub(super) fn front_names() -> Vec<String> {
    names::<FrontArgs>().into_iter().map(|(_, flag)| flag).collect()
}

/// Id and name of the flags of a run that belong into every command line of an installation: neither those that say
/// how to reach it, nor those of the HTTP API, among which are secrets.
pub(super) fn lasting_names() -> Vec<(String, String)> {
    let front = front_names();
    let mut all = names::<RunArgs>();
    all.retain(|(_, flag)| !front.contains(flag) && !OF_THE_PLACE.contains(&flag.as_str()));
    all
}

/// Flags that differ between the admin who prepares and the backend that runs.
const OF_THE_PLACE: [&str; 5] =
    ["kubeconfig", "context", "multicluster-runtime-provider", "frontend-disabled", "v"];

/// Id and name of each flag.
fn names<A: Args>() -> Vec<(String, String)> {
    let command = A::augment_args(clap::Command::new("flags"));
    let name = |arg: &Arg| Some((arg.get_id().to_string(), arg.get_long()?.to_owned()));
    command.get_arguments().filter_map(name).collect()
}

/// The whole command line, with the flags that are only accepted added as hidden ones.
pub(super) fn command() -> clap::Command {
    let accepted = LOGGING.into_iter().map(|name| {
        Arg::new(name).long(name).hide(true).action(ArgAction::Append).allow_hyphen_values(true)
    });
    let switch = Arg::new(LOGGING_SWITCH)
        .long(LOGGING_SWITCH)
        .hide(true)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true");
    let accepted: Vec<Arg> = accepted.chain([switch]).collect();
    let with_accepted = |command: clap::Command| command.args(accepted.clone());
    let mut command = with_accepted(Cli::command());
    for taking in ["init", "doctor", "workspaces"] {
        command = command.mut_subcommand(taking, with_accepted);
    }
    command.mut_subcommand("init", |init| {
        init.mut_arg("kubeconfig", |arg| arg.help(ADMIN))
            .mut_arg("context", |arg| arg.help(CONTEXT))
    })
}

/// The flags of a run that have another meaning for `init`.
const ADMIN: &str = "Kubeconfig of a kcp admin; empty means KUBECONFIG, then ~/.kube/config";
const CONTEXT: &str = "Context in that kubeconfig; empty means its current context";

/// Serves the kube-bind backend for one Kubernetes cluster or for every kcp workspace that bound
/// the kube-bind.io APIExport.
///
/// Without a subcommand the backend runs. All flags of the kube-bind backend v0.8.1 are accepted.
#[derive(Debug, Parser)]
#[command(
    name = "backend",
    version,
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_subcommand = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) run: RunArgs,
    #[command(subcommand)]
    pub(super) command: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Prepare a kcp workspace for the backend: schemas, APIExport, service account and its
    /// kubeconfig. Takes the flags of the backend, and leaves out of the APIExport the claims that they do not need
    Init(InitArgs),
    /// Check an installation and say what is wrong, with the command that repairs it; changes nothing. Takes the flags
    /// of the backend
    Doctor(DoctorArgs),
    /// Show the logical clusters that are served, with their exports and consumers. Takes the flags of the backend
    Workspaces(WorkspacesArgs),
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// `text` or `json`
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub(super) output: String,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct WorkspacesArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// `table`, `json` or `yaml`
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: String,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct InitArgs {
    /// Workspace for the APIExport, created where it is missing
    #[arg(long, value_name = "PATH", default_value = "root:kube-bind")]
    pub(super) workspace: String,
    /// Where to write the kubeconfig that the backend runs with
    #[arg(long, value_name = "FILE", default_value = "backend.kubeconfig")]
    pub(super) output: String,
    /// Name of the APIExport
    #[arg(long, value_name = "NAME", default_value = "kube-bind.io")]
    pub(super) export_name: String,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// The flags of the default mode.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) access: AccessArgs,
    #[command(flatten)]
    pub(super) consumers: ConsumerArgs,
    #[command(flatten)]
    pub(super) front: FrontArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster access and provider")]
pub(super) struct AccessArgs {
    /// Kubeconfig file; empty means KUBECONFIG, then ~/.kube/config, then the service account of
    /// the pod
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) kubeconfig: String,
    /// Context in the kubeconfig; empty means its current context
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) context: String,
    /// `kubernetes` (one cluster) or `kcp` (every workspace that bound the APIExport)
    #[arg(long, value_name = "PROVIDER", default_value = "kubernetes")]
    pub(super) multicluster_runtime_provider: String,
    /// kcp: endpoint slice of the APIExport, to watch in the workspace of the kubeconfig; give it once for
    /// each slice, where Partitions have their own
    #[arg(long, value_name = "NAME", default_value = "kube-bind.io")]
    pub(super) apiexport_endpoint_slice_name: Vec<String>,
    /// kcp: existing directory in which the last known endpoints are stored, for a start while the shard of the
    /// APIExport is away; empty means nowhere
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    pub(super) state_dir: String,
    /// kubernetes: https URL that replaces the host of the kubeconfig. kcp: the one virtual
    /// workspace URL to use instead of the endpoint slice,
    /// https://<host>/services/apiexport/<cluster>/<export>
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub(super) server_url: String,
    /// kcp: serve the logical cluster of the APIExport itself as well; its Secrets hold the token
    /// of this backend
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = super::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub(super) serve_export_workspace: bool,
    /// kcp: an APIBinding whose name starts with one of these gets no templates
    #[arg(
        long,
        value_name = "LIST",
        default_value = "kube-bind.io,tenancy.kcp.io,topology.kcp.io"
    )]
    pub(super) apibinding_ignore_prefixes: Vec<String>,
    /// kcp with --schema-source=apiresourceschemas: generate templates for what the APIBindings of a workspace bind,
    /// where it grants apibindings.apis.kcp.io
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = super::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true"
    )]
    pub(super) templates_from_bindings: bool,
    /// Kind that exported schemas are read from: `customresourcedefinitions` or
    /// `apiresourceschemas`
    #[arg(
        long,
        value_name = "SOURCE",
        default_value = "CustomResourceDefinition.v1.apiextensions.k8s.io"
    )]
    pub(super) schema_source: String,
    /// Accepted for compatibility, at least 10s: schemas with update policy Always follow their source
    /// at once
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub(super) schema_sync_interval: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Contract with consumers")]
pub(super) struct ConsumerArgs {
    /// Prefix of the namespace of each consumer, used verbatim
    #[arg(long, value_name = "PREFIX", default_value = "cluster-")]
    pub(super) namespace_prefix: String,
    /// Name of this provider as consumers see it
    #[arg(long, value_name = "NAME", default_value = "Backend")]
    pub(super) pretty_name: String,
    /// `Namespaced` or `Cluster`: what consumers may see of the exported resources
    #[arg(long, value_name = "SCOPE", default_value = "Namespaced")]
    pub(super) consumer_scope: String,
    /// `Prefixed`, `Namespaced` or `None`: how objects of consumers are kept apart
    #[arg(
        long,
        value_name = "ISOLATION",
        default_value = "Prefixed",
        overrides_with = "cluster_scoped_isolation"
    )]
    pub(super) isolation: String,
    /// Deprecated name of --isolation
    #[arg(long, value_name = "ISOLATION", hide = true, overrides_with = "isolation")]
    pub(super) cluster_scoped_isolation: Option<String>,
    /// Let several consumers of one cluster have exports by which they reach each other's objects:
    /// permission claims with --consumer-scope=cluster, and cluster-wide rights with --isolation=none
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = super::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub(super) allow_shared_cluster_scope: bool,
    /// https URL of the API server as consumers reach it. kcp: its path is replaced by
    /// /clusters/<id>
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub(super) external_address: String,
    /// PEM file with the CA that consumers need for the API server; empty means the CA of the
    /// kubeconfig
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) external_ca_file: String,
    /// TLS server name that consumers expect from the API server
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) external_server_name: String,
    /// Groups that may bind, repeatable and comma separated: subjects of `ClusterRoleBinding`
    /// kube-bind-oidc-user
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub(super) oidc_allowed_groups: Vec<String>,
    /// Users that may bind, repeatable and comma separated: subjects of `ClusterRoleBinding`
    /// kube-bind-oidc-user
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub(super) oidc_allowed_users: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Server and logging")]
pub(super) struct ServerArgs {
    /// Run without the HTTP API: consumers bind with `BindableResourcesRequest` objects only
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = super::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub(super) frontend_disabled: bool,
    /// Address to listen on, for the HTTP API and /healthz
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(super) listen_address: String,
    #[arg(long, hide = true, default_value = "")]
    pub(super) listen_ip: String,
    #[arg(long, hide = true, default_value = "0")]
    pub(super) listen_port: u16,
    /// Own address for /livez, /readyz and /metrics. Empty means --listen-address with
    /// --frontend-disabled, and nowhere with the HTTP API
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    pub(super) admin_address: String,
    /// Log verbosity: 0 errors and warnings only, 2 the usual, 4 and more debug
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value = "2")]
    pub(super) verbosity: u8,
    #[arg(long, hide = true, default_value = "text")]
    pub(super) logging_format: String,
}
