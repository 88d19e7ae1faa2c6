//! `BoundSchema`s as objects: what their metadata says, so that their bodies need not be read
//! (contract objects.md 5).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::contract::annotation;
use super::rights::ExportName;
use super::{ours, schema};
use crate::api::keys;
use crate::api::v1alpha2::{BoundSchema, BoundSchemaSpec, Scope};

/// What the metadata of a `BoundSchema` says about its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The hash of the spec (objects.md 5.1).
    pub hash: String,
    /// `<UID>/<generation>` of the source that it equals.
    pub source: String,
    /// `spec.scope`.
    pub scope: Scope,
    /// The version that the konnector syncs.
    pub synced: String,
}

impl Facts {
    /// What a spec that was made of this source says.
    #[must_use]
    pub fn of_spec(spec: &BoundSchemaSpec, source: &str) -> Self {
        Self {
            hash: schema::hash([spec]),
            source: source.to_owned(),
            scope: spec.scope,
            synced: schema::served(spec).unwrap_or_default().to_owned(),
        }
    }

    /// Reads them; none where v0.8.1 made the object, or somebody else.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        let text = |key| annotation(meta, key).map(str::to_owned);
        let scope = Scope::of_name(annotation(meta, keys::ANNOTATION_SCOPE)?)?;
        Some(Self {
            hash: text(keys::ANNOTATION_SOURCE_SPEC_HASH)?,
            source: text(keys::ANNOTATION_SOURCE)?,
            scope,
            synced: text(keys::ANNOTATION_SYNCED_VERSION)?,
        })
    }

    /// The annotations that say so.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        [
            (keys::ANNOTATION_SOURCE_SPEC_HASH, self.hash.as_str()),
            (keys::ANNOTATION_SOURCE, &self.source),
            (keys::ANNOTATION_SCOPE, self.scope.as_str()),
            (keys::ANNOTATION_SYNCED_VERSION, &self.synced),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}

/// A new `BoundSchema` of an export.
#[must_use]
pub fn object(export: &ExportName, name: &str, spec: BoundSchemaSpec, source: &str) -> BoundSchema {
    let mut annotations = Facts::of_spec(&spec, source).annotations();
    annotations.insert(keys::ANNOTATION_EXPORT.to_owned(), export.annotation());
    let metadata = ObjectMeta {
        annotations: Some(annotations),
        ..ours::metadata(name, Some(&export.namespace))
    };
    BoundSchema { metadata, spec, status: None }
}

/// A digest over the hashes of several `BoundSchema`s, for [`keys::ANNOTATION_SCHEMAS_DIGEST`].
#[must_use]
pub fn digest<'a>(hashes: impl IntoIterator<Item = &'a str>) -> String {
    let mut context = Context::new(&SHA256);
    for hash in hashes {
        context.update(hash.as_bytes());
        context.update(b"\n");
    }
    let mut text = String::new();
    for byte in context.finish().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether a `BoundSchema` is the backend's, of whatever version: v0.8.1 set no label but the hash.
#[must_use]
pub fn is_ours(meta: &ObjectMeta) -> bool {
    ours::is_labelled(meta) || annotation(meta, keys::ANNOTATION_SOURCE_SPEC_HASH).is_some()
}
