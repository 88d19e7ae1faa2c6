//! What an export workspace needs: `APIResourceSchema`s, the `APIExport` and the backend's rights.
//!
//! No `APIBinding` is here: `kubectl apply -f kcp/` must work, and a binding fails until the export
//! is ready. `init` makes one afterwards, because kcp serves an export only on shards where it is
//! bound (contract kcp.md section 1).

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::rules::{cluster_role, lease_role, namespace, rule, service_account};
use super::{Error, crds, plural, sorted};
use crate::api::claims::Claim;
use crate::api::keys;

/// The schemas of the twelve kinds, by resource.
///
/// They are immutable in kcp, so each is named after its content: the same schema has the same name
/// in every build, and a changed one gets a new name instead of an update that kcp refuses.
pub fn api_resource_schemas() -> Result<Vec<Value>, Error> {
    crds::all()?.iter().map(api_resource_schema).collect()
}

fn api_resource_schema(crd: &Value) -> Result<Value, Error> {
    let plural = plural(crd);
    let spec = schema_spec(&crd["spec"]);
    let canonical = serde_json::to_string(&sorted(&spec))
        .map_err(|source| Error::Json { object: format!("schema of {plural}"), source })?;
    let hash = digest(&SHA256, canonical.as_bytes());
    let prefix = hash.as_ref().iter().take(4).fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    Ok(json!({
        "apiVersion": "apis.kcp.io/v1alpha1",
        "kind": "APIResourceSchema",
        "metadata": { "name": format!("v{prefix:08x}.{plural}.{}", keys::GROUP) },
        "spec": spec,
    }))
}

/// The spec of a CRD in kcp's form: bare schemas, and a conversion only where there are versions to
/// convert between, where kcp asks for it.
fn schema_spec(crd_spec: &Value) -> Value {
    let crd_versions = crd_spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let versions: Vec<Value> = crd_versions
        .iter()
        .map(|version| {
            let mut version = version.clone();
            version["schema"] = version["schema"]["openAPIV3Schema"].take();
            version
        })
        .collect();
    let mut spec = Map::new();
    for field in ["group", "names", "scope"] {
        spec.insert(field.to_owned(), crd_spec[field].clone());
    }
    if versions.len() > 1 {
        spec.insert("conversion".to_owned(), json!({ "strategy": "None" }));
    }
    spec.insert("versions".to_owned(), Value::Array(versions));
    Value::Object(spec)
}

/// The `APIExport` that workspaces bind, with these permission claims.
pub fn api_export(claims: &[Claim]) -> Result<Value, Error> {
    let resources: Vec<Value> = api_resource_schemas()?
        .iter()
        .map(|schema| {
            json!({
                "group": keys::GROUP,
                "name": plural(schema),
                "schema": schema["metadata"]["name"],
                "storage": { "crd": {} },
            })
        })
        .collect();
    // The empty fields are what kcp fills in: written out, applying twice changes nothing.
    let claims: Vec<Value> = claims
        .iter()
        .map(|claim| {
            json!({
                "group": claim.group,
                "identityHash": "",
                "resource": claim.resource,
                "verbs": claim.claimed_verbs(),
            })
        })
        .collect();
    Ok(json!({
        "apiVersion": "apis.kcp.io/v1alpha2",
        "kind": "APIExport",
        "metadata": { "name": keys::EXPORT },
        "spec": { "resources": resources, "permissionClaims": claims },
    }))
}

/// The backend's service account and rights in the export workspace.
///
/// They are enough for every bound workspace on every shard: what the backend may do there is
/// decided by the claims that each workspace accepted, and `apiexports/content` opens the way to
/// them. No right to change the export itself, and no admin credential at run time.
#[must_use]
pub fn rbac() -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let mut content = rule("apis.kcp.io", &["apiexports/content"], &["*"]);
    content["resourceNames"] = json!([keys::EXPORT]);
    let rules = [
        content,
        rule("apis.kcp.io", &["apiexportendpointslices", "apiexports"], &read),
        json!({ "nonResourceURLs": ["/"], "verbs": ["access"] }),
    ];
    let mut objects = vec![namespace(), service_account()];
    objects.extend(cluster_role(&rules));
    objects.extend(lease_role());
    objects
}
