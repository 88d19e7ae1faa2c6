//! The flags of the HTTP API as clap sees them.

use clap::Args;

/// Read unless `--frontend-disabled`.
#[derive(Debug, Args)]
pub(in crate::cli) struct FrontArgs {
    #[command(flatten)]
    pub(super) http: HttpArgs,
    #[command(flatten)]
    pub(super) login: LoginArgs,
    #[command(flatten)]
    pub(super) konnector: KonnectorArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP API")]
pub(super) struct HttpArgs {
    /// Origin under which browsers and kubectl bind reach this backend,
    /// https://<host>[:<port>]; empty means the origin of --oidc-callback-url
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub(super) external_url: String,
    /// Let --external-url be plain http for hosts other than loopback; cookies and tokens then cross the
    /// network in the clear
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = crate::cli::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub(super) allow_plain_http: bool,
    /// PEM file with the certificate of --listen-address, read again when it changes; empty means plain
    /// http, for a proxy that ends TLS
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) tls_cert_file: String,
    /// PEM file with the private key of --tls-cert-file
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) tls_key_file: String,
    /// File to append a line of JSON to for each login, bind and refusal; `-` means standard output,
    /// empty means none
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) audit_log: String,
    #[arg(long, hide = true, default_value = "embedded")]
    pub(super) frontend: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Login and sessions")]
pub(super) struct LoginArgs {
    /// `external` (an OpenID Connect provider of yours) or `embedded` (for development: everybody is logged
    /// in as the same user without a password)
    #[arg(long, value_name = "TYPE", default_value = "external")]
    pub(super) oidc_type: String,
    /// Issuer, exactly as it writes itself. embedded: <external URL>/oidc
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub(super) oidc_issuer_url: String,
    /// Where the issuer sends browsers back to: <external URL>/api/callback
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub(super) oidc_callback_url: String,
    /// Client ID at the issuer
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(super) oidc_issuer_client_id: String,
    /// Client secret at the issuer, for a confidential client; the environment variable `OIDC_CLIENT_SECRET`
    /// is better, since command lines can be seen by others
    #[arg(
        long,
        value_name = "SECRET",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(super) oidc_issuer_client_secret: String,
    /// PEM file with the only CAs to trust for the issuer; empty means those of the system
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) oidc_ca_file: String,
    /// Claim with the name of the user for authorization in the provider's cluster
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub(super) oidc_username_claim: String,
    /// Claim with the groups of the user; groups that start with `system:` are dropped
    #[arg(long, value_name = "CLAIM", default_value = "groups")]
    pub(super) oidc_groups_claim: String,
    /// Let --oidc-type=embedded be reached from other machines, where everybody who finds it can log in
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = crate::cli::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub(super) allow_remote_embedded_oidc: bool,
    #[arg(long, hide = true, default_value = "")]
    pub(super) oidc_authorize_url: String,
    /// How long a login lasts: session, cookie and token of kubectl bind
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(super) token_expiry: String,
    /// PEM file with the P-256 keys that sign the tokens of kubectl bind: the first signs, all are accepted.
    /// Empty means a new key at each start, with which tokens end
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) session_key_file: String,
    /// Redis that keeps logins and sessions, so that several replicas share them and a restart keeps
    /// them; its password is `REDIS_PASSWORD` in the environment. Empty means memory
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    pub(super) redis_addr: String,
    /// Speak TLS with Redis
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = crate::cli::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub(super) redis_tls: bool,
    /// PEM file with the only CAs to trust for Redis; implies --redis-tls
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub(super) redis_ca_file: String,
    #[arg(long, hide = true, default_value = "")]
    pub(super) cookie_signing_key: String,
    #[arg(long, hide = true, default_value = "")]
    pub(super) cookie_encryption_key: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Konnector in the clusters of consumers")]
pub(super) struct KonnectorArgs {
    /// Image of the konnector in manifests and applied bindings
    #[arg(long, value_name = "IMAGE", default_value = crate::http::konnector::IMAGE)]
    pub(super) konnector_image: String,
    /// Line for /etc/hosts of konnector pods, `IP:host1,host2`; repeatable
    #[arg(long, value_name = "ALIAS")]
    pub(super) konnector_host_alias: Vec<String>,
    /// Serve /api/apply-binding: users upload the kubeconfig of their cluster, and the backend installs
    /// konnector and binding there
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = crate::cli::values::go_bool,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub(super) enable_apply_binding: bool,
    /// Private networks that --enable-apply-binding may call, such as 10.1.0.0/16; repeatable and comma
    /// separated. Without it only public addresses
    #[arg(long, value_name = "LIST")]
    pub(super) consumer_cidr: Vec<String>,
}
