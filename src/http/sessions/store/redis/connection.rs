//! One connection to Redis for all, made again when it breaks.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo, RedisError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{RedisConfig, RedisConfigError, RedisTls};
use crate::runtime::error::first_line;

/// How long a connection may take until it is ready, name lookup and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes connections.
pub(super) struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Who we are there.
    info: RedisConnectionInfo,
}

impl Connector {
    pub(super) fn new(
        host: String,
        port: u16,
        config: &RedisConfig,
    ) -> Result<Self, RedisConfigError> {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = &config.username {
            info = info.set_username(username);
        }
        if let Some(password) = &config.password {
            info = info.set_password(password.expose_secret());
        }
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| RedisConfigError::Address(config.address.clone()))?;
                Some((TlsConnector::from(Arc::new(tls_config(tls)?)), name))
            }
        };
        Ok(Self { host, port, tls, info })
    }

    async fn connect(&self) -> Result<Live, String> {
        let connected = timeout(CONNECT_TIMEOUT, self.unbounded()).await;
        connected.unwrap_or_else(|_| {
            Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))
        })
    }

    async fn unbounded(&self) -> Result<Live, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|err| format!("no connection: {}", first_line(&err)))?;
        // Commands are small and somebody waits for each.
        stream.set_nodelay(true).map_err(|err| first_line(&err))?;
        match &self.tls {
            None => self.over(stream).await,
            Some((tls, name)) => {
                let stream = tls
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|err| format!("no TLS connection: {}", first_line(&err)))?;
                self.over(stream).await
            }
        }
    }

    async fn over<S>(&self, stream: S) -> Result<Live, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_TIMEOUT));
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&self.info, stream, config)
                .await
                .map_err(|err| problem(&err))?;
        Ok(Live { connection, driver: AbortOnDropHandle::new(tokio::spawn(driver)) })
    }
}

/// A connection. It ends when nobody uses it any more.
struct Live {
    connection: MultiplexedConnection,
    /// Carries commands and answers; ends with the connection.
    driver: AbortOnDropHandle<()>,
}

/// The connection that all use, or the last failure to make one.
#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    failed: Option<(Instant, String)>,
}

/// A connection that is there when it is needed.
pub(super) struct Line {
    connector: Connector,
    slot: Mutex<Slot>,
}

impl Line {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, slot: Mutex::default() }
    }

    /// Sends a command once. It is not sent again on a new connection when its own breaks: nobody can
    /// tell whether it was carried out, and whoever took a login twice would find nothing.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, String> {
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        match command.query_async(&mut connection).await {
            Ok(answer) => Ok(answer),
            Err(err) => {
                // After anything but an answer, the next one might belong to this command.
                if err.code().is_none() {
                    self.discard(&live).await;
                }
                Err(problem(&err))
            }
        }
    }

    /// The connection. One caller makes it and the others wait, for success or failure: if Redis does
    /// not answer, no queue of attempts builds up.
    async fn live(&self) -> Result<Arc<Live>, String> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(live) = &slot.live
            && !live.driver.is_finished()
        {
            return Ok(Arc::clone(live));
        }
        if let Some((at, problem)) = &slot.failed
            && *at >= asked
        {
            return Err(problem.clone());
        }
        slot.live = None;
        match self.connector.connect().await {
            Ok(live) => {
                let live = Arc::new(live);
                slot.live = Some(Arc::clone(&live));
                slot.failed = None;
                Ok(live)
            }
            Err(problem) => {
                slot.failed = Some((Instant::now(), problem.clone()));
                Err(problem)
            }
        }
    }

    /// Uses this connection for no more commands.
    async fn discard(&self, dead: &Arc<Live>) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_some_and(|live| Arc::ptr_eq(live, dead)) {
            slot.live = None;
        }
    }
}

/// What a failure met. An answer of Redis may quote what was sent; its code does not.
fn problem(err: &RedisError) -> String {
    match err.code() {
        Some(code) => format!("Redis answers {code}"),
        None if err.is_timeout() => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        None if err.is_io_error() => format!("the connection broke: {}", first_line(err)),
        None => format!("Redis: {}", err.category()),
    }
}

fn tls_config(tls: &RedisTls) -> Result<ClientConfig, RedisConfigError> {
    let builder = ClientConfig::builder();
    let builder = match &tls.ca {
        Some(pem) => builder.with_root_certificates(roots(pem)?),
        None => builder
            .with_native_roots()
            .map_err(|err| RedisConfigError::SystemRoots(first_line(&err)))?,
    };
    Ok(builder.with_no_client_auth())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, RedisConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|err| RedisConfigError::Ca(first_line(&err)))?;
        roots.add(certificate).map_err(|err| RedisConfigError::Ca(first_line(&err)))?;
    }
    if roots.is_empty() {
        return Err(RedisConfigError::Ca("it has no certificate".to_owned()));
    }
    Ok(roots)
}
