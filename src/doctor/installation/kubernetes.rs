//! On Kubernetes: the definitions of our kinds, and the backend's rights.

use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;

use super::rights;
use crate::doctor::finding::{Finding, Object, Severity};
use crate::doctor::look::{Error, Look};
use crate::doctor::reason::Reason;
use crate::init::merge::merge;
use crate::manifests;
use crate::runtime::endpoint::connect;

fn definition() -> ApiResource {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions")
}

/// What is wrong with the definitions and rights; and whether anybody answered.
pub(super) async fn findings(look: &mut Look) -> Result<(Vec<Finding>, bool), Error> {
    let client = connect(look.client.clone(), &look.metrics)?;
    // Untyped, because types write numbers in another form than the server.
    let definitions = Api::<DynamicObject>::all_with(client, &definition());
    let mut all = Vec::new();
    for wanted in manifests::crds::all().map_err(Error::Manifests)? {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let live = match definitions.get_opt(name).await {
            Ok(live) => live.and_then(|live| serde_json::to_value(live).ok()),
            Err(kube::Error::Api(_)) => continue, // Said by the rights below.
            Err(_) => return Ok((all, false)),    // The endpoint says so.
        };
        let same = live.as_ref().is_some_and(|live| merge(live, &wanted) == *live);
        if !same {
            let object = Object::installed("CustomResourceDefinition", name);
            let file = format!("kube-bind.io_{}.yaml", name.split('.').next().unwrap_or_default());
            let message = format!(
                "it is missing, or not the one that this backend needs; the command is for a checkout of version {}",
                env!("CARGO_PKG_VERSION")
            );
            let found = Finding::new(Severity::Error, Reason::DefinitionOutdated, object, message);
            all.push(found.repaired_by(Some(apply(look, &file))));
        }
    }
    let repair = apply(look, "rbac.yaml");
    all.extend(rights::findings(look, rights::on_kubernetes(), Some(repair)).await?);
    Ok((all, true))
}

/// The command that applies a file of `manifests/`.
fn apply(look: &Look, file: &str) -> String {
    format!("kubectl {} apply --filename=manifests/{file}", look.server())
}
