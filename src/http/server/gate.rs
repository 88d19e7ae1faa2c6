//! Stands between the socket and hyper: gives it whole, checked heads only, and keeps the times of a
//! connection.
//!
//! A head that is refused is not given to hyper. It gets a harmless one instead, and the service finds
//! the [`Refusal`] beside it: the answer then comes in its turn, with everything that each answer of ours
//! carries.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connections::Connection;
use super::head::{self, Framing, Refusal};

/// What hyper reads in the place of a refused head.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Bytes read at once while a head is awaited.
const PIECE: usize = 4096;

/// Bytes of a refused request that are read and dropped after the answer: closing with unread bytes
/// resets the connection, and the client may lose the answer.
const LINGER_BYTES: usize = 256 << 10;

/// For how long they are waited for.
const LINGER: Duration = Duration::from_secs(1);

/// The times and sizes of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Largest head.
    pub(super) head_bytes: usize,
    /// For a head, from its first byte; also for the first byte of a connection.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// For a client that takes nothing of an answer.
    pub(super) stall: Duration,
}

enum Stage {
    /// Before or in a head.
    Head,
    /// So many bytes of a body are to come.
    Body(u64),
    /// A chunked body, after which nothing is read.
    Chunked,
    /// Nothing of what comes is read.
    Refused,
}

/// A timer that is set again and again.
struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// Whether the time has come; if not, the task is woken then.
    fn poll_at(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.deadline() != at {
            self.0.as_mut().reset(at);
        }
        self.0.as_mut().poll(cx)
    }
}

