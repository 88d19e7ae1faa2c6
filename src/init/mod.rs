//! `backend init`: prepares a kcp workspace so that the backend can run there without an admin
//! credential.
//!
//! Reads an admin kubeconfig. Writes the workspace path, the `APIResourceSchema`s, the `APIExport`,
//! the backend's service account with its rights (what [`crate::manifests::kcp`] generates), a
//! token Secret, where needed one `APIBinding`, and a kubeconfig file. Promises that a second run
//! changes nothing, that fields of others in these objects stay, and that every object is compared
//! first and then written with its resourceVersion.

mod claims;
pub(crate) mod connection;
mod credentials;
mod endpoint;
mod error;
mod legacy;
pub(crate) mod merge;
mod objects;
mod workspace;

use std::path::Path;

use serde_json::{Value, json};

pub(crate) use self::credentials::is_written_by_init;
use crate::api::keys;
use crate::cli::InitConfig;
use crate::init::connection::Admin;
pub use crate::init::error::Error;
use crate::init::legacy::Left;
use crate::init::objects::{Kind, Outcome, Target};
use crate::manifests;

/// Prepares the workspace, printing one line a step to standard output.
pub async fn run(config: InitConfig) -> Result<(), Error> {
    let admin = Admin::load(config.kubeconfig.as_deref(), config.context.as_deref()).await?;
    credentials::check_output(&config.output)?;
    workspace::ensure(&admin, &config.workspace).await?;
    let workspace = admin.workspace(config.workspace.as_str())?;
    let mut unneeded = Vec::new();
    for object in wanted(&config)? {
        objects::ensure(&workspace, &object).await?;
        if Kind::of(&object) == Some(Kind::ApiExport) {
            let live = objects::get(&workspace, &Target::of(&object)?).await?;
            unneeded = claims::unneeded(&live.unwrap_or_default(), &config.claims);
        }
    }
    let token = credentials::ensure_token(&workspace).await?;
    let left = Left::look(&workspace, &config).await?;
    let url = endpoint::ensure(&workspace, &config.export_name).await?;
    let kubeconfig = credentials::kubeconfig(&admin, &workspace, token);
    endpoint::wait_until_served(&kubeconfig, &url).await?;
    let outcome = credentials::write(&config.output, &kubeconfig)?;
    report(outcome, &format!("kubeconfig {}", config.output.display()));
    println!("{}", next_step(&config, &url));
    // Whoever runs it may be in any workspace.
    let kubectl = format!("kubectl --server={}", shell_word(&workspace.server));
    let notices = left.notices(&config, &kubectl);
    for notice in claims::notice(&config, &kubectl, &unneeded).into_iter().chain(notices) {
        println!("{notice}");
    }
    Ok(())
}

/// Prints one step.
fn report(outcome: Outcome, what: &str) {
    println!("{:<9} {what}", outcome.as_str());
}

/// Everything the workspace holds, in the order of creation.
fn wanted(config: &InitConfig) -> Result<Vec<Value>, Error> {
    let mut objects = manifests::kcp::api_resource_schemas().map_err(Error::Manifests)?;
    objects.push(manifests::kcp::api_export(&config.claims).map_err(Error::Manifests)?);
    objects.extend(manifests::kcp::rbac());
    for object in &mut objects {
        rename_export(object, &config.export_name);
    }
    Ok(objects)
}

/// Gives the export, and the rule that opens its virtual workspace, the name that `--export-name`
/// asks for.
fn rename_export(object: &mut Value, export_name: &str) {
    if Kind::of(object) == Some(Kind::ApiExport) {
        object["metadata"]["name"] = json!(export_name);
    }
    let rules = object.get_mut("rules").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        if rule["resources"] == json!(["apiexports/content"]) {
            rule["resourceNames"] = json!([export_name]);
        }
    }
}

fn next_step(config: &InitConfig, url: &str) -> String {
    let mut flags: Vec<String> = config.flags.iter().map(|flag| shell_word(flag)).collect();
    let is_given = |name: &str| config.flags.iter().any(|flag| flag.starts_with(name));
    if !is_given("--schema-source=") {
        flags.insert(0, "--schema-source=apiresourceschemas".to_owned());
    }
    if config.export_name != keys::EXPORT && !is_given("--apiexport-endpoint-slice-name=") {
        let slice = format!("--apiexport-endpoint-slice-name={}", config.export_name);
        flags.insert(0, shell_word(&slice));
    }
    let (http, with) = if config.http_api {
        ("", "\n\nwith your flags of the HTTP API.")
    } else {
        (" --frontend-disabled=true", "")
    };
    format!(
        "\nThe virtual workspace is {url}\n\
         Workspaces are served once they bind APIExport {export} of {workspace} and accept its claims.\n\
         Next, start the backend:\n\n  \
         backend --kubeconfig={output} --multicluster-runtime-provider=kcp {flags}{http}{with}",
        flags = flags.join(" "),
        export = config.export_name,
        workspace = config.workspace,
        output = shell_path(&config.output),
    )
}

fn shell_path(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

/// A word as a POSIX shell takes it.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:=@+,".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::claims::CLAIMS;
    use crate::cli::WorkspacePath;

    fn config() -> InitConfig {
        InitConfig {
            kubeconfig: None,
            context: None,
            workspace: WorkspacePath::parse("root:kube-bind").unwrap(),
            output: "my file".into(),
            export_name: "mine".to_owned(),
            claims: CLAIMS.to_vec(),
            flags: vec![],
            http_api: false,
            serves_export: false,
        }
    }

    #[test]
    fn the_export_and_the_rule_for_its_content_are_renamed() {
        let mut export = json!({"apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIExport",
            "metadata": {"name": "kube-bind.io"}});
        rename_export(&mut export, "mine");
        assert_eq!(export["metadata"]["name"], "mine");
        let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "r"},
        "rules": [
            {"resources": ["apiexports/content"], "resourceNames": ["kube-bind.io"]},
            {"resources": ["apiexports"]},
        ]});
        rename_export(&mut role, "mine");
        assert_eq!(
            role["rules"],
            json!([
                {"resources": ["apiexports/content"], "resourceNames": ["mine"]},
                {"resources": ["apiexports"]},
            ])
        );
    }

    #[test]
    fn every_generated_object_can_be_created_after_what_it_needs() {
        let objects = wanted(&config()).unwrap();
        let kinds: Vec<_> = objects.iter().map(Kind::of).collect();
        assert!(kinds.iter().all(Option::is_some), "{kinds:?}");
        let position = |kind| kinds.iter().position(|found| *found == Some(kind));
        assert!(position(Kind::ApiResourceSchema) < position(Kind::ApiExport));
        assert!(position(Kind::Namespace) < position(Kind::ServiceAccount));
        let text = serde_json::to_string(&objects).unwrap();
        assert!(!text.contains(r#"["kube-bind.io"]"#) || !text.contains("resourceNames\":[\"kube"));
    }

    #[test]
    fn the_next_command_names_what_differs_from_the_defaults() {
        let text = next_step(&config(), "https://h/services/apiexport/a/mine");
        assert!(
            text.ends_with(
                "  backend --kubeconfig='my file' --multicluster-runtime-provider=kcp \
                 --apiexport-endpoint-slice-name=mine --schema-source=apiresourceschemas --frontend-disabled=true"
            ),
            "{text}"
        );
    }
}
