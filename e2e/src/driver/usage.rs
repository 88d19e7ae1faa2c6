//! One resource that a consumer uses, and step 8: the informers on it and on what it claims.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use super::{Consumer, Export, Settings, Watches};
use crate::object::{self, core};
use crate::service::{self, Exported};
use crate::wait::{SOON, eventually};

/// The first retry of the konnector's informers comes after 0.8 s or later; then they double.
const FIRST: Duration = Duration::from_secs(1);

/// A consumer's use of one exported resource.
#[derive(Debug, Clone)]
pub struct Use {
    /// Who uses it.
    pub consumer: Consumer,
    /// How the provider is set.
    pub settings: Settings,
    /// The resource on the provider.
    pub exported: Exported,
    /// Kinds of the core group that the export claims.
    pub claims: Vec<&'static str>,
    /// The export.
    pub export: Export,
}

/// A resource in a namespace, or in the whole cluster.
pub(super) type Scoped<'a> = (ApiResource, Option<&'a str>);

/// The `spec` of a request for one resource with claims on these kinds of the core group.
#[must_use]
pub fn spec(exported: &Exported, claims: &[&'static str]) -> Value {
    let claims: Vec<_> = claims.iter().map(|kind| service::claim(&core(kind).plural)).collect();
    service::request_spec(&[exported], &claims)
}

impl Consumer {
    /// Steps 3 and 6 for one resource: the request succeeds, and what it made is right.
    pub async fn take_up(
        &self,
        name: &str,
        settings: Settings,
        exported: &Exported,
        claims: &[&'static str],
    ) -> Result<Use> {
        let spec = spec(exported, claims);
        let outcome = self.request_export(name, &spec).await.context("step 3: request")?;
        outcome.succeeded().context("step 3: request")?;
        let export = self.export(&outcome.name).await.context("step 6: export")?;
        export.check(settings).context("step 6: export")?;
        export.check_version().context("step 6: version")?;
        let (consumer, exported, claims) = (self.clone(), exported.clone(), claims.to_vec());
        Ok(Use { consumer, settings, exported, claims, export })
    }
}

impl Use {
    /// The contract namespace.
    #[must_use]
    pub fn contract(&self) -> &str {
        self.consumer.namespace()
    }

    /// The exported resource for somebody, in a namespace or for the whole cluster.
    #[must_use]
    pub fn api_as(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        object::api(client, &self.exported.resource(), namespace)
    }

    /// What the konnector lists and watches, with the service namespaces that there are (konnector.md 1.3).
    pub(super) fn scoped<'a>(&self, services: &[&'a str]) -> Vec<Scoped<'a>> {
        let place = |resource: &ApiResource, cluster_wide: bool| -> Vec<Scoped<'a>> {
            if cluster_wide {
                return vec![(resource.clone(), None)];
            }
            services.iter().map(|service| (resource.clone(), Some(*service))).collect()
        };
        let mut scoped = place(&self.exported.resource(), self.settings.cluster_wide());
        for kind in &self.claims {
            scoped.extend(place(&core(kind), self.settings.claims_cluster_wide()));
        }
        scoped
    }

    /// Step 8: no list that is sent a second later or more is refused, and the watch after it works at once. How long a
    /// busy server takes for an answer is not what counts. Gives the watches.
    pub async fn informers(&self, services: &[&str]) -> Result<Watches> {
        let scoped = self.scoped(services);
        let begin = Instant::now();
        for (resource, namespace) in &scoped {
            let api = object::api(self.consumer.client(), resource, *namespace);
            let place = namespace.unwrap_or("all namespaces");
            let what = format!("the first list of {} in {place}", resource.plural);
            let listed = eventually(&what, SOON, async || {
                let is_late = begin.elapsed() >= FIRST;
                match api.list(&ListParams::default()).await {
                    Err(error) if !is_late => Err(error),
                    listed => Ok(listed.map(drop)),
                }
            });
            listed.await?.with_context(|| format!("{what}, after {FIRST:?}"))?;
        }
        Watches::open(self.consumer.client(), &scoped).await
    }
}
