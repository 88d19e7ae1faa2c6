//! The certificate, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// The files of `--tls-cert-file` and `--tls-key-file`, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server, and those that lead to its issuer.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a pair of files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}; check --tls-cert-file and --tls-key-file")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No certificate in it.
    #[error("{0} holds no certificate in PEM form; check --tls-cert-file")]
    NoCertificate(PathBuf),
    /// No private key in it. What it holds instead is not told.
    #[error("{0} holds no private key in PEM form; check --tls-key-file")]
    NoKey(PathBuf),
    /// The two do not belong together, or rustls does not know the kind of key.
    #[error(
        "the certificate and the key cannot be used together: {0}; check --tls-cert-file and --tls-key-file"
    )]
    Pair(String),
    /// No protocol version.
    #[error("cannot set up TLS: {0}")]
    SetUp(String),
}

/// What was read from the files last, good or bad.
type Pair = (Vec<u8>, Zeroizing<Vec<u8>>);

/// The pair in use. Handshakes see a change at once.
pub(super) struct Certificate {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
    seen: Mutex<Result<Pair, TlsError>>,
}

impl Certificate {
    pub(super) fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let pair = read(&files)?;
        let current = RwLock::new(Arc::new(certified(&files, &pair)?));
        Ok(Arc::new(Self { files, current, seen: Mutex::new(Ok(pair)) }))
    }

    /// Reads the files again. A pair that cannot be used changes nothing: the one in use stays, and the
    /// reason is returned the first time that it is seen. While a pair is being replaced, its halves
    /// do not fit; the next call sees them whole.
    pub(super) fn refresh(&self) -> Result<(), TlsError> {
        let read = read(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == read {
            return Ok(());
        }
        let made =
            read.as_ref().map_err(Clone::clone).and_then(|pair| certified(&self.files, pair));
        *seen = read;
        let key = made?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        tracing::info!(file = %self.files.cert.display(), "the certificate is read again");
        Ok(())
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// TLS 1.2 and 1.3, HTTP/1.1 only.
pub(super) fn config(certificate: Arc<Certificate>) -> Result<rustls::ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| TlsError::SetUp(err.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read(files: &TlsFiles) -> Result<Pair, TlsError> {
    let read = |path: &Path| {
        let failed =
            |err: std::io::Error| TlsError::Read { path: path.to_owned(), reason: err.to_string() };
        std::fs::read(path).map_err(failed)
    };
    Ok((read(&files.cert)?, Zeroizing::new(read(&files.key)?)))
}

fn certified(files: &TlsFiles, (cert, key): &Pair) -> Result<CertifiedKey, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| TlsError::NoCertificate(files.cert.clone()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey(files.key.clone()))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|err| TlsError::Pair(err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::pki::{Dir, Pki};
    use super::*;

    fn in_use(certificate: &Certificate) -> Vec<u8> {
        certificate.current.read().unwrap().cert[0].to_vec()
    }

    #[test]
    fn a_new_pair_is_taken_and_a_bad_one_is_told_once() {
        let dir = Dir::new();
        let (old, new) = (Pki::new(), Pki::new());
        let files = dir.files();
        old.write(&files);
        let certificate = Certificate::load(files.clone()).unwrap();
        assert_eq!((certificate.refresh(), in_use(&certificate)), (Ok(()), old.der.clone()));

        std::fs::write(&files.cert, new.cert_pem()).unwrap();
        assert!(matches!(certificate.refresh(), Err(TlsError::Pair(_))));
        assert_eq!((certificate.refresh(), in_use(&certificate)), (Ok(()), old.der.clone()));

        std::fs::remove_file(&files.key).unwrap();
        assert!(matches!(certificate.refresh(), Err(TlsError::Read { .. })));
        assert_eq!((certificate.refresh(), in_use(&certificate)), (Ok(()), old.der.clone()));

        new.write(&files);
        assert_eq!((certificate.refresh(), in_use(&certificate)), (Ok(()), new.der));
    }

    #[test]
    fn a_bad_pair_at_the_start_names_the_file() {
        let dir = Dir::new();
        let files = dir.files();
        let load = || Certificate::load(files.clone()).unwrap_err();
        assert!(matches!(load(), TlsError::Read { path, .. } if path == files.cert));
        Pki::new().write(&files);
        std::fs::write(&files.key, "secret text").unwrap();
        assert_eq!(load(), TlsError::NoKey(files.key.clone()));
        std::fs::write(&files.cert, "").unwrap();
        assert_eq!(load(), TlsError::NoCertificate(files.cert.clone()));
    }
}
