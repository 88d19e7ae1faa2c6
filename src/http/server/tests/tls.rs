//! The same over TLS.

use std::sync::Mutex;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::{Dir, Pki};
use super::*;

/// Trusts everyone, and remembers whom.
#[derive(Debug, Default)]
struct Anyone(Mutex<Vec<u8>>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = certificate.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection, and the certificate that the server showed.
async fn connect(server: &Running) -> (Wire<TlsStream<TcpStream>>, Vec<u8>) {
    let seen = Arc::new(Anyone::default());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let shown = seen.0.lock().unwrap().clone();
    (Wire { stream, read: Vec::new() }, shown)
}

#[tokio::test]
async fn tls_is_spoken_and_a_new_certificate_is_shown_without_a_restart() {
    let (dir, old, new) = (Dir::new(), Pki::new(), Pki::new());
    old.write(&dir.files());
    let limits = Limits { reload: Duration::from_millis(20), ..Limits::default() };
    let server = start_with(limits, "https://bind.example.com", Some(dir.files())).await;
    let (mut wire, shown) = connect(&server).await;
    assert_eq!(shown, old.der);
    let expected = Answer::new(200, "hello").with("strict-transport-security", "max-age=31536000");
    wire.send(request("GET", "/hello")).await;
    assert_eq!(wire.answer().await, expected);

    new.write(&dir.files());
    let changed = async { while connect(&server).await.1 != new.der {} };
    tokio::time::timeout(PATIENCE, changed).await.unwrap();
    wire.send(request("GET", "/hello")).await;
    assert_eq!(wire.answer().await, expected, "the old connection lives on");
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_or_speaks_plainly_is_closed() {
    let dir = Dir::new();
    Pki::new().write(&dir.files());
    let limits = Limits { handshake: SHORT, ..Limits::default() };
    let server = start_with(limits, "https://bind.example.com", Some(dir.files())).await;
    server.connect().await.assert_closed().await;
    let mut plain = server.connect().await;
    plain.send(request("GET", "/hello")).await;
    while plain.more().await {}
    assert!(!plain.read.starts_with(b"HTTP"));
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_is_refused_at_the_start() {
    let dir = Dir::new();
    let config = ServerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: Some(dir.files()),
        external_url: ExternalUrl::parse("https://bind.example.com", false).unwrap(),
        routes: CONTRACT.to_vec(),
        limits: Limits::default(),
    };
    let refused = Server::bind(config).await.unwrap_err().to_string();
    let path = dir.files().cert;
    let expected = format!(
        "cannot read {}: No such file or directory (os error 2); check --tls-cert-file and \
         --tls-key-file",
        path.display()
    );
    assert_eq!(refused, expected);
}
