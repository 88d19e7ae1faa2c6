//! The answer to a `BindableResourcesRequest` as `kubectl bind deploy` reads it (contract
//! objects.md 10).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha2::BindingResourceResponse;

/// JSON of a [`BindingResourceResponse`] that carries `kubeconfig`. The bytes are stable: same
/// kubeconfig, same response.
pub fn binding_resource_response(
    kubeconfig: &SecretString,
) -> Result<SecretString, serde_json::Error> {
    let kubeconfig = STANDARD.encode(kubeconfig.expose_secret());
    let response = BindingResourceResponse::for_secret(kubeconfig);
    serde_json::to_string(&response).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_byte_for_byte_that_of_the_go_backend() {
        let response = binding_resource_response(&SecretString::from("kubeconfig".to_owned()));
        assert_eq!(
            response.unwrap().expose_secret(),
            r#"{"kind":"BindingResourceResponse","apiVersion":"kube-bind.io/v1alpha2","authentication":{},"kubeconfig":"a3ViZWNvbmZpZw==","requests":null}"#
        );
    }
}
