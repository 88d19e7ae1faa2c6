//! One kcp, one Kubernetes and one kcp with two shards per test run: started when the first test asks, shared by all,
//! ended at the end.
//!
//! Tests stay apart by workspaces and namespaces of their own; a test that stops or restarts a server starts one for
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use tokio::sync::Mutex;

use crate::dirs;
use crate::kcp::{Kcp, Workspace};
use crate::kubernetes::Kubernetes;
use crate::shards::Shards;

static KCP: Mutex<Option<Arc<Kcp>>> = Mutex::const_new(None);
static KUBERNETES: Mutex<Option<Arc<Kubernetes>>> = Mutex::const_new(None);
static SHARDS: Mutex<Option<Arc<Shards>>> = Mutex::const_new(None);
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The shared kcp.
///
/// A failed start is an error of the test that asked; the next one tries again.
pub async fn kcp() -> Result<Arc<Kcp>> {
    let mut shared = KCP.lock().await;
    if let Some(kcp) = &*shared {
        return Ok(Arc::clone(kcp));
    }
    let kcp = Arc::new(Kcp::start(&dirs::fresh(&unique("kcp"))?).await?);
    *shared = Some(Arc::clone(&kcp));
    Ok(kcp)
}

/// The shared Kubernetes.
pub async fn kubernetes() -> Result<Arc<Kubernetes>> {
    let mut shared = KUBERNETES.lock().await;
    if let Some(kubernetes) = &*shared {
        return Ok(Arc::clone(kubernetes));
    }
    let kubernetes = Arc::new(Kubernetes::start(&dirs::fresh(&unique("kubernetes"))?).await?);
    *shared = Some(Arc::clone(&kubernetes));
    Ok(kubernetes)
}

/// The shared kcp with two shards. Tests use it one after the other ([`Shards::turn`]).
pub async fn shards() -> Result<Arc<Shards>> {
    let mut shared = SHARDS.lock().await;
    if let Some(shards) = &*shared {
        return Ok(Arc::clone(shards));
    }
    let shards = Arc::new(Shards::start(&dirs::fresh(&unique("shards"))?).await?);
    *shared = Some(Arc::clone(&shards));
    Ok(shards)
}

/// A new workspace in the shared kcp, directly under root.
pub async fn workspace(name: &str) -> Result<(Arc<Kcp>, Workspace)> {
    let kcp = kcp().await?;
    let workspace = kcp.create_workspace("root", &unique(name)).await?;
    Ok((kcp, workspace))
}

/// `name` with a number that no other test of this run gets.
#[must_use]
pub fn unique(name: &str) -> String {
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Ends the shared servers.
pub async fn stop() {
    let kcp = KCP.lock().await.take();
    let kubernetes = KUBERNETES.lock().await.take();
    let shards = SHARDS.lock().await.take();
    for result in [
        async { if let Some(kcp) = kcp { kcp.kill().await } else { Ok(()) } }.await,
        async { if let Some(kubernetes) = kubernetes { kubernetes.kill().await } else { Ok(()) } }
            .await,
        async { if let Some(shards) = shards { shards.end().await } else { Ok(()) } }.await,
    ] {
        if let Err(error) = result {
            eprintln!("e2e: {error:#}");
        }
    }
}
