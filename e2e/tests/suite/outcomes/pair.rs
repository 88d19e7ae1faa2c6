//! An export of two resources, with its hash computed independently.

use anyhow::{Result, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use e2e::driver::{self, Settings};
use e2e::object::{self, rbac};
use e2e::service::{self, GROUP, claim, request_spec};
use e2e::wait::eventually;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::suite::said::{HASH, Place, SOON, annotation, cowboys, horses};

pub(super) async fn two_resources() -> Result<()> {
    let (place, bystander) = Place::wild_west("outcomes-two").await?;
    let horses = horses();
    service::establish(&place.admin, &[horses.crd()]).await?;
    let outcome = async {
        let consumer = place.consumer("rancher").await?;
        // Not in the order of their names: the hash follows the request.
        let wanted = [&horses, &cowboys()];
        let spec = request_spec(&wanted, &[claim("secrets")]);
        let request = consumer.request_export("ranch", &spec).await?;
        request.succeeded()?;
        let export = consumer.export("ranch").await?;
        export.check(Settings::APART)?;
        let names: Vec<_> = export.schemas.iter().map(|s| s.metadata.name.clone()).collect();
        ensure!(names == wanted.map(|resource| Some(resource.name())), "{names:?}");
        let lines: Vec<_> =
            export.schemas.iter().map(|schema| line(&schema.data["spec"])).collect();
        for (schema, line) in export.schemas.iter().zip(&lines) {
            ensure!(annotation(schema, HASH)? == hex(line), "a BoundSchema's hash: {line}");
        }
        ensure!(annotation(&export.object, HASH)? == hex(&lines.concat()), "the export's hash");

        let usage = driver::Use {
            consumer: consumer.clone(),
            settings: Settings::APART,
            exported: cowboys(),
            claims: vec!["Secret"],
            export,
        };
        let service = usage.service_namespace("wild-west").await?;
        let found = object::api(&place.admin, &rbac("Role"), Some(&service));
        let role = found.get("kube-binder-claims-ranch").await?;
        let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
        let all = |group: &str, resource: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
        let expected = json!([all(GROUP, "cowboys"), all(GROUP, "horses"), all("", "secrets")]);
        ensure!(role.data["rules"] == expected, "{}", role.data["rules"]);
        // Both work for the consumer.
        for exported in wanted {
            let list = format!("{} can be listed", exported.plural);
            let api = object::api(consumer.client(), &exported.resource(), Some(&service));
            eventually(&list, SOON, async || api.list(&ListParams::default()).await).await?;
        }
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}

fn hex(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    let bytes: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.concat()
}

/// What of a `BoundSchema` is hashed (contract objects.md 5.1), as far as the schemas of these tests go: no characters
/// that Go escapes, no printer columns. Free-form objects are sorted by their keys already.
fn line(spec: &Value) -> String {
    let names = fields(&spec["names"], &["plural", "singular", "kind", "listKind"]);
    let versions = spec["versions"].as_array().into_iter().flatten();
    let keys = ["name", "served", "storage", "schema", "subresources"];
    let versions: Vec<_> = versions.map(|version| fields(version, &keys)).collect();
    let text = |key: &str| spec[key].to_string();
    format!(
        "{{\"informerScope\":{},\"group\":{},\"names\":{names},\"scope\":{},\"versions\":[{}],\
         \"conversion\":{}}}\n",
        text("informerScope"),
        text("group"),
        text("scope"),
        versions.join(","),
        text("conversion"),
    )
}

/// The fields of an object in this order.
fn fields(object: &Value, keys: &[&str]) -> String {
    let fields: Vec<_> = keys.iter().map(|key| format!("\"{key}\":{}", object[*key])).collect();
    format!("{{{}}}", fields.join(","))
}
