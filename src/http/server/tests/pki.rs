//! Certificates for tests, made on the spot so that no key is kept in the repository.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;

use super::super::TlsFiles;

/// ecdsa-with-SHA256.
const SIGNED_BY: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// id-ecPublicKey on prime256v1.
const KIND_OF_KEY: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// CN=test.
const NAME: &[u8] = b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x0c\x04test";

/// A key and its own certificate.
pub(in super::super) struct Pki {
    /// The certificate.
    pub(in super::super) der: Vec<u8>,
    key: Vec<u8>,
}

impl Pki {
    pub(in super::super) fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref()).unwrap();
        let bits = |bytes: &[u8]| tlv(0x03, &[b"\0", bytes]);
        let validity = tlv(0x30, &[b"\x17\x0d200101000000Z", b"\x17\x0d490101000000Z"]);
        let public = tlv(0x30, &[KIND_OF_KEY, &bits(pair.public_key().as_ref())]);
        let version = b"\xa0\x03\x02\x01\x02";
        let serial = b"\x02\x01\x01";
        let body = tlv(0x30, &[version, serial, SIGNED_BY, NAME, &validity, NAME, &public]);
        let signature = bits(pair.sign(&random, &body).unwrap().as_ref());
        Self { der: tlv(0x30, &[&body, SIGNED_BY, &signature]), key: key.as_ref().to_vec() }
    }

    pub(in super::super) fn cert_pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub(in super::super) fn write(&self, files: &TlsFiles) {
        std::fs::write(&files.cert, self.cert_pem()).unwrap();
        std::fs::write(&files.key, pem("PRIVATE KEY", &self.key)).unwrap();
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let mut out = match body.len() {
        0..128 => vec![tag, length[1]],
        128..256 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    out.extend(body);
    out
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A directory that is gone with the value.
pub(in super::super) struct Dir(PathBuf);

impl Dir {
    pub(in super::super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("kube-bind-tls-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(in super::super) fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.0.join("tls.crt"), key: self.0.join("tls.key") }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
