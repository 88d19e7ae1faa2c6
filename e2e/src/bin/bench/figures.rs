//! Figures beside their budgets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::audit::{Request, count};
use e2e::backend::Backend;
use serde_json::{Value, json};

/// One row of the result.
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    budget: Option<f64>,
}

/// The result of one run.
pub(crate) struct Report {
    title: String,
    figures: Vec<Figure>,
    /// Requests of the backend by verb and resource, with what they were for.
    requests: Vec<(String, Counts)>,
}

/// How many requests there are by verb and resource.
type Counts = BTreeMap<(String, String), usize>;

impl Report {
    pub(crate) fn new(title: String) -> Self {
        Self { title, figures: Vec::new(), requests: Vec::new() }
    }

    pub(crate) fn add(&mut self, what: &str, value: f64, unit: &'static str, budget: Option<f64>) {
        eprintln!("bench: {what}: {value:.2} {unit}");
        self.figures.push(Figure { what: what.to_owned(), value, unit, budget });
    }

    /// Requests per something, and which.
    pub(crate) fn add_requests(
        &mut self,
        what: &str,
        requests: &[Request],
        divisor: usize,
        budget: Option<f64>,
    ) {
        self.add(what, amount(requests.len()) / amount(divisor.max(1)), "", budget);
        self.requests.push((what.to_owned(), count(requests)));
    }

    /// The latency of one step: median and 99th percentile.
    pub(crate) fn add_latency(&mut self, what: &str, taken: &[Duration]) {
        for (name, rank) in [("p50", 50), ("p99", 99)] {
            let value = percentile(taken, rank).as_secs_f64() * 1000.0;
            self.add(&format!("{what}, {name}"), value, "ms", None);
        }
    }

    /// Resident memory now.
    pub(crate) fn add_memory(&mut self, what: &str, backend: &Backend, budget: f64) -> Result<()> {
        let bytes = usize::try_from(backend.resident_bytes()?)?;
        self.add(what, amount(bytes) / 1024.0 / 1024.0, "MiB", Some(budget));
        Ok(())
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n| figure | measured | budget |\n|---|---|---|\n", self.title);
        for Figure { what, value, unit, budget } in &self.figures {
            let budget = budget.map_or(String::new(), |budget| format!("{budget:.1} {unit}"));
            let _ = writeln!(text, "| {what} | {value:.1} {unit} | {} |", budget.trim_end());
        }
        for (what, counts) in &self.requests {
            let _ = writeln!(text, "\n{what}, all of them by verb and resource:\n");
            let _ = writeln!(text, "| requests | verb | resource |\n|---|---|---|");
            for ((verb, resource), count) in counts {
                let _ = writeln!(text, "| {count} | {verb} | {resource} |");
            }
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "figure": figure.what,
                "value": figure.value,
                "unit": figure.unit,
                "budget": figure.budget,
            })
        };
        let requests = |(what, counts): &(String, Counts)| {
            let rows = counts.iter().map(
                |((verb, resource), count)| json!({"verb": verb, "resource": resource, "count": count}),
            );
            json!({"figure": what, "requests": rows.collect::<Vec<_>>()})
        };
        json!({
            "title": self.title,
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "requests": self.requests.iter().map(requests).collect::<Vec<_>>(),
        })
    }
}

/// The value that this share of all is not above, in percent.
pub(crate) fn percentile(taken: &[Duration], rank: usize) -> Duration {
    let mut sorted = taken.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * rank).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
pub(crate) fn amount(count: usize) -> f64 {
    count as f64
}

/// User and system time so far (`proc(5)`: fields 14 and 15 of stat, in ticks of 10 ms on Linux).
pub(crate) fn cpu_seconds(backend: &Backend) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", backend.pid()))?;
    let after_name = stat.rsplit_once(") ").context("an odd /proc/<pid>/stat")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks =
        |index: usize| -> Result<f64> { Ok(fields.get(index).context("too short")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
