//! The schema that a consumer gets of an exported resource (contract objects.md 5, konnector.md 3).
//!
//! A [`SourceSpec`] becomes the [`BoundSchemaSpec`] of each consumer, and its [`hash`] tells whether
//! that has changed. The konnector picks the first served version when it starts a syncer and never
//! again, so [`update`] lets nothing through that would take it away.

mod go_json;

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};

use aws_lc_rs::digest::{Context, SHA256};
use thiserror::Error;

use crate::api::apiextensions::SourceSpec;
use crate::api::v1alpha2::{
    BoundSchemaSpec, BoundSchemaVersion, Conversion, ConversionStrategy, GroupResource, Isolation,
    Scope,
};

/// Why a resource cannot be exported, or a changed schema cannot reach a consumer.
///
/// Messages end up in conditions that the konnector uses as format strings: none has a percent
/// sign (contract objects.md 3).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// The webhook is a service of the provider, which the consumer's API server cannot call.
    #[error(
        "{0} converts its versions by a webhook, which consumer clusters cannot reach; export a resource with conversion strategy None"
    )]
    WebhookConversion(GroupResource),
    /// With it a consumer could give itself rights.
    #[error(
        "{0} cannot be exported, because its group belongs to Kubernetes, kcp or kube-bind; export a resource of a group of your own"
    )]
    GroupNotExportable(GroupResource),
    /// The konnector could not replace the consumer's resource definition.
    #[error(
        "{resource} no longer has {version}, in which consumers may have stored objects; bring {version} back, served or not"
    )]
    StoredVersionDropped {
        /// The resource.
        resource: GroupResource,
        /// The version.
        version: String,
    },
    /// Nothing to sync.
    #[error("{0} has no served version; set served to true for at least one of its versions")]
    NoServedVersion(GroupResource),
    /// A consumer's API server takes no version without one.
    #[error(
        "version {version} of {resource} has no schema; add one, or remove the version from the resource definition"
    )]
    SchemaMissing {
        /// The resource.
        resource: GroupResource,
        /// The version.
        version: String,
    },
    /// Consumers sync a version that is gone or no longer served.
    #[error(
        "{resource} no longer serves {version}, the version that bound consumers sync; serve {version} again, or delete the APIServiceExport and bind again"
    )]
    FirstServedVersionDropped {
        /// The resource.
        resource: GroupResource,
        /// The version.
        version: String,
    },
    /// A CRD cannot change its scope.
    #[error(
        "the scope of {resource} for consumers would change from {from} to {to}, which a bound resource cannot; restore the scope and isolation it was bound with, or delete the APIServiceExport and bind again"
    )]
    ScopeChanged {
        /// The resource.
        resource: GroupResource,
        /// What consumers have.
        from: Scope,
        /// What they would get.
        to: Scope,
    },
}

impl Problem {
    /// The reason of a condition.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::WebhookConversion(_) => "ConversionUnsupported",
            Self::GroupNotExportable(_) => "GroupNotExportable",
            Self::StoredVersionDropped { .. } => "StoredVersionDropped",
            Self::NoServedVersion(_) => "NoServedVersion",
            Self::SchemaMissing { .. } => "SchemaMissing",
            Self::FirstServedVersionDropped { .. } => "FirstServedVersionDropped",
            Self::ScopeChanged { .. } => "ScopeChanged",
        }
    }
}

/// What a consumer gets of `source`.
///
/// Under isolation `Namespaced` a namespaced resource of the provider is a cluster-scoped one of the
/// consumer (contract objects.md 5).
pub fn bound_spec(
    source: &SourceSpec,
    informer_scope: Scope,
    isolation: Isolation,
) -> Result<BoundSchemaSpec, Problem> {
    let resource =
        || GroupResource { group: source.group.clone(), resource: source.names.plural.clone() };
    if is_reserved(&source.group) {
        return Err(Problem::GroupNotExportable(resource()));
    }
    if source.conversion.as_ref().is_some_and(needs_webhook) {
        return Err(Problem::WebhookConversion(resource()));
    }
    if !source.versions.iter().any(|version| version.served) {
        return Err(Problem::NoServedVersion(resource()));
    }
    if let Some(version) = source.versions.iter().find(|version| version.schema.is_null()) {
        return Err(Problem::SchemaMissing { resource: resource(), version: version.name.clone() });
    }
    let scope = match isolation {
        Isolation::Namespaced => Scope::Cluster,
        Isolation::Prefixed | Isolation::None => source.scope,
    };
    // The rule on a BoundSchema's conversion wants the strategy spelt out.
    let conversion = source
        .conversion
        .as_ref()
        .map(|_| Conversion { strategy: Some(ConversionStrategy::None), webhook: None });
    Ok(BoundSchemaSpec {
        informer_scope,
        group: source.group.clone(),
        names: source.names.clone(),
        scope,
        versions: source.versions.clone(),
        conversion,
    })
}

