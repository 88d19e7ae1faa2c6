//! The table of what is served.

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;

use super::bindings::{How, Stuck, stuck};
use super::conditions::{CLAIMS, false_ones};
use super::finding::{Severity, line};
use super::heartbeat::silence;
use super::look::Look;
use super::reason::Reason;
use crate::api::keys;
use crate::api::v1alpha2;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::fleet::{Cluster, ClusterInfo};

/// A logical cluster that is served, or ought to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// The workspace path; the name of the logical cluster where there is none.
    path: String,
    /// The logical cluster.
    cluster: String,
    /// Host of the endpoint through which it is served.
    shard: String,
    /// Our APIBinding; empty on Kubernetes.
    binding: String,
    /// How many other APIBindings are visible.
    services: usize,
    /// How many templates are offered.
    templates: usize,
    /// How many exports there are.
    exports: usize,
    /// How many consumers there are.
    consumers: usize,
    /// How many of them report.
    alive: usize,
    /// `Ready`, `Leaving`, `Pending` where no backend has been yet, or the reason why not all is well.
    health: String,
}

/// All of them, by path.
pub(super) fn rows(look: &Look, now: Timestamp) -> Vec<Row> {
    let stuck = stuck(look);
    let mut rows: Vec<Row> =
        look.clusters.iter().map(|cluster| served(look, cluster, &stuck, now)).collect();
    let unbound = stuck.iter().filter(|one| one.how == How::NotBound);
    let is_served = |one: &&Stuck| look.clusters.iter().any(|cluster| cluster.id == one.cluster);
    rows.extend(unbound.filter(|one| !is_served(one)).map(unserved));
    rows.sort_by(|a, b| (&a.path, &a.cluster).cmp(&(&b.path, &b.cluster)));
    rows
}

fn shard(endpoint: &Endpoint) -> String {
    endpoint.uri().authority().map(ToString::to_string).unwrap_or_default()
}

fn served(look: &Look, cluster: &Cluster, stuck: &[Stuck], now: Timestamp) -> Row {
    let kinds = &look.kinds;
    let bindings = kinds.api_bindings.list(cluster);
    let consumers = kinds.cluster_bindings.list(cluster);
    let own = kinds.clusters.get(cluster, "", keys::CLUSTER);
    let is_stuck = stuck
        .iter()
        .any(|one| one.cluster == cluster.id && one.binding.name_any() == cluster.info.binding);
    Row {
        path: cluster.display().to_owned(),
        cluster: cluster.id.to_string(),
        shard: shard(&cluster.endpoint),
        binding: cluster.info.binding.clone(),
        services: bindings.iter().filter(|one| one.name_any() != cluster.info.binding).count(),
        templates: kinds.templates.list(cluster).len(),
        exports: kinds.exports.list(cluster).len(),
        alive: consumers.iter().filter(|binding| silence(binding, now).is_none()).count(),
        consumers: consumers.len(),
        health: health(&cluster.info, own.as_deref(), is_stuck),
    }
}

/// A workspace that wants to be served, and is not.
fn unserved(stuck: &Stuck) -> Row {
    Row {
        path: stuck.path().cloned().unwrap_or_else(|| stuck.cluster.to_string()),
        cluster: stuck.cluster.to_string(),
        shard: shard(&stuck.endpoint),
        binding: stuck.binding.name_any(),
        health: Reason::NotBound.as_str().to_owned(),
        ..Row::default()
    }
}

/// The health of a cluster, the worst first. What can be seen counts more than what was written about it, as no backend
/// need be running.
fn health(info: &ClusterInfo, own: Option<&v1alpha2::Cluster>, is_stuck: bool) -> String {
    if info.leaving {
        return Reason::Leaving.as_str().to_owned();
    }
    if !info.missing.is_empty() || !info.unasked.is_empty() {
        return Reason::PermissionClaimsMissing.as_str().to_owned();
    }
    let Some(own) = own else { return "Pending".to_owned() };
    let said = own.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let wrong = false_ones(said).filter(|one| one.type_ != CLAIMS);
    let worst = wrong.min_by_key(|one| Severity::of(one));
    match worst {
        Some(worst) => worst.reason.clone().unwrap_or_else(|| worst.type_.clone()),
        None if is_stuck => Reason::BindingOutdated.as_str().to_owned(),
        None => "Ready".to_owned(),
    }
}

