//! Figures beside their budgets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::audit::{Request, count};
use e2e::backend::Backend;
use serde_json::{Map, Value, json};

/// One row of the result.
pub(crate) struct Figure {
    /// Names it in JSON, the same in every run.
    key: String,
    what: String,
    value: f64,
    unit: &'static str,
    budget: Option<f64>,
}

/// The result of one run.
pub(crate) struct Report {
    /// Names it in JSON.
    key: &'static str,
    title: String,
    figures: Vec<Figure>,
    requests: Vec<Table>,
}

/// Requests of the backend by verb and resource.
struct Table {
    key: &'static str,
    what: String,
    /// Of how many things the figure is the mean.
    divisor: usize,
    counts: BTreeMap<(String, String), usize>,
}

impl Report {
    pub(crate) fn new(key: &'static str, title: String) -> Self {
        Self { key, title, figures: Vec::new(), requests: Vec::new() }
    }

    /// One figure; `key` names it in JSON.
    pub(crate) fn add(
        &mut self,
        key: &str,
        what: &str,
        value: f64,
        unit: &'static str,
        budget: Option<f64>,
    ) {
        eprintln!("bench: {what}: {value:.2} {unit}");
        let (key, what) = (key.to_owned(), what.to_owned());
        self.figures.push(Figure { key, what, value, unit, budget });
    }

    /// Requests per something, and which.
    pub(crate) fn add_requests(
        &mut self,
        key: &'static str,
        what: &str,
        requests: &[Request],
        divisor: usize,
        budget: Option<f64>,
    ) {
        let divisor = divisor.max(1);
        self.add(key, what, amount(requests.len()) / amount(divisor), "", budget);
        let what = what.to_owned();
        self.requests.push(Table { key, what, divisor, counts: count(requests) });
    }

    /// The latency of one step: median and 99th percentile.
    pub(crate) fn add_latency(&mut self, key: &str, what: &str, taken: &[Duration]) {
        for (name, rank) in [("p50", 50), ("p99", 99)] {
            let value = percentile(taken, rank).as_secs_f64() * 1000.0;
            self.add(&format!("{key}_{name}"), &format!("{what}, {name}"), value, "ms", None);
        }
    }

    /// Resident memory now, in MiB.
    pub(crate) fn add_memory(
        &mut self,
        key: &str,
        what: &str,
        backend: &Backend,
        budget: f64,
    ) -> Result<f64> {
        let bytes = usize::try_from(backend.resident_bytes()?)?;
        let memory = amount(bytes) / 1024.0 / 1024.0;
        self.add(key, what, memory, "MiB", Some(budget));
        Ok(memory)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n| figure | measured | budget |\n|---|---|---|\n", self.title);
        for figure in &self.figures {
            let Figure { what, value, unit, budget, .. } = figure;
            let missed = if figure.is_within() { "" } else { " **missed**" };
            let budget = budget.map_or(String::new(), |budget| format!("{budget:.1} {unit}"));
            let budget = budget.trim_end();
            let _ = writeln!(text, "| {what} | {value:.1} {unit} | {budget}{missed} |");
        }
        let tables = self.requests.iter().filter(|table| !table.counts.is_empty());
        for Table { what, divisor, counts, .. } in tables {
            let _ = writeln!(text, "\n{what}, by verb and resource:\n");
            let _ = writeln!(text, "| each | all | verb | resource |\n|---|---|---|---|");
            for ((verb, resource), count) in counts {
                let each = amount(*count) / amount(*divisor);
                let _ = writeln!(text, "| {each:.2} | {count} | {verb} | {resource} |");
            }
        }
        text
    }

    /// Figures and requests under their keys, and whether each figure is within its budget.
    pub(crate) fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            let Figure { key, what, value, unit, budget } = figure;
            let within = budget.map(|_| figure.is_within());
            let object = json!({
                "what": what, "value": value, "unit": unit, "budget": budget, "within": within,
            });
            (key.clone(), object)
        });
        let requests = self.requests.iter().map(|Table { key, divisor, counts, .. }| {
            let rows = counts.iter().map(
                |((verb, resource), count)| json!({"verb": verb, "resource": resource, "count": count}),
            );
            let object = json!({"of": divisor, "requests": rows.collect::<Vec<_>>()});
            ((*key).to_owned(), object)
        });
        json!({
            "run": self.key,
            "title": self.title,
            "figures": figures.collect::<Map<_, _>>(),
            "requests": requests.collect::<Map<_, _>>(),
        })
    }
}

impl Figure {
    /// Also where there is no budget.
    fn is_within(&self) -> bool {
        self.budget.is_none_or(|budget| self.value <= budget)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let taken: Vec<_> = (1..=30).rev().map(Duration::from_millis).collect();
        let found = [50, 99, 100].map(|rank| percentile(&taken, rank).as_millis());
        assert_eq!(found, [15, 30, 30]);
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn figures_are_in_json_under_their_keys_and_say_whether_they_are_within_budget() {
        let mut report = Report::new("run", "title".to_owned());
        let request = Request {
            verb: "get".to_owned(),
            resource: "secrets.core".to_owned(),
            cluster: "a".to_owned(),
            object: "b/c".to_owned(),
            code: 200,
            user_agent: "x".to_owned(),
        };
        let requests = [request.clone(), request];
        report.add_requests("requests", "requests each", &requests, 4, Some(0.25));
        report.add("time", "time", 2.0, "s", None);
        assert_eq!(
            report.json(),
            json!({
                "run": "run",
                "title": "title",
                "figures": {
                    "requests": {
                        "what": "requests each", "value": 0.5, "unit": "", "budget": 0.25,
                        "within": false,
                    },
                    "time": {
                        "what": "time", "value": 2.0, "unit": "s", "budget": null, "within": null,
                    },
                },
                "requests": {"requests": {"of": 4, "requests": [
                    {"verb": "get", "resource": "secrets.core", "count": 2},
                ]}},
            })
        );
    }
}