/// Whether a group is not a provider's own: those of Kubernetes itself have no dot or end in `k8s.io`.
#[must_use]
pub fn is_reserved(group: &str) -> bool {
    let of = |domain: &str| {
        group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !group.contains('.') || of("k8s.io") || of("kcp.io") || of("kube-bind.io")
}

fn needs_webhook(conversion: &Conversion) -> bool {
    conversion.strategy == Some(ConversionStrategy::Webhook) || conversion.webhook.is_some()
}

/// The version that the konnector syncs: the first served one (contract konnector.md 3).
#[must_use]
pub fn served(spec: &BoundSchemaSpec) -> Option<&str> {
    spec.versions.iter().find(|version| version.served).map(|version| version.name.as_str())
}

/// What a `BoundSchema` with `scope`, of which the konnector picked version `picked`, may become
/// when its source is now `new`.
///
/// `picked` stays the first served version: it is moved before the others that are served. The
/// order is otherwise kept.
pub fn update(
    picked: &str,
    scope: Scope,
    mut new: BoundSchemaSpec,
) -> Result<BoundSchemaSpec, Problem> {
    if new.scope != scope {
        let (from, to) = (scope, new.scope);
        return Err(Problem::ScopeChanged { resource: resource(new), from, to });
    }
    let is_served = |version: &BoundSchemaVersion| version.served;
    let is_picked = |version: &BoundSchemaVersion| version.served && version.name == picked;
    match (new.versions.iter().position(is_served), new.versions.iter().position(is_picked)) {
        (Some(first), Some(place)) => {
            if let Some(versions) = new.versions.get_mut(first..=place) {
                versions.rotate_right(1);
            }
            Ok(new)
        }
        _ => Err(Problem::FirstServedVersionDropped {
            resource: resource(new),
            version: picked.to_owned(),
        }),
    }
}

/// Refuses a schema without a version in which the consumer's API server may have stored objects: it
/// would not take it (contract konnector.md 3).
pub fn check_stored(stored: &[String], new: &BoundSchemaSpec) -> Result<(), Problem> {
    let has = |name: &String| new.versions.iter().any(|version| version.name == *name);
    match stored.iter().find(|name| !has(name)) {
        None => Ok(()),
        Some(version) => Err(Problem::StoredVersionDropped {
            resource: resource(new.clone()),
            version: version.clone(),
        }),
    }
}

fn resource(spec: BoundSchemaSpec) -> GroupResource {
    GroupResource { group: spec.group, resource: spec.names.plural }
}

/// The value of annotation `kube-bind.io/source-spec-hash`: of a `BoundSchema` for one spec, of an
/// `APIServiceExport` for those of its resources in their order (contract objects.md 5.1).
///
/// Equal to that of the Go backend, so that taking over from it rewrites nothing.
pub fn hash<'a>(specs: impl IntoIterator<Item = &'a BoundSchemaSpec>) -> String {
    let mut context = Context::new(&SHA256);
    let mut sink = BufWriter::new(Sink(&mut context));
    let mut specs = specs.into_iter();
    let written = specs.try_for_each(|spec| go_json::write_line(&mut sink, spec));
    let written = written.and_then(|()| sink.flush());
    drop(sink);
    debug_assert!(written.is_ok(), "a digest takes all bytes, and all keys are strings");
    let mut text = String::new();
    for byte in context.finish().as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Lets a writer feed a digest.
struct Sink<'a>(&'a mut Context);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
