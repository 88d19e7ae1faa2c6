//! Makes an export out of a request, in the order that the konnector tolerates.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use serde_json::json;

use super::outcome::BUSY;
use super::plan::{self, Prepared, Write};
use super::{Controller, Error, phase_of, said_reason};
use crate::api::apiextensions::SourceSpec;
use crate::api::keys;
use crate::api::v1alpha2::{
    ApiServiceExport, ApiServiceExportRequest, ApiServiceExportTemplate, GroupResource,
    ResourceVersions,
};
use crate::consumer::bound_schema;
use crate::consumer::contract::{Contract, annotation};
use crate::consumer::rights::{ExportName, rights};
use crate::consumer::schema::bound_spec;
use crate::kinds::sources::Source;
use crate::runtime::cluster::ObjKey;
use crate::runtime::error::{CallError, Cause};
use crate::runtime::fleet::Cluster;

const EXPORT_DELETING: Error = Error::Deleting("the export of this name");

impl Controller {
    /// Makes what the request asks for, as far as it is missing.
    pub(super) async fn export(
        &self,
        cluster: &Cluster,
        key: &ObjKey,
        request: &ApiServiceExportRequest,
    ) -> Result<(), Error> {
        let name = ExportName::new(&key.namespace, &key.name);
        let Some(contract) = self.kinds.contract(cluster, &key.namespace) else {
            let live = self.kinds.contract_live(cluster, &key.namespace).await?;
            return Err(live.map_or(Error::NoContract, |_| Error::Unseen));
        };
        if contract.deleting {
            return Err(Error::Deleting("the contract namespace"));
        }
        plan::check(&request.spec)?;
        if let Some(existing) = self.existing(cluster, &name, request).await? {
            return self.finish(cluster, request, &existing).await;
        }
        self.check_templates(cluster, &contract, request).await?;
        self.check_others(cluster, &name, request).await?;
        let prepared = self.prepare(cluster, &name, request).await?;
        let export = plan::new_export(&name, request, &self.settings, &prepared);
        let scope_of = |resource: &GroupResource| {
            let found = prepared.iter().find(|schema| schema.resource == *resource);
            found.map(|schema| schema.spec.scope)
        };
        let rights = rights(&export.spec, scope_of).ok_or(Error::NoSchema(None))?;
        self.rights.check_shared(cluster, &contract, &export.spec, &rights)?;
        for schema in &prepared {
            self.write_schema(cluster, &name, schema).await?;
        }
        self.rights.put(cluster, &contract, &name, &rights).await?;
        let made = match self.kinds.exports.create(cluster, &export).await {
            Ok(made) => made,
            Err(CallError { cause: Cause::Exists, .. }) => {
                self.existing_live(cluster, &name, request).await?.ok_or(EXPORT_DELETING)?
            }
            Err(err) => return Err(err.into()),
        };
        self.finish(cluster, request, &made).await
    }

    /// The export of this name, which must be what the request asks for.
    async fn existing(
        &self,
        cluster: &Cluster,
        name: &ExportName,
        request: &ApiServiceExportRequest,
    ) -> Result<Option<Arc<ApiServiceExport>>, Error> {
        match self.kinds.exports.get(cluster, &name.namespace, &name.name) {
            None => Ok(None),
            // The answer is final either way, so it is not given from a cache.
            Some(_) => self.existing_live(cluster, name, request).await,
        }
    }

    async fn existing_live(
        &self,
        cluster: &Cluster,
        name: &ExportName,
        request: &ApiServiceExportRequest,
    ) -> Result<Option<Arc<ApiServiceExport>>, Error> {
        match self.kinds.exports.get_live(cluster, &name.namespace, &name.name).await? {
            None => Ok(None),
            Some(live) if live.metadata.deletion_timestamp.is_some() => Err(EXPORT_DELETING),
            Some(live) if plan::same_wish(&request.spec, &live.spec) => Ok(Some(Arc::new(live))),
            Some(_) => Err(Error::Conflict(name.name.clone())),
        }
    }

