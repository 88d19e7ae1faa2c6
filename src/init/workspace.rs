//! The workspace path, created segment by segment.

use std::time::Instant;

use serde_json::{Value, json};

use crate::api::kcp::{LOGICAL_CLUSTER, PHASE_READY};
use crate::cli::WorkspacePath;
use crate::init::connection::{Admin, POLL, SETTLE, Workspace};
use crate::init::error::{Error, Failure};
use crate::init::objects::{self, Kind, Target};

/// Creates what is missing of `path` and waits until all of it can be used.
pub(super) async fn ensure(admin: &Admin, path: &WorkspacePath) -> Result<(), Error> {
    for (parent_path, name) in path.steps() {
        let parent = admin.workspace(parent_path)?;
        let target = Target::new(Kind::Workspace, None, name);
        match objects::get(&parent, &target).await? {
            // An existing workspace may have any type.
            Some(_) => {
                let label = format!("{} in {parent_path}", target.label);
                super::report(objects::Outcome::Unchanged, &label);
            }
            None => objects::ensure(&parent, &workspace(parent_path, name)).await?,
        }
        wait_until_ready(&parent, &target).await?;
        wait_until_usable(&admin.workspace(&format!("{parent_path}:{name}"))?).await?;
    }
    Ok(())
}

/// As the Go tool does: an organization below root (contract kcp.md 1), plain workspaces below
/// that.
fn workspace(parent: &str, name: &str) -> Value {
    let type_name = if parent == "root" { "organization" } else { "universal" };
    json!({
        "apiVersion": "tenancy.kcp.io/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "spec": {"type": {"name": type_name, "path": "root"}},
    })
}

async fn wait_until_ready(parent: &Workspace, target: &Target) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let workspace = objects::get(parent, target).await?;
        if workspace.is_some_and(|workspace| workspace["status"]["phase"] == PHASE_READY) {
            return Ok(());
        }
        if started.elapsed() > SETTLE {
            return Err(Error::Timeout {
                what: target.label.clone(),
                workspace: parent.path.clone(),
                state: "Ready",
                waited: SETTLE,
                next: "see its status.conditions, then run init again",
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The path resolves, and the rights in a new workspace are effective, a moment after it is Ready.
async fn wait_until_usable(workspace: &Workspace) -> Result<(), Error> {
    let target = Target::new(Kind::LogicalCluster, None, LOGICAL_CLUSTER);
    let started = Instant::now();
    loop {
        match objects::get(workspace, &target).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) | Err(Error::Call { failure: Failure::NoRoute, .. })
                if started.elapsed() < SETTLE => {}
            Err(Error::Call { failure, .. })
                if failure.may_settle() && started.elapsed() < POLL * 10 => {}
            Err(error) => return Err(error),
            Ok(None) => {
                return Err(Error::Timeout {
                    what: target.label,
                    workspace: workspace.path.clone(),
                    state: "there",
                    waited: SETTLE,
                    next: "check that --kubeconfig and --context name a kcp server",
                });
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_root_is_an_organization_and_others_are_universal() {
        assert_eq!(
            workspace("root", "a")["spec"],
            json!({"type": {"name": "organization", "path": "root"}})
        );
        assert_eq!(
            workspace("root:a", "b")["spec"],
            json!({"type": {"name": "universal", "path": "root"}})
        );
    }
}
