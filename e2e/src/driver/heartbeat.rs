//! Step 5: the heartbeat, written as the konnector writes it (contract konnector.md 2.1).

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::api::DynamicObject;
use serde_json::json;

use super::{ATTEMPTS, Consumer, conditions};
use crate::object;
use crate::wait::eventually;

/// The singleton.
const NAME: &str = "cluster";
/// Heartbeats have whole seconds; there is a new one by then.
const CHANGE: Duration = Duration::from_secs(30);
/// The konnector's own conditions.
const OWN: [&str; 2] = ["SecretValid", "ValidVersion"];

impl Consumer {
    /// Reads the `ClusterBinding` and writes one heartbeat, again on a conflict as the konnector's queue does.
    /// Returns the object as written.
    pub async fn heartbeat(&self) -> Result<DynamicObject> {
        let api = self.kube_bind("ClusterBinding");
        for _ in 0..ATTEMPTS {
            let binding = api.get(NAME).await.context("reading the ClusterBinding")?;
            match self.heartbeat_on(&binding).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                written => return written.context("writing the heartbeat"),
            }
        }
        bail!(
            "{ATTEMPTS} heartbeats in a row met a conflict: somebody else writes this status all the time"
        )
    }

    /// One merge patch of the status under the UID and resourceVersion of `binding`, which need not be current.
    pub async fn heartbeat_on(&self, binding: &DynamicObject) -> kube::Result<DynamicObject> {
        let now = conditions::now();
        let mut list = conditions::existing(binding);
        for kind in OWN {
            conditions::set_true(&mut list, kind, &now);
        }
        conditions::summarise(&mut list, &now);
        let patch = json!({
            "metadata": {
                "uid": binding.metadata.uid,
                "resourceVersion": binding.metadata.resource_version,
            },
            "status": {
                "lastHeartbeatTime": now,
                "heartbeatInterval": "5m0s",
                "konnectorVersion": "v0.8.1",
                "consumerSecretRef": {"name": "kubeconfig-e2e", "namespace": "kube-bind"},
                "conditions": list,
            },
        });
        object::merge_patch(&self.kube_bind("ClusterBinding"), NAME, &patch, true).await
    }

    /// Writes a heartbeat, then one with the resourceVersion from before: that must meet a conflict.
    pub async fn check_stale_heartbeat(&self) -> Result<()> {
        let old = self.kube_bind("ClusterBinding").get(NAME).await?;
        // Two heartbeats in one second are the same status, which makes no new version.
        eventually("a heartbeat that changes something", CHANGE, async || {
            let written = self.heartbeat().await.map_err(|error| format!("{error:#}"))?;
            let changed = written.metadata.resource_version != old.metadata.resource_version;
            if changed { Ok(()) } else { Err("the same resourceVersion".to_owned()) }
        })
        .await?;
        match self.heartbeat_on(&old).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error).context("a stale heartbeat must give 409"),
            Ok(_) => bail!("a heartbeat with a stale resourceVersion was accepted"),
        }
    }

    /// Whether the konnector's conditions are still there, the list is in order, and `Ready` is the summary of the
    /// others whoever wrote last. Returns the object.
    pub async fn check_conditions(&self) -> Result<DynamicObject> {
        let binding = self.kube_bind("ClusterBinding").get(NAME).await?;
        let list = conditions::existing(&binding);
        for kind in OWN {
            object::expect_condition(&binding, kind, "True").map_err(anyhow::Error::msg)?;
        }
        let ready = list.iter().find(|condition| condition["type"] == "Ready");
        let expected = conditions::summary(&list).as_ref().map(conditions::timeless);
        ensure!(
            ready.map(conditions::timeless) == expected,
            "Ready is not the summary of the others: {}",
            object::summary(&binding)
        );
        let mut sorted = list.clone();
        conditions::summarise(&mut sorted, "");
        ensure!(sorted == list, "the conditions are out of order: {}", object::summary(&binding));
        Ok(binding)
    }
}
