//! The same over real connections.

use std::net::SocketAddr;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const CA: &[u8] = include_bytes!("ca.pem");
const SERVER: &[u8] = include_bytes!("server.pem");

async fn answer(router: Router, stream: impl AsyncRead + AsyncWrite + Unpin) {
    // A client that does not trust us closes the connection: no fault of ours.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

/// The embedded issuer on an address of its own, served until the test's runtime ends.
async fn served(tls: bool) -> (Issuer, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("{}://{address}/oidc", if tls { "https" } else { "http" });
    let clock = Hands::new().clock();
    let issuer = Issuer::new(&url.parse().unwrap(), &CALLBACK.parse().unwrap(), clock).unwrap();
    let router = issuer.router();
    let certificates = CertificateDer::pem_slice_iter(SERVER).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(SERVER).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(certificates, key).unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (router, acceptor) = (router.clone(), acceptor.clone());
            tokio::spawn(async move {
                if !tls {
                    answer(router, stream).await;
                } else if let Ok(stream) = acceptor.accept(stream).await {
                    answer(router, stream).await;
                }
            });
        }
    });
    (issuer, address)
}

async fn log_in(config: Config, issuer: &Issuer) -> Result<Identity, Error> {
    let party = RelyingParty::new(config, Hands::new().clock()).unwrap();
    make_ready(&party).await;
    let started = party.start_login().unwrap();
    let answer = get(&issuer.router(), &started.authorize_url).await;
    let back = Url::parse(answer.headers()[LOCATION].to_str().unwrap()).unwrap();
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    party.finish_login(&code.into(), &started.verifier, &started.nonce).await
}

#[tokio::test]
async fn a_login_over_the_network_of_this_machine_succeeds() {
    let (issuer, address) = served(false).await;
    let identity = log_in(issuer.client(), &issuer).await.unwrap();
    assert_eq!(identity.issuer, format!("http://{address}/oidc"));
}

#[tokio::test]
async fn a_login_over_tls_succeeds_with_the_ca_that_was_given() {
    let (issuer, address) = served(true).await;
    let config = Config { ca: Some(CA.to_vec()), ..issuer.client() };
    let identity = log_in(config, &issuer).await.unwrap();
    assert_eq!(identity.issuer, format!("https://{address}/oidc"));
}

/// What makes the issuer unusable.
async fn problem(config: Config) -> String {
    let party = RelyingParty::new(config, Hands::new().clock()).unwrap();
    let run = party.run(CancellationToken::new());
    tokio::select! {
        () = run => panic!("the background work ended"),
        problem = async {
            loop {
                let problem = party.ready().err().map(|err| err.problem);
                if problem.as_deref() != Some("it was not asked yet") {
                    return problem.unwrap();
                }
                tokio::task::yield_now().await;
            }
        } => problem,
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (issuer, _) = served(true).await;
    // A certificate that signed nothing: the server's own.
    let config = Config { ca: Some(SERVER.to_vec()), ..issuer.client() };
    let problem = problem(config).await;
    assert!(problem.contains("invalid peer certificate"), "{problem}");
}

#[tokio::test]
async fn an_issuer_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/oidc");
    let config = Config::new(url.clone(), "client".to_owned(), CALLBACK.parse().unwrap());
    let problem = problem(config).await;
    assert!(
        problem.starts_with(&format!("{url}/.well-known/openid-configuration cannot be reached: ")),
        "{problem}"
    );
}
