//! Rows 14 and 68: many clients, none of which means well.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::site::{Site, Visitor};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::scene::visitor;
use super::{raw, tls};
use crate::Test;

/// Logins that begin. The benchmark does five times as many.
const LOGINS: u32 = 20_000;
/// What they may cost.
const GROWTH: u64 = 10 << 20;
/// Idle connections, opened one after another: the server keeps 512 at most.
const IDLE: u32 = 10_000;
/// Slow heads, and slow bodies.
const SLOW: u32 = 300;
/// Requests that must be answered meanwhile.
const SERVED: usize = 200;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("http::bad::14_logins_that_nobody_ends_cost_little_memory_and_are_limited", || {
            logins().boxed()
        }),
        ("http::bad::68_slow_and_idle_connections_keep_nobody_out", || slow().boxed()),
    ]
}

/// Begins logins from some addresses at once; gives how often each status was the answer.
async fn storm(site: &Site, count: u32, addresses: u8) -> Result<(u32, u32)> {
    let visitors: Vec<Visitor> = (0..addresses)
        .map(|last| Visitor::from(&site.base, Ipv4Addr::new(127, 0, 14, last + 1)))
        .collect::<Result<_>>()?;
    let page = format!("{}/", site.base);
    let (begun, limited) = (AtomicU32::new(0), AtomicU32::new(0));
    stream::iter(0..count)
        .map(Ok::<_, anyhow::Error>)
        .try_for_each_concurrent(32, async |login| {
            let visitor = &visitors[login as usize % visitors.len()];
            let session =
                format!("session-{:016x}", u64::from(login).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let parameters = [
                ("redirect_url", page.as_str()),
                ("session_id", &session),
                ("client_type", "ui"),
                ("cluster_id", "nowhere"),
            ];
            let answer = visitor.authorize(&parameters).await?;
            match answer.status {
                302 => begun.fetch_add(1, Ordering::Relaxed),
                429 => {
                    let wait = answer.header("retry-after").next();
                    ensure!(wait.is_some_and(|wait| wait.parse::<u32>().is_ok()), "{answer:?}");
                    limited.fetch_add(1, Ordering::Relaxed)
                }
                _ => anyhow::bail!("{answer:?}"),
            };
            Ok(())
        })
        .await?;
    Ok((begun.into_inner(), limited.into_inner()))
}

async fn logins() -> Result<()> {
    let site = Site::start("bad-storm", &[]).await?;
    // What code, connections and the allocator take once is not what a login takes.
    storm(&site, 500, 32).await?;
    let before = site.provider.backend.resident_bytes()?;
    let (begun, limited) = storm(&site, LOGINS, 8).await?;
    let grown = site.provider.backend.resident_bytes()?.saturating_sub(before);
    ensure!(grown < GROWTH, "{begun} logins begun, {limited} refused, {grown} bytes more");
    ensure!(limited > 0 && begun > 0, "{begun} logins begun, {limited} refused");
    // Whoever comes from elsewhere notices nothing.
    let other = visitor(&site, 14)?;
    let end = other.login("nowhere", "").await?;
    ensure!(end.status == 302, "{end:?}");
    Ok(())
}

/// A connection from one of many addresses: there are not enough ports for one.
async fn connect(to: SocketAddr, number: u32) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let [high, low] = u16::try_from(number / 1000)?.to_be_bytes();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 68, high, low + 1), 0)))?;
    Ok(socket.connect(to).await?)
}

/// Requests, each on a connection of its own, are all answered. How fast is the benchmark's to say (`--http`).
async fn served(site: &Site) -> Result<()> {
    for _ in 0..SERVED {
        let answer = visitor(site, 68)?.get("/api/exports").await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    Ok(())
}

async fn slow() -> Result<()> {
    let site = Site::start("bad-slow", &[]).await?;
    let address = raw::address(&site)?;
    let mut held = Vec::new();
    let post = raw::request(&site, "POST /api/authorize", &["Content-Length: 1000"], "")?;
    for number in 0..SLOW {
        let mut slow_head = connect(address, number).await?;
        slow_head.write_all(b"GET /api/exports HTTP/1.1\r\nX: ").await?;
        let mut slow_body = connect(address, number).await?;
        slow_body.write_all(post.as_bytes()).await?;
        held.extend([slow_head, slow_body]);
    }
    let idle = stream::iter(0..IDLE).map(|number| connect(address, number));
    let idle: Vec<TcpStream> = idle.buffered(64).try_collect().await?;
    served(&site).await?;
    drop(idle);
    for stream in &mut held {
        // By its end or by an answer that says so, each of them is done with.
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(45), stream.read_to_end(&mut rest));
        // A reset is an end too.
        let _ = end.await.context("a slow connection is held for ever")?;
    }
    handshakes().await
}

/// Whoever opens a connection to a TLS port and says nothing is left alone after a few seconds.
async fn handshakes() -> Result<()> {
    let site = tls::site().await?;
    let address = raw::address(site)?;
    let mut silent = Vec::new();
    for number in 0..SLOW {
        let mut stream = connect(address, number).await?;
        // The first bytes of a ClientHello.
        stream.write_all(&[22, 3, 1, 2, 0, 1]).await?;
        silent.push(stream);
    }
    let answer = visitor(site, 68)?.get("/api/exports").await?;
    ensure!(answer.status == 200, "{answer:?}");
    for stream in &mut silent {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        let _ = end.await.context("a handshake that does not go on is held for ever")?;
    }
    Ok(())
}
