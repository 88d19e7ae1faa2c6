//! The table of what is served.

use kube::ResourceExt as _;
use serde::Serialize;

use crate::api::conditions::{self, HEALTHY, READY};
use crate::kinds::Kinds;
use crate::runtime::fleet::Cluster;

/// An engaged logical cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// `Ready`, `Leaving`, or the reason why not all is well.
    health: String,
}

/// What is served of a cluster.
pub(super) fn workspace(kinds: &Kinds, cluster: &Cluster) -> Row {
    let bindings = kinds.api_bindings.list(cluster);
    let consumers = kinds.cluster_bindings.list(cluster);
    let is_alive = |binding: &&std::sync::Arc<crate::api::v1alpha2::ClusterBinding>| {
        let status = binding.status.as_ref();
        status.is_some_and(|status| conditions::is_true(&status.conditions, HEALTHY))
    };
    let object = kinds.clusters.list(cluster).into_iter().next();
    let said = object.as_ref().and_then(|object| object.status.as_ref());
    let ready = said.and_then(|status| conditions::get(&status.conditions, READY));
    let health = if cluster.info.leaving {
        "Leaving".to_owned()
    } else {
        match ready.filter(|ready| !ready.is_true()) {
            Some(ready) => ready.reason.clone().unwrap_or_else(|| "NotReady".to_owned()),
            None => "Ready".to_owned(),
        }
    };
    Row {
        path: cluster.display().to_owned(),
        cluster: cluster.id.to_string(),
        shard: cluster.endpoint.uri().authority().map(ToString::to_string).unwrap_or_default(),
        binding: cluster.info.binding.clone(),
        services: bindings.iter().filter(|one| one.name_any() != cluster.info.binding).count(),
        templates: kinds.templates.list(cluster).len(),
        exports: kinds.exports.list(cluster).len(),
        alive: consumers.iter().filter(is_alive).count(),
        consumers: consumers.len(),
        health,
    }
}

/// The rows as columns.
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
        }))
        .collect();
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let text = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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