/// See the module.
pub(super) struct Gate<S> {
    io: S,
    connection: Arc<Connection>,
    times: Times,
    stage: Stage,
    /// Bytes read and not yet given to hyper.
    buffer: Vec<u8>,
    /// How many of them hyper may have.
    ready: usize,
    /// How many of the awaited head were looked at.
    seen: usize,
    /// Whether a head was given to hyper before.
    used: bool,
    /// When the awaited head began, or something was read or written last.
    since: Instant,
    read_alarm: Alarm,
    write_alarm: Alarm,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
    /// When the end of lingering comes, and how many bytes were dropped.
    linger: Option<(Instant, usize)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gate<S> {
    pub(super) fn new(io: S, connection: Arc<Connection>, times: Times) -> Self {
        Self {
            io,
            connection,
            times,
            stage: Stage::Head,
            buffer: Vec::new(),
            ready: 0,
            seen: 0,
            used: false,
            since: Instant::now(),
            read_alarm: Alarm::new(),
            write_alarm: Alarm::new(),
            stalled: None,
            linger: None,
        }
    }

    /// Looks at what is there of a head.
    fn look(&mut self) {
        let found = match head::end(&self.buffer, self.seen, self.times.head_bytes) {
            Ok(None) => {
                self.seen = self.buffer.len();
                return;
            }
            Ok(Some(len)) => head::check(&self.buffer[..len]).map(|framing| (len, framing)),
            Err(refusal) => Err(refusal),
        };
        self.seen = 0;
        self.used = true;
        match found {
            Ok((len, framing)) => {
                self.ready = len;
                self.stage = match framing {
                    Framing::Length(0) => Stage::Head,
                    Framing::Length(length) => Stage::Body(length),
                    Framing::Chunked => Stage::Chunked,
                };
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.connection.refuse(refusal);
        self.buffer = REFUSED.to_vec();
        self.ready = REFUSED.len();
        self.stage = Stage::Refused;
        self.used = true;
    }

    /// More of a head into the buffer. True at the end of the stream, or when nothing came in time.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, &mut piece) {
            read?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(true));
            }
            if self.buffer.is_empty() {
                self.since = Instant::now();
            }
            self.buffer.extend_from_slice(piece.filled());
            return Poll::Ready(Ok(false));
        }
        loop {
            let started = !self.buffer.is_empty();
            let limit = if started || !self.used { self.times.head } else { self.times.idle };
            ready!(self.read_alarm.poll_at(self.since + limit, cx));
            if self.connection.has_request() {
                // The time of the next request does not run while this one waits or is under way.
                self.since = Instant::now();
            } else if started {
                self.refuse(Refusal::Slow);
                return Poll::Ready(Ok(false));
            } else {
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// A body is given on as it comes; what is behind it stays.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        left: Option<u64>,
    ) -> Poll<io::Result<()>> {
        let most = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let taken = if self.buffer.is_empty() {
            let room = out.remaining().min(most);
            let mut limited = ReadBuf::new(out.initialize_unfilled_to(room));
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut limited))?;
            let taken = limited.filled().len();
            out.advance(taken);
            taken
        } else {
            self.ready = self.buffer.len().min(most);
            self.ready
        };
        self.since = Instant::now();
        if let Some(left) = left {
            let left = left.saturating_sub(taken as u64);
            self.stage = if left == 0 { Stage::Head } else { Stage::Body(left) };
        }
        if self.ready > 0 {
            self.give(out);
        }
        Poll::Ready(Ok(()))
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.ready.min(out.remaining());
        out.put_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        self.ready -= count;
    }

    /// The time of the next head starts with the last byte that was written. Not with a flush: hyper
    /// flushes whenever it is woken, so each byte of a slow head would start its time again.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if matches!(wrote, Poll::Ready(Ok(1..))) {
            self.since = Instant::now();
        }
        self.watch(cx, wrote)
    }

    /// Watches over a write: a client that takes nothing for too long is left.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stalled = *self.stalled.get_or_insert_with(Instant::now);
        ready!(self.write_alarm.poll_at(stalled + self.times.stall, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Drops what the client still sends of a request that was not read, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (end, mut dropped) = self.linger.unwrap_or_else(|| (Instant::now() + LINGER, 0));
        while dropped < LINGER_BYTES {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.io).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    dropped += piece.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    self.linger = Some((end, dropped));
                    return self.read_alarm.poll_at(end, cx);
                }
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            // Never more than one head at once: the service is called before hyper asks for more.
            if gate.ready > 0 {
                gate.give(out);
                return Poll::Ready(Ok(()));
            }
            match gate.stage {
                Stage::Body(left) => return gate.poll_body(cx, out, Some(left)),
                Stage::Chunked => return gate.poll_body(cx, out, None),
                // An end of the stream would make hyper drop the answer.
                Stage::Refused => return Poll::Pending,
                Stage::Head => {}
            }
            if gate.seen < gate.buffer.len() {
                gate.look();
            } else if ready!(gate.poll_head(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let wrote = Pin::new(&mut gate.io).poll_write(cx, bytes);
        gate.written(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let wrote = Pin::new(&mut gate.io).poll_write_vectored(cx, bytes);
        gate.written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        let wrote = Pin::new(&mut gate.io).poll_flush(cx);
        gate.watch(cx, wrote)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if gate.linger.is_none() {
            let closed = Pin::new(&mut gate.io).poll_shutdown(cx);
            ready!(gate.watch(cx, closed))?;
        }
        if !matches!(gate.stage, Stage::Head) {
            ready!(gate.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::connections::Connections;
    use super::*;

    const TIMES: Times = Times {
        head_bytes: 256,
        head: Duration::from_secs(10),
        idle: Duration::from_mins(1),
        stall: Duration::from_secs(30),
    };

    async fn gate_of_one()
    -> (Gate<tokio::io::DuplexStream>, tokio::io::DuplexStream, Arc<Connection>) {
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 1));
        let connection = Connections::new(1).admit(peer).await.unwrap();
        let (ours, theirs) = tokio::io::duplex(64);
        (Gate::new(ours, Arc::clone(&connection), TIMES), theirs, connection)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_its_answer_is_left() {
        let (mut gate, _client, _connection) = gate_of_one().await;
        let start = Instant::now();
        let failed = gate.write_all(&[0; 256]).await.unwrap_err();
        assert_eq!((failed.kind(), start.elapsed()), (io::ErrorKind::TimedOut, TIMES.stall));

        // Who takes a little from time to time is waited for.
        let (mut gate, mut client, _connection) = gate_of_one().await;
        let start = Instant::now();
        let slowly = async {
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                client.read_exact(&mut [0; 64]).await.unwrap();
            }
        };
        let (wrote, ()) = tokio::join!(gate.write_all(&[0; 256]), slowly);
        wrote.unwrap();
        assert!(start.elapsed() > TIMES.stall * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn hyper_sees_whole_heads_one_at_a_time_and_nothing_of_a_refused_one() {
        let (mut gate, mut wire, connection) = gate_of_one().await;
        let first = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        let sent = format!("{first}abcGET / HTTP/1.1\r\n");
        let client = async {
            wire.write_all(sent.as_bytes()).await.unwrap();
            tokio::time::sleep(TIMES.head * 2).await;
        };
        let read = async {
            let mut piece = [0; 1024];
            let mut pieces = Vec::new();
            for _ in 0..3 {
                let refused = connection.refusal();
                let count = gate.read(&mut piece).await.unwrap();
                let text = String::from_utf8_lossy(&piece[..count]).into_owned();
                pieces.push((refused, text));
            }
            pieces
        };
        let (pieces, ()) = tokio::join!(read, client);
        let refused = String::from_utf8_lossy(REFUSED).into_owned();
        let expected = [first.to_owned(), "abc".to_owned(), refused].map(|text| (None, text));
        assert_eq!(pieces, expected);
        assert_eq!(connection.refusal(), Some(Refusal::Slow));
    }
}
