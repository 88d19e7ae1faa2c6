//! What is listed because it is not watched, or not watched whole: in pages, over all clusters of an endpoint, so that the
//! number of requests does not grow with that of the workspaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, ObjectList};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::runtime::cluster::ClusterId;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::error::Cause;

/// How many objects a page of a list has.
const PAGE: u32 = 500;

/// An object of a kind that is listed.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) kind: &'static str,
    pub(super) cluster: ClusterId,
    pub(super) metadata: ObjectMeta,
}

/// A kind that can be listed.
pub(super) trait Kind:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug
{
}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug> Kind for K {}

/// Lists the metadata of a kind in all clusters of an endpoint. What comes back is why not all of it could be read.
pub(super) async fn metadata<K: Kind>(
    kind: &'static str,
    endpoint: &Endpoint,
    all: &mut Vec<Listed>,
) -> Option<String> {
    let api: Api<K> = Api::all(endpoint.wildcard());
    let read = pages(
        async |params| api.list_metadata(&params).await,
        |object| {
            let object: PartialObjectMeta<K> = object;
            if let Some(cluster) = endpoint.cluster_of(&object.metadata) {
                all.push(Listed { kind, cluster, metadata: object.metadata });
            }
        },
    );
    read.await.err().map(|err| refused(kind, endpoint, err))
}

/// Likewise the objects themselves.
pub(super) async fn objects<K: Kind>(
    kind: &'static str,
    endpoint: &Endpoint,
    mut each: impl FnMut(ClusterId, K),
) -> Option<String> {
    let api: Api<K> = Api::all(endpoint.wildcard());
    let read = pages(
        async |params| api.list(&params).await,
        |object: K| {
            if let Some(cluster) = endpoint.cluster_of(object.meta()) {
                each(cluster, object);
            }
        },
    );
    read.await.err().map(|err| refused(kind, endpoint, err))
}

async fn pages<T: Clone>(
    page: impl AsyncFn(ListParams) -> kube::Result<ObjectList<T>>,
    mut each: impl FnMut(T),
) -> kube::Result<()> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let list = page(params.clone()).await?;
        list.items.into_iter().for_each(&mut each);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn refused(kind: &str, endpoint: &Endpoint, err: kube::Error) -> String {
    format!("{}: cannot list {kind}: {}", endpoint.url(), Cause::from(err))
}
