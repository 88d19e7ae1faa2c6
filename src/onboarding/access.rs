//! The kubeconfig of a consumer: what is in it, whether it works, and where it is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{Error, Onboarding, exists_is_fine};
use crate::api::keys;
use crate::consumer::external::consumer_server;
use crate::consumer::kubeconfig::Kubeconfig;
use crate::consumer::ours;
use crate::runtime::cluster::ObjKey;
use crate::runtime::fleet::Cluster;
use crate::runtime::kind::create_unwatched;

impl Onboarding {
    pub(super) async fn kubeconfig(
        &self,
        cluster: &Cluster,
        namespace: &str,
        token: SecretString,
    ) -> Result<Kubeconfig, Error> {
        let in_kcp = cluster.endpoint.only_cluster().is_none();
        let name = in_kcp.then(|| cluster.id.as_str());
        let external = self.settings.external_address.as_ref();
        let published = match external {
            None if in_kcp => self.published.of(&self.kinds, cluster).await?,
            _ => None,
        };
        let api = published.as_ref().unwrap_or(cluster.endpoint.uri());
        let server = consumer_server(api, name, external)
            .map_err(|source| Error::Address { cluster: cluster.id.to_string(), source })?;
        Ok(Kubeconfig {
            server,
            ca_data: self.settings.ca.clone(),
            tls_server_name: self.settings.server_name.clone(),
            namespace: namespace.to_owned(),
            token,
        })
    }

    /// Asks the API server whether the new credential may do what the CLI does first, which it does
    /// not retry (konnector.md section 8).
    pub(super) async fn effective(&self, cluster: &Cluster, namespace: &str) -> Result<(), Error> {
        let review = access_review(cluster, namespace);
        for pause in [50, 100, 200, 400, 800, 0] {
            let answer = create_unwatched(cluster, &review).await?;
            if answer.status.is_some_and(|status| status.allowed) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Err(Error::NotEffective(ObjKey::new(&cluster.id, namespace, keys::SERVICE_ACCOUNT)))
    }

    pub(super) async fn write_kubeconfig(
        &self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        desired: &Kubeconfig,
        yaml: SecretString,
    ) -> Result<SecretString, Error> {
        let kind = &self.kinds.secrets;
        let data = || ByteString(yaml.expose_secret().as_bytes().to_vec());
        let secret = Secret {
            metadata: ours::metadata(name, Some(namespace)),
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(keys::KUBECONFIG_KEY.to_owned(), data())])),
            ..Secret::default()
        };
        if exists_is_fine(kind.create(cluster, &secret).await)? {
            return Ok(yaml);
        }
        let live = kind.get_live(cluster, namespace, name).await?;
        let live =
            live.ok_or_else(|| Error::Vanished(ObjKey::new(&cluster.id, namespace, name)))?;
        let bytes = live.data.as_ref().and_then(|data| data.get(keys::KUBECONFIG_KEY));
        if let Some(bytes) = bytes
            && let Ok(known) = Kubeconfig::parse(&bytes.0)
            && known.same_access(desired)
            && let Ok(text) = std::str::from_utf8(&bytes.0)
        {
            // Another text with the same meaning stays: new bytes are a rotation to the konnector.
            return Ok(SecretString::from(text.to_owned()));
        }
        let fields = json!({ "data": { keys::KUBECONFIG_KEY: data() } });
        kind.patch(cluster, &live.metadata, fields).await?;
        Ok(yaml)
    }
}

fn access_review(cluster: &Cluster, namespace: &str) -> SubjectAccessReview {
    // A kcp service account is known by its home cluster as well; without it the review would be
    // about a stranger.
    let extra = cluster.endpoint.only_cluster().is_none().then(|| {
        let home = vec![cluster.id.to_string()];
        BTreeMap::from([(keys::KCP_USER_CLUSTER_NAME.to_owned(), home)])
    });
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        keys::AUTHENTICATED.to_owned(),
    ];
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!(
                "{}{namespace}:{}",
                keys::SERVICE_ACCOUNT_USER,
                keys::SERVICE_ACCOUNT
            )),
            groups: Some(groups.to_vec()),
            extra,
            resource_attributes: Some(ResourceAttributes {
                group: Some(keys::GROUP.to_owned()),
                resource: Some("apiserviceexportrequests".to_owned()),
                namespace: Some(namespace.to_owned()),
                verb: Some("create".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