/// The rows as columns. Others wrote some of what is in them.
pub(super) fn table(rows: &[Row]) -> String {
    let head = [
        "PATH",
        "CLUSTER",
        "SHARD",
        "BINDING",
        "SERVICES",
        "TEMPLATES",
        "EXPORTS",
        "CONSUMERS",
        "HEALTH",
    ];
    let lines: Vec<[String; 9]> = std::iter::once(head.map(str::to_owned))
        .chain(rows.iter().map(|row| {
            [
                row.path.clone(),
                row.cluster.clone(),
                row.shard.clone(),
                row.binding.clone(),
                row.services.to_string(),
                row.templates.to_string(),
                row.exports.to_string(),
                format!("{}/{} alive", row.alive, row.consumers),
                row.health.clone(),
            ]
            .map(|cell| line(&cell))
        }))
        .collect();
    let width =
        |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let text = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn health_is_what_can_be_seen_before_what_was_written() {
        let info = |missing: &[&str], leaving| ClusterInfo {
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
            leaving,
            ..ClusterInfo::default()
        };
        let own = |conditions: Value| -> v1alpha2::Cluster {
            let conditions: Vec<Value> = conditions
                .as_array()
                .unwrap()
                .iter()
                .map(|said| {
                    json!({
                        "type": said[0], "status": said[1], "severity": said[2], "reason": said[3],
                        "lastTransitionTime": "2026-06-10T12:00:00Z",
                    })
                })
                .collect();
            serde_json::from_value(json!({
                "apiVersion": "kube-bind.io/v1alpha2", "kind": "Cluster",
                "metadata": { "name": "default" }, "spec": {}, "status": { "conditions": conditions },
            }))
            .unwrap()
        };
        let well = own(json!([]));
        let stale = own(json!([[CLAIMS, "False", "Error", "PermissionClaimsMissing"]]));
        let bad = own(json!([
            ["ServicesOffered", "False", "Warning", "ForeignTemplate"],
            ["UsersAllowed", "False", "Error", "ForeignRole"],
        ]));
        for (info, own, is_stuck, expected) in [
            (info(&[], false), Some(&well), false, "Ready"),
            (info(&[], false), None, false, "Pending"),
            (info(&[], false), Some(&stale), false, "Ready"),
            (info(&[], false), Some(&well), true, "BindingOutdated"),
            (info(&[], false), Some(&bad), true, "ForeignRole"),
            (info(&["secrets.core"], false), Some(&well), false, "PermissionClaimsMissing"),
            (info(&["secrets.core"], false), None, false, "PermissionClaimsMissing"),
            (info(&["secrets.core"], true), Some(&bad), false, "Leaving"),
        ] {
            assert_eq!(health(&info, own, is_stuck), expected, "{info:?} {own:?}");
        }
    }

    #[test]
    fn what_others_wrote_does_not_reach_the_terminal_as_it_is() {
        let row = Row { health: "\u{1b}]0;owned\u{7}\nReady\u{202e}".into(), ..Row::default() };
        let text = table(&[row]);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(text.ends_with(" ]0;owned  Ready"), "{text:?}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = Row {
            path: "root:team-a".into(),
            cluster: "28rwq3skw0u9rkqq".into(),
            shard: "kcp:6443".into(),
            binding: "kube-bind.io".into(),
            services: 1,
            templates: 2,
            exports: 3,
            consumers: 4,
            alive: 3,
            health: "Ready".into(),
        };
        assert_eq!(
            table(&[row]),
            "PATH          CLUSTER            SHARD      BINDING        SERVICES   TEMPLATES   EXPORTS   CONSUMERS   HEALTH\n\
             root:team-a   28rwq3skw0u9rkqq   kcp:6443   kube-bind.io   1          2           3         3/4 alive   Ready"
        );
    }
}
