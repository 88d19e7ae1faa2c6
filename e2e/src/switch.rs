//! One address in front of several servers, as a load balancer has it; tests choose the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Forwards each new connection to the chosen server. Dropping it closes the address.
#[derive(Debug)]
pub struct Switch {
    address: SocketAddr,
    chosen: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Switch {
    /// In front of these servers; the first one is chosen. They need not listen yet.
    pub async fn start(servers: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let chosen = Arc::new(AtomicUsize::new(0));
        let choice = Arc::clone(&chosen);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = servers[choice.load(Ordering::SeqCst) % servers.len()];
                tokio::spawn(async move {
                    // A server that is down is a connection that ends.
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Ok(Self { address, chosen, task })
    }

    /// Where clients come.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends new connections to this server from now on.
    pub fn choose(&self, server: usize) {
        self.chosen.store(server, Ordering::SeqCst);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
