//! A real redis-server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::{Process, Spec, free_port};
use crate::wait::eventually;
use crate::{dirs, tools};

/// Until it answers.
const START: Duration = Duration::from_secs(20);
/// Its password.
pub const PASSWORD: &str = "redis-password-of-the-tests";

/// A server with a password, in memory only. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    spec: Spec,
    process: Process,
    address: SocketAddr,
}

impl Redis {
    /// Starts one; `name` names its log.
    pub async fn start(name: &str) -> Result<Self> {
        let port = free_port()?;
        let spec = Spec::new(name, tools::path("redis-server")?, dirs::run()?).args([
            "--bind".to_owned(),
            "127.0.0.1".to_owned(),
            "--port".to_owned(),
            port.to_string(),
            "--requirepass".to_owned(),
            PASSWORD.to_owned(),
            "--save".to_owned(),
            String::new(),
            "--appendonly".to_owned(),
            "no".to_owned(),
        ]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let process = Process::start(&spec).await?;
        let redis = Self { spec, process, address };
        redis.ready().await?;
        Ok(redis)
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`, and all that it knew.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again at the same address, empty.
    pub async fn restart(&mut self) -> Result<()> {
        self.process = Process::start(&self.spec).await?;
        self.ready().await
    }

    async fn ready(&self) -> Result<()> {
        let answers = eventually("redis-server to answer", START, async || {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(format!("AUTH {PASSWORD}\r\n").as_bytes()).await?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.context("no answer")?;
            ensure!(&answer == b"+OK\r\n", "{}", String::from_utf8_lossy(&answer));
            anyhow::Ok(())
        });
        answers.await.map_err(|error| self.process.fail(error))
    }
}
