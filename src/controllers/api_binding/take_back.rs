//! Takes back what is offered no longer.
//!
//! What the server takes along by itself is left to it: what the backend sees of `APIBinding`s is less than there is
//! while kcp has not labelled them all, and a template that was deleted for that has lost what people wrote into it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::{self, Standing, exportable};
use super::{Bindings, Controller, Error, marks};
use crate::consumer::names;
use crate::gone::UNPROVEN_AGAIN;
use crate::kinds::sources::resource_of;
use crate::runtime::cluster::ObjKey;
use crate::runtime::error::CallError;
use crate::runtime::fleet::Cluster;

/// Whether something is to go.
enum Over {
    Yes,
    No,
    /// Nobody can tell; look again after this time.
    Unknown(Duration),
}

/// What came of it so far.
struct Progress<'a> {
    again: Option<Duration>,
    troubles: &'a mut Vec<Error>,
}

impl Progress<'_> {
    /// Whether something is to be taken back now.
    fn is_due(&mut self, over: Result<Over, CallError>) -> bool {
        match over {
            Ok(Over::Yes) => return true,
            Ok(Over::No) => {}
            Ok(Over::Unknown(at)) => {
                self.again = Some(self.again.map_or(at, |again| again.min(at)));
            }
            Err(err) => self.troubles.push(err.into()),
        }
        false
    }
}

/// Something that was made for a binding.
struct Made<'a> {
    binding: &'a str,
    /// A binding has it.
    is_wanted: bool,
    /// The server takes it along when the binding goes.
    goes_along: bool,
}

impl Controller {
    /// Takes back what no binding wants, but for the templates that are named; when to look again comes back, where that
    /// could not be told. One that cannot be taken back keeps no other.
    pub(super) async fn take_back(
        &self,
        cluster: &Cluster,
        bindings: &Bindings,
        wanted: &BTreeSet<String>,
        troubles: &mut Vec<Error>,
    ) -> Option<Duration> {
        let mut progress = Progress { again: None, troubles };
        for template in self.kinds.templates.list(cluster) {
            let meta = &template.metadata;
            let Some(binding) = plan::binding_of(meta) else { continue };
            let is_wanted = meta.name.as_ref().is_some_and(|name| wanted.contains(name));
            let goes_along = plan::goes_with_its_binding(meta);
            let made = Made { binding, is_wanted, goes_along };
            if progress.is_due(self.is_over(cluster, bindings, &made).await) {
                let deleted = self.kinds.templates.delete(cluster, meta).await;
                progress.troubles.extend(deleted.err().map(Error::from));
            }
        }
        let in_use = self.in_use(cluster, bindings);
        for schema in self.schemas.kind.list(cluster) {
            let meta = &schema.metadata;
            let Some(binding) = marks::binding_of(meta, &cluster.id) else { continue };
            let is_wanted = in_use.has(meta.name.as_deref().unwrap_or_default());
            let goes_along = marks::is_deletable(meta) && marks::is_owned_by_template(meta);
            let made = Made { binding, is_wanted, goes_along };
            if progress.is_due(self.is_over(cluster, bindings, &made).await) {
                progress.troubles.extend(self.schemas.take_back(cluster, meta).await.err());
            }
        }
        progress.again
    }

    async fn is_over(
        &self,
        cluster: &Cluster,
        bindings: &Bindings,
        made: &Made<'_>,
    ) -> Result<Over, CallError> {
        let key = ObjKey::new(&cluster.id, "", made.binding);
        let known = bindings.get(made.binding);
        if known.is_some() {
            self.gone.forget(&key);
        }
        if made.is_wanted {
            return Ok(Over::No);
        }
        match known {
            Some((Standing::Held, _)) => return Ok(Over::No),
            Some((Standing::Offered | Standing::Ignored, _)) => return Ok(Over::Yes),
            None => {}
        }
        // One that cannot be decoded is there.
        if made.goes_along || self.kinds.api_bindings.is_known(cluster, "", made.binding) {
            return Ok(Over::No);
        }
        if !names::is_dns_subdomain(made.binding) {
            return Ok(Over::Yes);
        }
        Ok(match self.gone.wait(&key) {
            Some(left) => Over::Unknown(left),
            None if self.gone.api_binding(cluster, made.binding).await? => Over::Yes,
            None => Over::Unknown(UNPROVEN_AGAIN),
        })
    }

    fn in_use<'a>(&self, cluster: &Cluster, bindings: &'a Bindings) -> InUse<'a> {
        let mut in_use = InUse::default();
        let seen = bindings.values().filter(|(standing, _)| *standing != Standing::Ignored);
        for bound in seen.flat_map(|(_, binding)| exportable(binding)) {
            let name = bound.schema.name.as_str();
            in_use.schemas.insert(name);
            if self.schemas.kind.get(cluster, "", name).is_none() {
                in_use.waiting.insert(format!("{}.{}", bound.resource, bound.group));
            }
        }
        in_use
    }
}

/// What consumers may be using.
#[derive(Default)]
struct InUse<'a> {
    /// The schemas that are bound.
    schemas: BTreeSet<&'a str>,
    /// The resources whose bound schema consumers cannot get yet, as `<plural>.<group>`: an earlier one stands for it.
    waiting: BTreeSet<String>,
}

impl InUse<'_> {
    fn has(&self, schema: &str) -> bool {
        self.schemas.contains(schema) || self.waiting.contains(resource_of(schema))
    }
}
