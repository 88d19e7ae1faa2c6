//! Who may bind over HTTP: the role `kube-bind-oidc-user` in each workspace, from the flags.

use e2e::wait::SOON;

use anyhow::{Result, ensure};
use e2e::backend::Backend;
use e2e::kcp::Claims;
use e2e::object::{self, kube_bind, rbac};
use e2e::provider::Provider;
use e2e::stack;
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::doctor::Clinic;
use crate::Test;

const NAME: &str = "kube-bind-oidc-user";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("users::the_role_follows_the_flags_and_foreign_edits_are_put_right", || {
            follows_the_flags().boxed()
        }),
        ("users::a_foreign_role_of_that_name_is_left_alone_with_a_condition", || {
            foreign_role().boxed()
        }),
    ]
}

fn subject(kind: &str, name: &str) -> Value {
    json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name })
}

async fn follows_the_flags() -> Result<()> {
    let flags = ["--oidc-allowed-groups=devs,ops", "--oidc-allowed-users=ann"];
    let mut provider = Provider::start("users", &flags).await?;
    let tenant = provider.tenant("users", Claims::All).await?;
    let admin = provider.kcp.client(&tenant.cluster).await?;
    let bindings = object::api(&admin, &rbac("ClusterRoleBinding"), None);
    let wanted = json!([subject("Group", "devs"), subject("Group", "ops"), subject("User", "ann")]);
    let as_wanted = |binding: &kube::api::DynamicObject| {
        let subjects = &binding.data["subjects"];
        (*subjects == wanted).then_some(()).ok_or_else(|| format!("the subjects are {subjects}"))
    };
    let what = "the subjects of the flags";
    let binding = object::wait_for(&bindings, NAME, what, SOON, as_wanted).await?;
    let owner = binding.metadata.owner_references.unwrap_or_default();
    ensure!(owner.len() == 1 && owner[0].kind == "Cluster" && owner[0].name == "default");

    let widened = json!({ "subjects": [subject("Group", "system:authenticated")] });
    object::merge_patch(&bindings, NAME, &widened, false).await?;
    object::wait_for(&bindings, NAME, "the edit to be put right", SOON, as_wanted).await?;

    provider.backend.stop().await?;
    let without = provider.flags.iter().filter(|flag| !flag.starts_with("--oidc-"));
    let _backend = Backend::start(&stack::unique("no-users"), without).await?;
    object::wait_gone(&bindings, NAME).await?;
    object::wait_gone(&object::api(&admin, &rbac("ClusterRole"), None), NAME).await
}

async fn foreign_role() -> Result<()> {
    let provider = Provider::start("foreign-role", &["--oidc-allowed-users=ann"]).await?;
    let workspace = provider.kcp.create_workspace("root", &stack::unique("foreign-role")).await?;
    let admin = provider.kcp.client(&workspace.cluster).await?;
    let role = json!({
        "metadata": { "name": NAME },
        "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }],
    });
    let before = object::create(&admin, &rbac("ClusterRole"), None, role).await?;
    provider.bind(&workspace, Claims::All).await?;
    let clusters = object::api(&admin, &kube_bind("Cluster"), None);
    let cluster = object::wait_for(&clusters, "default", "the condition", SOON, |cluster| {
        object::expect_condition(cluster, "UsersAllowed", "False")
    })
    .await?;
    let condition = object::condition(&cluster, "UsersAllowed");
    ensure!(condition.is_some_and(|c| c["reason"] == "ForeignRole"), "{condition:?}");
    let after = object::api(&admin, &rbac("ClusterRole"), None).get(NAME).await?;
    ensure!(after.data["rules"] == before.data["rules"], "the foreign role was changed");
    let bindings = object::api(&admin, &rbac("ClusterRoleBinding"), None);
    ensure!(bindings.get_opt(NAME).await?.is_none(), "a binding to the foreign role was made");
    Clinic::of(&provider, &admin)?.heals("ForeignRole", "default").await?;
    object::wait_for(&bindings, NAME, "a binding of ours", SOON, |_| Ok(())).await.map(drop)
}
