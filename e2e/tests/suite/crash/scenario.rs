//! The life of one consumer, seen from outside: what its admin and the consumer itself do, and what they wait for.
//!
//! Nothing here goes through the proxy, and nothing is repeated: that the backend dies meanwhile shows only in how long
//! the waits take.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::binding::{self, Bound, Request};
use e2e::client;
use e2e::faultproxy::{FaultProxy, listing};
use e2e::kcp::{Claims, Workspace};
use e2e::manifest;
use e2e::object::{self, core, kcp_apis, kube_bind};
use e2e::service::Offer;
use e2e::snapshot::{self, Snapshot};
use e2e::stack;
use e2e::wait::{SOON, eventually};
use kube::Client;
use kube::api::{ApiResource, DeleteParams, DynamicObject};
use serde_json::json;
use tokio::time::sleep;

use super::{Place, within};

/// Longer than any pause of the backend's between two writes.
const QUIET: Duration = Duration::from_secs(3);
/// Name of the `APIServiceExportRequest`, and so of the `APIServiceExport`.
const EXPORT: &str = "widgets";

/// Its namespace with the prefix `cluster-` is [`CONTRACT`] (contract objects.md 1.1).
const IDENTITY: &str = "my-consumer";
/// The contract namespace.
pub(super) const CONTRACT: &str = "cluster-2u084ntpxd9q0";

/// What is generated last of what the API provider exports.
const TEMPLATE: &str = "wildwest.dev-namespaced";
/// What is exported.
const WIDGETS: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org, labels: {kube-bind.io/exported: 'true'}}
spec:
  group: example.org
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object}}}}}
";

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// The admin creates a `BindableResourcesRequest`, and the consumer gets its kubeconfig.
    Bind,
    /// The consumer asks for an export with a claim and the namespace `first`.
    Export,
    /// The consumer asks for the namespace `second`.
    Namespace,
    /// The consumer gives up the namespace `second`.
    DropNamespace,
    /// The admin deletes the `APIServiceExport`.
    DropExport,
    /// The admin deletes the `BindableResourcesRequest` and the contract namespace.
    DropConsumer,
    /// The admin binds somebody's API, and templates are made of it.
    Offer,
    /// The admin gives up that API.
    DropOffer,
    /// The state is compared with that of the undisturbed run.
    Checkpoint,
}

/// A whole life. What is there at its end is what was there at its beginning.
pub(super) const CONSUMER: &[Step] = &[
    Step::Checkpoint,
    Step::Bind,
    Step::Export,
    Step::Namespace,
    Step::Checkpoint,
    Step::DropNamespace,
    Step::DropExport,
    Step::Checkpoint,
    Step::DropConsumer,
    Step::Checkpoint,
];
/// That of an offer, likewise.
pub(super) const OFFERED: &[Step] =
    &[Step::Checkpoint, Step::Offer, Step::Checkpoint, Step::DropOffer, Step::Checkpoint];

/// What the exported type needs in a workspace before the backend serves it.
pub(super) async fn prepare(admin: &Client) -> Result<()> {
    manifest::apply(admin, WIDGETS, "default").await
}

/// An API provider whose export workspaces bind.
pub(super) async fn offer() -> Result<Offer> {
    Offer::wild_west(&*stack::kcp().await?, "root").await
}

/// A consumer on its way through its life.
pub(super) struct Scenario<'a> {
    place: &'a Place<'a>,
    admin: Client,
    kinds: Vec<ApiResource>,
    bound: Option<Bound>,
    /// What each checkpoint has to see; nothing in the undisturbed run, which waits for quiet instead.
    expected: Option<&'a [Snapshot]>,
    seen: Vec<Snapshot>,
}

impl<'a> Scenario<'a> {
    pub(super) async fn new(
        place: &'a Place<'a>,
        expected: Option<&'a [Snapshot]>,
    ) -> Result<Self> {
        let admin = place.kcp.access(&place.workspace.cluster)?.client(client::ADMIN).await?;
        let mut kinds = snapshot::kinds(&admin).await?;
        kinds.push(object::schemas());
        Ok(Self { place, admin, kinds, bound: None, expected, seen: Vec::new() })
    }

