//! Brings the templates and schemas of an `APIBinding` in line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

use super::plan::{self, Template, exportable};
use super::round::{Round, Unresolved};
use super::schemas::{Offered, Schema};
use super::{Controller, Error};
use crate::api::kcp::{ApiBinding, BoundResource};
use crate::api::v1alpha2::{ApiServiceExportTemplate, ResourceVersions};
use crate::consumer::ours;
use crate::runtime::error::{CallError, Cause};
use crate::runtime::fleet::Cluster;

/// Longest name of an object.
const MAX_NAME: usize = 253;

/// The schemas of a binding, by name.
#[derive(Default)]
struct Resolved<'a> {
    schemas: BTreeMap<&'a str, Schema>,
    /// Those that are not to be offered.
    refused: BTreeSet<&'a str>,
}

impl Controller {
    /// Brings all of a binding in line; the names of the templates that it should have come back.
    pub(super) async fn offer(
        &self,
        cluster: &Cluster,
        binding: &ApiBinding,
        round: &mut Round,
        troubles: &mut Vec<Error>,
    ) -> Vec<String> {
        if binding.is_of(cluster.id.as_str()) {
            let released = self.schemas.release(cluster, binding).await;
            troubles.extend(released.err());
        }
        let mut resolved = self.resolve(cluster, binding, round, troubles).await;
        let mut known = self.kinds.templates.list(cluster);
        known.retain(|template| plan::is_generated(&template.metadata, binding));
        let known: Vec<&ApiServiceExportTemplate> = known.iter().map(|known| &**known).collect();
        let wanted = plan::templates(binding, |bound| {
            let name = bound.schema.name.as_str();
            let schema = resolved.schemas.get(name).map(|schema| schema.facts.clone());
            let is_unknown = !resolved.refused.contains(name);
            schema.or_else(|| plan::said(&known, bound).filter(|_| is_unknown))
        });
        for template in &wanted {
            let owner = match self.template(cluster, binding, template, round).await {
                Ok(owner) => owner,
                Err(err) => {
                    troubles.push(err);
                    continue;
                }
            };
            for bound in exportable(binding).filter(|bound| is_in(template, bound)) {
                let name = bound.schema.name.as_str();
                let Some(schema) = resolved.schemas.remove(name) else { continue };
                let of = Offered { cluster, binding, bound };
                if let Err(Unresolved::Unknown(Some(err)) | Unresolved::Refused(err)) =
                    self.schemas.settle(of, schema, &owner, round).await
                {
                    troubles.push(err);
                }
            }
        }
        wanted.into_iter().map(|template| template.name).collect()
    }

    async fn resolve<'a>(
        &self,
        cluster: &Cluster,
        binding: &'a ApiBinding,
        round: &mut Round,
        troubles: &mut Vec<Error>,
    ) -> Resolved<'a> {
        let mut all: Vec<&BoundResource> = exportable(binding).collect();
        all.sort_by_key(|bound| round.has_failed(&bound.schema.uid));
        let mut resolved = Resolved::default();
        for bound in all {
            let (name, source) = (bound.schema.name.as_str(), &bound.schema.uid);
            match self.schemas.resolve(Offered { cluster, binding, bound }, round).await {
                Ok(schema) => {
                    round.note(source, None);
                    resolved.schemas.insert(name, schema);
                }
                Err(Unresolved::Refused(err)) => {
                    round.note(source, None);
                    resolved.refused.insert(name);
                    troubles.push(err);
                }
                Err(Unresolved::Unknown(Some(err))) => {
                    round.note(source, Some(&err));
                    troubles.push(err);
                }
                Err(Unresolved::Unknown(None)) => round.skip(source),
            }
        }
        resolved
    }

    /// Brings a template in line; it comes back as owner.
    async fn template(
        &self,
        cluster: &Cluster,
        binding: &ApiBinding,
        template: &Template,
        round: &mut Round,
    ) -> Result<OwnerReference, Error> {
        let kind = &self.kinds.templates;
        let said = || (template.name.clone(), binding.name_any());
        if template.name.len() > MAX_NAME {
            let (name, binding) = said();
            return Err(Error::TemplateName { name, binding });
        }
        let known = match kind.get(cluster, "", &template.name) {
            Some(known) => known,
            None => match kind.create(cluster, &plan::object(template, binding)).await {
                Ok(created) => created,
                Err(err @ CallError { cause: Cause::Exists, .. }) => {
                    let live = kind.get_live(cluster, "", &template.name).await?;
                    Arc::new(live.ok_or(err)?)
                }
                Err(err) => return Err(err.into()),
            },
        };
        if !plan::is_generated(&known.metadata, binding) {
            let (name, binding) = said();
            return Err(Error::ForeignTemplate { name, binding });
        }
        if !ours::is_labelled(&known.metadata) {
            // One of v0.8.1, which made itself a role as well.
            self.schemas.reader.adopt(cluster, round).await?;
        }
        if let Some(fields) = plan::drift(&known, template, binding) {
            kind.patch(cluster, &known.metadata, fields).await?;
        }
        Ok(known.owner_ref(&()).unwrap_or_default())
    }
}

/// Whether a template has a resource.
fn is_in(template: &Template, bound: &BoundResource) -> bool {
    let is_it =
        |entry: &ResourceVersions| entry.group == bound.group && entry.resource == bound.resource;
    template.resources.iter().any(is_it)
}
