//! Requests byte by byte, as no client library would send them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::site::Site;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// For an answer, and for the end of its connection.
const PATIENCE: Duration = Duration::from_secs(8);

/// An answer as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Raw {
    /// 0 if there was none.
    pub(super) status: u16,
    /// Everything, headers too.
    pub(super) text: String,
    /// Whether the server closed the connection.
    pub(super) closed: bool,
}

/// Where a site listens.
pub(super) fn address(site: &Site) -> Result<SocketAddr> {
    site.base.split("//").nth(1).context("no address")?.parse().context("no address")
}

/// Head and body of a request to a site, with a length if there is a body.
pub(super) fn request(site: &Site, line: &str, headers: &[&str], body: &str) -> Result<String> {
    let mut text = format!("{line} HTTP/1.1\r\nHost: {}\r\n", address(site)?);
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    Ok(format!("{text}\r\n{body}"))
}

/// Sends bytes, and reads until the server closes or nothing comes any more.
pub(super) async fn send(address: SocketAddr, bytes: &[u8]) -> Result<Raw> {
    let mut stream = TcpStream::connect(address).await?;
    // A server that has seen enough may close while we are sending.
    let sent = stream.write_all(bytes).await;
    let answer = read(&mut stream).await;
    if answer.status == 0 {
        sent?;
    }
    Ok(answer)
}

/// Reads one answer, and whether the connection ends after it.
pub(super) async fn read(stream: &mut TcpStream) -> Raw {
    let end = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let closed = loop {
        match timeout_at(end, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(read)) => bytes.extend_from_slice(&buffer[..read]),
            Err(_) => break false,
        }
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Raw { status: status.unwrap_or_default(), text, closed }
}
