//! The URL of the export's virtual workspace.

use std::time::Instant;

use kube::Config;
use kube::config::KubeConfigOptions;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::consumer::kubeconfig::Kubeconfig;
use crate::init::connection::{POLL, SETTLE, Workspace};
use crate::init::error::Error;
use crate::init::objects::{self, Kind, Target};
use crate::runtime::endpoint::client_config;

/// The first URL of the endpoint slice, which kcp names like the export. Makes one `APIBinding`
/// where there is none yet.
pub(super) async fn ensure(workspace: &Workspace, export: &str) -> Result<String, Error> {
    let slice = Target::new(Kind::ApiExportEndpointSlice, None, export);
    let binding = Target::new(Kind::ApiBinding, None, export);
    if objects::get(workspace, &binding).await?.is_some() {
        // Ours or that of the Go tool, which accepts claims; either opens the endpoint.
        let label = format!("{} in {}", binding.label, workspace.path);
        super::report(objects::Outcome::Unchanged, &label);
    } else if first_url(workspace, &slice).await?.is_none() {
        objects::ensure(workspace, &api_binding(&workspace.path, export)).await?;
        println!(
            "          (kcp gives an APIExport no URL until its first APIBinding; this one accepts no claims)"
        );
    }
    let started = Instant::now();
    while started.elapsed() < SETTLE {
        if let Some(url) = first_url(workspace, &slice).await? {
            return Ok(url);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::Timeout {
        what: slice.label,
        workspace: workspace.path.clone(),
        state: "served at any URL",
        waited: SETTLE,
        next: "see status.conditions of the APIBinding and the APIExport of that name, then run init again",
    })
}

async fn first_url(workspace: &Workspace, slice: &Target) -> Result<Option<String>, Error> {
    let slice = objects::get(workspace, slice).await?;
    let url =
        slice.and_then(|slice| Some(slice["status"]["endpoints"][0]["url"].as_str()?.to_owned()));
    Ok(url)
}

fn api_binding(workspace: &str, export: &str) -> Value {
    json!({
        "apiVersion": "apis.kcp.io/v1alpha2",
        "kind": "APIBinding",
        "metadata": {"name": export},
        "spec": {"reference": {"export": {"path": workspace, "name": export}}},
    })
}

/// Waits until the new credentials can do what the backend starts with: list our own kind in all
/// workspaces. Token, rights and a new URL all become effective within seconds.
pub(super) async fn wait_until_served(kubeconfig: &Kubeconfig, url: &str) -> Result<(), Error> {
    let load = |error| Error::Kubeconfig(Box::new(error));
    let yaml = kubeconfig.to_yaml();
    let parsed = kube::config::Kubeconfig::from_yaml(yaml.expose_secret()).map_err(load)?;
    let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(load)?;
    let server = format!("{url}/clusters/*");
    config.cluster_url = server.parse().map_err(|_| Error::Server(url.to_owned()))?;
    let virtual_workspace = Workspace::new(client_config(config), server.clone(), server)?;
    let clusters = "/apis/kube-bind.io/v1alpha2/clusters?limit=1";
    let started = Instant::now();
    loop {
        let request = http::Request::get(clusters).body(Vec::new());
        let Ok(request) = request else {
            return Err(Error::Server(clusters.to_owned()));
        };
        let answer = virtual_workspace
            .call::<Value>("list", "Clusters as the backend's service account", request)
            .await;
        match answer {
            Ok(_) => return Ok(()),
            Err(Error::Call { failure, .. })
                if failure.may_settle() && started.elapsed() < SETTLE => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL).await;
    }
}