    /// Refuses what the templates that the consumer bound do not cover, where it bound any.
    async fn check_templates(
        &self,
        cluster: &Cluster,
        contract: &Contract,
        request: &ApiServiceExportRequest,
    ) -> Result<(), Error> {
        let kind = &self.kinds.namespaces;
        let known = kind.get(cluster, "", &contract.namespace).ok_or(Error::Unseen)?;
        let templates = plan::bound_templates(&known.metadata)
            .into_iter()
            .flatten()
            .filter_map(|name| self.kinds.templates.get(cluster, "", name))
            .collect::<Vec<_>>();
        let covered = |meta: &ObjectMeta, templates: &[Arc<ApiServiceExportTemplate>]| {
            plan::bound_templates(meta).map_or(Ok(()), |_| plan::covered(&request.spec, templates))
        };
        if covered(&known.metadata, &templates).is_ok() {
            return Ok(());
        }
        // The answer is final, so it is not given from a cache.
        let live = kind.get_live(cluster, "", &contract.namespace).await?;
        let live = live.ok_or(Error::NoContract)?.metadata;
        let mut templates = Vec::new();
        for name in plan::bound_templates(&live).into_iter().flatten() {
            let template = self.kinds.templates.get_live(cluster, "", name).await?;
            templates.extend(template.map(Arc::new));
        }
        covered(&live, &templates).map_err(Error::NotCovered)
    }

    /// Refuses a resource that another export of this consumer has already: its objects would have two
    /// syncers.
    async fn check_others(
        &self,
        cluster: &Cluster,
        name: &ExportName,
        request: &ApiServiceExportRequest,
    ) -> Result<(), Error> {
        for other in self.kinds.exports.list_namespace(cluster, &name.namespace) {
            let export = other.metadata.name.clone().unwrap_or_default();
            if export == name.name {
                continue;
            }
            let Some(resource) = plan::in_common(&request.spec, &other.spec) else { continue };
            // The answer is final, so it is not given from a cache.
            let live = self.kinds.exports.get_live(cluster, &name.namespace, &export).await?;
            return Err(match live {
                Some(live) if live.metadata.deletion_timestamp.is_none() => {
                    Error::AlreadyExported { resource, export }
                }
                _ => Error::Deleting("another export of the same resource"),
            });
        }
        Ok(())
    }

    /// Finds or computes the `BoundSchema` of each resource. Nothing is written before all are known.
    async fn prepare(
        &self,
        cluster: &Cluster,
        name: &ExportName,
        request: &ApiServiceExportRequest,
    ) -> Result<Vec<Prepared>, Error> {
        let mut all: Vec<Prepared> = Vec::new();
        for wanted in &request.spec.resources {
            let resource = wanted.group_resource();
            if all.iter().any(|known| known.resource == resource) {
                continue;
            }
            let write = self.known_schema(cluster, name, request, &resource)?;
            all.push(self.compute(cluster, wanted, write).await?);
        }
        plan::check_scopes(&all)?;
        Ok(all)
    }

    /// What has to be done to have a `BoundSchema`, as far as that can be told without its source.
    fn known_schema(
        &self,
        cluster: &Cluster,
        name: &ExportName,
        request: &ApiServiceExportRequest,
        resource: &GroupResource,
    ) -> Result<Write, Error> {
        let kind = &self.kinds.bound_schemas;
        let schema = resource.to_string();
        let Some(known) = kind.get(cluster, &name.namespace, &schema) else {
            return Ok(Write::Create);
        };
        let meta = &known.metadata;
        if !bound_schema::is_ours(meta) {
            return Err(Error::ForeignSchema(schema));
        }
        let is_owned = meta.owner_references.iter().flatten().next().is_some();
        if is_owned || meta.deletion_timestamp.is_some() {
            // Made for an export that is gone; garbage collection is on its way.
            return Err(Error::Deleting("a BoundSchema of an export that is gone"));
        }
        if let Some(made_for) = ExportName::of(meta).filter(|made_for| made_for != name) {
            let kind = &self.kinds.export_requests;
            let other = kind.get(cluster, &made_for.namespace, &made_for.name);
            // Whoever has the BoundSchema makes the export; but of two that wait for each other, and so
            // make none, the older goes on.
            if other.is_some_and(|other| {
                let waits = said_reason(&other) == Some(BUSY)
                    && plan::is_older(&request.metadata, &other.metadata);
                !phase_of(&other).is_final() && !waits
            }) {
                return Err(Error::Busy { resource: resource.clone(), request: made_for.name });
            }
        }
        Ok(Write::Replace(Box::new(meta.clone())))
    }