    /// Goes through the steps; gives what the checkpoints saw.
    pub(super) async fn run(mut self, steps: &[Step]) -> Result<Vec<Snapshot>> {
        for step in steps {
            self.step(*step).await.with_context(|| format!("step {step:?}"))?;
        }
        Ok(self.seen)
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Bind => self.bind().await,
            Step::Export => self.export().await,
            Step::Namespace => {
                let manifest = json!({"metadata": {"name": "second"}, "spec": {}});
                self.post("APIServiceNamespace", manifest).await?;
                self.served("second").await
            }
            Step::Checkpoint => self.checkpoint().await,
            Step::DropNamespace => {
                let namespaces = self.consumer()?.consumer.kube_bind("APIServiceNamespace");
                namespaces.delete("second", &DeleteParams::default()).await?;
                self.gone(&core("Namespace"), None, &format!("{CONTRACT}-second")).await
            }
            Step::DropExport => self.drop_export().await,
            Step::Offer => self.offer().await,
            Step::DropOffer => {
                self.delete(&kcp_apis("APIBinding"), None, &self.offered()?.export).await?;
                self.gone(&kube_bind("APIServiceExportTemplate"), None, TEMPLATE).await
            }
            Step::DropConsumer => {
                let request = kube_bind("BindableResourcesRequest");
                self.delete(&request, Some("default"), IDENTITY).await?;
                self.delete(&core("Namespace"), None, CONTRACT).await
            }
        }
    }

    async fn bind(&mut self) -> Result<()> {
        let bound = binding::bind(&self.admin, &Request::new(IDENTITY, IDENTITY)).await?;
        ensure!(bound.consumer.namespace() == CONTRACT, "bound to {}", bound.consumer.namespace());
        bound.check_secret(&self.admin).await?;
        self.bound = Some(bound);
        Ok(())
    }

    async fn export(&self) -> Result<()> {
        let spec = json!({
            "resources": [{"group": "example.org", "resource": "widgets", "versions": ["v1"]}],
            "permissionClaims": [{
                "group": "", "resource": "secrets",
                "selector": {"labelSelector": {"matchLabels": {"app": "widgets"}}},
            }],
            "namespaces": [{"name": "first"}],
        });
        let manifest = json!({"metadata": {"name": EXPORT}, "spec": spec});
        self.post("APIServiceExportRequest", manifest).await?;
        let requests = self.consumer()?.consumer.kube_bind("APIServiceExportRequest");
        let what = "the APIServiceExportRequest to succeed";
        object::wait_for(&requests, EXPORT, what, SOON, |request| {
            let phase = &request.data["status"]["phase"];
            (phase == "Succeeded").then_some(()).ok_or_else(|| object::summary(request))
        })
        .await?;
        self.served("first").await
    }

    fn offered(&self) -> Result<&Offer> {
        self.place.offer.context("nothing is offered in this life")
    }

    async fn offer(&self) -> Result<()> {
        let (Place { kcp, workspace, .. }, offer) = (self.place, self.offered()?);
        kcp.bind_export(workspace, &offer.workspace.path, &offer.export, Claims::All).await?;
        let templates = object::api(&self.admin, &kube_bind("APIServiceExportTemplate"), None);
        let made = object::wait_for(&templates, TEMPLATE, "the template", SOON, |_| Ok(()));
        made.await.map(drop)
    }

    /// Waits until an `APIServiceNamespace` names its namespace.
    async fn served(&self, name: &str) -> Result<()> {
        let namespaces = self.consumer()?.consumer.kube_bind("APIServiceNamespace");
        let what = format!("status.namespace of APIServiceNamespace {name}");
        object::wait_for(&namespaces, name, &what, SOON, |namespace| {
            let given = &namespace.data["status"]["namespace"];
            let expected = format!("{CONTRACT}-{name}");
            (*given == expected).then_some(()).ok_or_else(|| format!("it is {given}"))
        })
        .await?;
        Ok(())
    }

    async fn drop_export(&self) -> Result<()> {
        self.delete(&kube_bind("APIServiceExport"), Some(CONTRACT), EXPORT).await?;
        self.gone(&kube_bind("BoundSchema"), Some(CONTRACT), "widgets.example.org").await?;
        self.gone(&core("Namespace"), None, &format!("{CONTRACT}-first")).await
    }

    /// In the undisturbed run what is there at rest; else the state has to become the same as there.
    async fn checkpoint(&mut self) -> Result<()> {
        let Some(expected) = self.expected else {
            quiet(self.place.proxy, self.place.workspace).await?;
            // kcp answers 429 for a type that was bound a moment ago.
            let seen = eventually("all kinds to be listed", SOON, || self.snapshot()).await?;
            self.seen.push(seen);
            return Ok(());
        };
        let number = self.seen.len();
        let expected = expected.get(number).context("one checkpoint too many")?;
        let what = format!("the state of the undisturbed run at checkpoint {number}");
        let seen = eventually(&what, SOON, async || {
            let seen = self.snapshot().await.map_err(|error| format!("{error:#}"))?;
            snapshot::difference(expected, &seen).map_or(Ok(seen), |text| Err(format!("\n{text}")))
        })
        .await?;
        self.seen.push(seen);
        Ok(())
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let workspace = self.place.workspace;
        // Those that kcp makes have names of their own in each workspace, so they are not compared.
        let bindings =
            object::list(&object::api(&self.admin, &kcp_apis("APIBinding"), None)).await?;
        let uids = bindings.iter().filter_map(|binding| binding.metadata.uid.as_deref());
        let masks: Vec<(&str, &str)> = uids
            .map(|uid| (uid, "<uid of an APIBinding>"))
            .chain([
                (workspace.cluster.as_str(), "<cluster>"),
                (self.place.export.cluster.as_str(), "<export>"),
                (workspace.path.as_str(), "<workspace>"),
            ])
            .collect();
        snapshot::take(&self.admin, &self.kinds, &masks).await
    }

    /// An error unless the state is that of the last checkpoint, here or in the undisturbed run.
    pub(super) async fn still(&self, expected: &Snapshot) -> Result<()> {
        match snapshot::difference(expected, &self.snapshot().await?) {
            None => Ok(()),
            Some(text) => bail!("{} changed after its end:\n{text}", self.place.workspace.path),
        }
    }

    fn consumer(&self) -> Result<&Bound> {
        self.bound.as_ref().context("not bound yet")
    }

    /// Creates an object in the contract namespace as the consumer.
    async fn post(&self, kind: &str, manifest: serde_json::Value) -> Result<DynamicObject> {
        let client = self.consumer()?.consumer.client();
        object::create(client, &kube_bind(kind), Some(CONTRACT), manifest).await
    }

    /// Deletes an object as the admin and waits for its end.
    async fn delete(&self, kind: &ApiResource, namespace: Option<&str>, name: &str) -> Result<()> {
        object::delete(&object::api(&self.admin, kind, namespace), name).await
    }

    async fn gone(&self, kind: &ApiResource, namespace: Option<&str>, name: &str) -> Result<()> {
        object::wait_gone(&object::api(&self.admin, kind, namespace), name).await
    }
}

/// Waits until the backend has written nothing in a workspace for a while.
async fn quiet(proxy: &FaultProxy, workspace: &Workspace) -> Result<()> {
    let within = within(workspace);
    let (end, mut since, mut count) = (Instant::now() + SOON, Instant::now(), 0);
    while since.elapsed() < QUIET {
        let writes = proxy.writes(&within);
        if writes.len() > count || writes.iter().any(|write| write.code.is_none()) {
            (count, since) = (writes.len(), Instant::now());
        }
        ensure!(Instant::now() < end, "no rest without any fault:\n{}", listing(&writes));
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
