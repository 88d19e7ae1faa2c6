//! Step 11: claimed objects of the consumer (contract konnector.md 2.9).

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};

use super::{Change, Event, Key, Use, Watches};
use crate::object::{self, core};

impl Use {
    /// Puts a claimed object into a service namespace.
    pub async fn create_claimed(
        &self,
        kind: &str,
        namespace: &str,
        service: &str,
        name: &str,
    ) -> Result<DynamicObject> {
        let manifest = claimed(kind, namespace, name, "one");
        object::create(self.consumer.client(), &core(kind), Some(service), manifest).await
    }

    /// A claimed object comes, is replaced without a resourceVersion, and goes; the consumer sees it on its watch.
    pub async fn check_claim(
        &self,
        informers: &Watches,
        kind: &str,
        namespace: &str,
        service: &str,
        name: &str,
    ) -> Result<()> {
        let mark = informers.mark();
        let key = Key { namespace: Some(service.to_owned()), name: name.to_owned() };
        let seen = async |what: &str, change: Change| {
            let changed = |event: &Event| event.change == change;
            informers.wait_for_object(mark, kind, &key, what, changed).await
        };
        self.create_claimed(kind, namespace, service, name).await?;
        seen("the creation", Change::Added).await?;
        let api = object::api(self.consumer.client(), &core(kind), Some(service));
        let mut again = claimed(kind, namespace, name, "two");
        again["apiVersion"] = json!("v1");
        again["kind"] = json!(kind);
        let again: DynamicObject = serde_json::from_value(again)?;
        let replaced = api.replace(name, &PostParams::default(), &again).await;
        let replaced = replaced.with_context(|| format!("replacing {kind} {name}"))?;
        let annotations = replaced.metadata.annotations.unwrap_or_default();
        ensure!(annotations.get("round").map(String::as_str) == Some("two"), "{annotations:?}");
        seen("the change", Change::Modified).await?;
        api.delete(name, &DeleteParams::default())
            .await
            .with_context(|| format!("deleting {kind} {name}"))?;
        seen("the end", Change::Deleted).await?;
        Ok(())
    }
}

/// The copy of a claimed object of the consumer: labelled as the consumer's own.
fn claimed(kind: &str, namespace: &str, name: &str, round: &str) -> Value {
    let mut copy = json!({
        "metadata": {
            "name": name,
            "labels": {"app": "wild-west", "kube-bind.io/owner": "consumer"},
            "annotations": {
                "kube-bind.io/consumer-namespace": namespace,
                "kube-bind.io/consumer-uid": format!("uid-of-{name}"),
                "round": round,
            },
        },
    });
    match kind {
        "Secret" => copy["stringData"] = json!({"key": round}),
        "ConfigMap" => copy["data"] = json!({"key": round}),
        _ => {}
    }
    copy
}
