//! Waiting for a condition. No test sleeps: it says what it waits for, and a time-out says what was seen last.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// For anything that the backend or a server does by itself, while other tests use the machine too. A deadline, and never
/// a pause: what is there is seen at once.
pub const SOON: Duration = Duration::from_mins(2);
/// For what a server takes away in several steps: a namespace or a workspace with what is in it, a kind with all its
/// instances, for which it may need several tries.
pub const GONE: Duration = Duration::from_mins(4);
/// How often [`eventually`] looks.
const POLL: Duration = Duration::from_millis(100);

/// Calls `attempt` every 100 ms until it is `Ok`, and returns its value.
///
/// An attempt that hangs is cut off at the deadline. The error names `what` and the last observation, that is the last
/// `Err` of `attempt`.
pub async fn eventually<T, E, F, A>(what: &str, deadline: Duration, mut attempt: A) -> Result<T>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
    A: FnMut() -> F,
{
    let end = Instant::now() + deadline;
    let mut last = String::from("nothing: the first attempt did not return");
    loop {
        match timeout_at(end, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = format!("{seen:#}"),
            Err(_) => {}
        }
        if Instant::now() + POLL >= end {
            return Err(anyhow!("waited {deadline:?} for {what}; last seen: {last}"));
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn the_value_is_returned_as_soon_as_it_is_there() {
        let calls = Cell::new(0);
        let value = eventually("the third call", Duration::from_secs(5), async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err("not yet") } else { Ok(calls.get()) }
        })
        .await;
        assert_eq!(value.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_time_out_names_what_was_awaited_and_what_was_seen() {
        let error = eventually("the moon", Duration::from_millis(1), async || {
            Err::<(), _>("phase Pending")
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "waited 1ms for the moon; last seen: phase Pending");
    }
}