    /// Reads the source of a resource and computes what consumers get.
    async fn compute(
        &self,
        cluster: &Cluster,
        wanted: &ResourceVersions,
        write: Write,
    ) -> Result<Prepared, Error> {
        let resource = wanted.group_resource();
        let (source, spec) = self.source(cluster, &resource).await?;
        plan::check_versions(wanted, &spec)?;
        let source_scope = spec.scope;
        let spec = bound_spec(&spec, self.settings.informer_scope, self.settings.isolation)?;
        Ok(Prepared { source_scope, spec, source: source.version, resource, write })
    }

    async fn source(
        &self,
        cluster: &Cluster,
        resource: &GroupResource,
    ) -> Result<(Source, SourceSpec), Error> {
        let sources = &self.kinds.sources;
        let found = match sources.find(cluster, resource) {
            None => sources.find_live(cluster, resource).await,
            seen => Ok(seen),
        };
        let source = match found {
            Err(CallError { cause: Cause::Unserved, .. }) => None,
            found => found?,
        };
        let Some(source) = source else {
            let nothing_at_all = sources.is_empty(cluster);
            return Err(Error::NoSchema((!nothing_at_all).then(|| resource.clone())));
        };
        let read = sources.read(cluster, &source.name, resource).await?;
        read.ok_or_else(|| Error::NoSchema(Some(resource.clone())))
    }

    async fn write_schema(
        &self,
        cluster: &Cluster,
        name: &ExportName,
        schema: &Prepared,
    ) -> Result<(), Error> {
        let kind = &self.kinds.bound_schemas;
        let object = || {
            let schema_name = schema.resource.to_string();
            bound_schema::object(name, &schema_name, schema.spec.clone(), &schema.source)
        };
        match &schema.write {
            Write::Create => {
                kind.create(cluster, &object()).await.map_err(refused)?;
            }
            Write::Replace(meta) => {
                let mut object = object();
                // An interrupted run may have made just this.
                let said = object.metadata.annotations.clone().unwrap_or_default();
                let known = meta.annotations.clone().unwrap_or_default();
                if said.iter().all(|(key, value)| known.get(key) == Some(value)) {
                    return Ok(());
                }
                object.metadata.resource_version.clone_from(&meta.resource_version);
                kind.replace(cluster, &object).await.map_err(refused)?;
            }
        }
        Ok(())
    }

    /// What follows once the export exists: it becomes the owner of its `BoundSchema`s, and the
    /// namespaces are made that were asked for.
    async fn finish(
        &self,
        cluster: &Cluster,
        request: &ApiServiceExportRequest,
        export: &ApiServiceExport,
    ) -> Result<(), Error> {
        let Some(owner) = export.controller_owner_ref(&()) else {
            return Err(EXPORT_DELETING);
        };
        let owner = OwnerReference { block_owner_deletion: Some(true), ..owner };
        let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
        for resource in &export.spec.resources {
            let name = resource.group_resource().to_string();
            let kind = &self.kinds.bound_schemas;
            let known = kind.get(cluster, namespace, &name);
            let known = known.ok_or(Error::SchemaVanished(name))?;
            if known.metadata.owner_references.iter().flatten().next().is_none() {
                let fields = json!({ "metadata": { "ownerReferences": [owner] } });
                // Of a schema that just fitted, the owner may be too much.
                kind.patch(cluster, &known.metadata, fields).await.map_err(refused)?;
            }
        }
        let policy = plan::policy(request);
        if annotation(&export.metadata, keys::ANNOTATION_SCHEMA_UPDATE_POLICY) != Some(policy) {
            let key = keys::ANNOTATION_SCHEMA_UPDATE_POLICY;
            let fields = json!({ "metadata": { "annotations": { key: policy } } });
            self.kinds.exports.patch(cluster, &export.metadata, fields).await?;
        }
        for wanted in &request.spec.namespaces {
            let kind = &self.kinds.service_namespaces;
            if kind.get(cluster, namespace, &wanted.name).is_some() {
                continue;
            }
            let object = plan::new_service_namespace(namespace, &wanted.name, owner.clone());
            match kind.create(cluster, &object).await {
                Ok(_) | Err(CallError { cause: Cause::Exists, .. }) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }
}

/// What became of a write of a `BoundSchema`.
fn refused(err: CallError) -> Error {
    match err.cause {
        Cause::Invalid(_) => Error::SchemaRefused(err),
        _ => Error::Call(err),
    }
}
