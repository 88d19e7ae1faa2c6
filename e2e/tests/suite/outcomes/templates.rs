//! What a consumer that has bound templates may ask for.

use anyhow::{Result, ensure};
use e2e::binding::{self, Request};
use e2e::object::{self, core};
use e2e::service::{self, claim, request_spec};
use e2e::stack;
use e2e::wait::eventually;
use serde_json::json;

use super::{READY, in_versions};
use crate::suite::said::{Place, SOON, Said, cowboys, requests, sheriffs};

pub(super) async fn templates() -> Result<()> {
    let (place, bystander) = Place::wild_west("outcomes-templates").await?;
    let admin = &place.admin;
    let outcome = async {
        service::offer_template(admin, "cows", &[&cowboys()], &[claim("secrets")]).await?;
        let request = Request { template: Some("cows"), ..Request::new("bound", "bound") };
        let bound = binding::bind(admin, &request).await?.consumer;
        let end = "is not part of the templates that this consumer has bound;";
        let forbidden = |what: String| Said::failed(READY, "Forbidden", format!("{what} {end}"));
        let (cow, star) = (cowboys(), sheriffs());
        for (name, spec, said) in [
            (
                "resource",
                request_spec(&[&cow, &star], &[]),
                forbidden(format!("{} (v1alpha1)", star.name())),
            ),
            (
                "version",
                in_versions(&cow, &["v1alpha1", "v9"]),
                forbidden(format!("{} (v1alpha1, v9)", cow.name())),
            ),
            (
                "claim",
                request_spec(&[&cow], &[claim("secrets"), claim("configmaps")]),
                forbidden("the permission claim on configmaps.core".to_owned()),
            ),
        ] {
            bound.submit(name, &spec).await?;
            said.wait(&bound, name).await?;
        }
        ensure!(bound.bundle_view().await?.is_empty(), "a refused request made an export");
        let before = requests(&bound).await?;
        bound
            .request_export("cow", &request_spec(&[&cow], &[claim("secrets")]))
            .await?
            .succeeded()?;

        // What limits this consumer limits no other.
        let free = place.consumer("free").await?;
        free.request_export("star", &request_spec(&[&star], &[])).await?.succeeded()?;

        let any =
            json!({"metadata": {"annotations": {"backend.kube-bind.io/allow-requests": "any"}}});
        let namespaces = object::api(admin, &core("Namespace"), None);
        object::merge_patch(&namespaces, bound.namespace(), &any, false).await?;
        // The annotation reaches the backend by a watch of its own, so the first request may come too early.
        eventually("a request beyond the templates to be granted", SOON, async || {
            let spec = request_spec(&[&star], &[]);
            let outcome = bound.request_export(&stack::unique("star"), &spec).await?;
            outcome.succeeded()
        })
        .await?;
        let now = requests(&bound).await?;
        ensure!(before.is_subset(&now), "a failed request changed: {before:?} {now:?}");
        bystander.unaffected().await
    };
    outcome.await.map_err(|error| place.fail(&error))
}
