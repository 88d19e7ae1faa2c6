//! `backend doctor` and `backend workspaces`: what an installation looks like, and what is wrong with it.
//!
//! Both look with the flags of a run, at what a run would see: the same watches, and for what a run does not watch a
//! list. They write nothing, and need no more rights than the backend. Findings come from pure functions; each has a
//! stable reason, which docs/doctor.md explains.

mod bindings;
mod conditions;
mod consumers;
mod finding;
mod granted;
mod heartbeat;
mod in_the_way;
mod installation;
mod leftovers;
mod lists;
mod look;
mod reason;
mod templates;
mod workspaces;

use jiff::Timestamp;
use serde_json::json;

pub use self::finding::{Finding, Object, Severity};
pub use self::look::Error;
use self::look::Look;
pub use self::reason::Reason;
use crate::cli::{Config, Format};

/// Whether everything is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that anybody has to do.
    Well,
    /// Somebody has to act, or not all could be seen.
    Unwell,
    /// Nobody answered, so nothing is known.
    Unseen,
}

/// Looks, and prints what is wrong.
pub async fn run(config: Config, format: Format) -> Result<Verdict, Error> {
    let mut look = Look::at(config).await?;
    let (mut findings, answered) = installation::findings(&mut look).await?;
    findings.extend(bindings::findings(&mut look).await);
    findings.extend(templates::findings(&mut look).await);
    for cluster in &look.clusters {
        findings.extend(bindings::claims(&look, cluster));
        findings.extend(conditions::findings(&look, cluster));
        findings.extend(consumers::findings(&look, cluster));
        findings.extend(leftovers::findings(&look, cluster));
    }
    findings.extend(installation::unread(&look));
    look.end().await;
    findings.sort_by(|a, b| a.severity.cmp(&b.severity).then_with(|| a.object.cmp(&b.object)));
    let unwell = findings.iter().any(|finding| finding.severity != Severity::Info);
    match format {
        Format::Text => println!("{}", finding::text(&findings, look.clusters.len())),
        Format::Json | Format::Yaml => {
            println!("{}", json!({ "findings": findings, "workspaces": look.clusters.len() }));
        }
    }
    Ok(match (answered, unwell) {
        (false, _) => Verdict::Unseen,
        (true, true) => Verdict::Unwell,
        (true, false) => Verdict::Well,
    })
}

/// Looks, and prints which logical clusters are served, and which ought to be.
pub async fn workspaces(config: Config, format: Format) -> Result<Verdict, Error> {
    let look = Look::at(config).await?;
    let rows = workspaces::rows(&look, Timestamp::now());
    look.end().await;
    let document = json!({ "workspaces": rows, "notReady": look.not_ready });
    let text = match format {
        Format::Text => workspaces::table(&rows),
        Format::Json => document.to_string(),
        Format::Yaml => serde_saphyr::to_string(&document).map_err(Error::Yaml)?,
    };
    println!("{}", text.trim_end());
    for reason in &look.not_ready {
        eprintln!("not all is shown: {}", finding::line(reason));
    }
    Ok(if look.not_ready.is_empty() { Verdict::Well } else { Verdict::Unwell })
}
