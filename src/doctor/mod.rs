//! `backend doctor` and `backend workspaces`: what an installation looks like, and what is wrong with it.
//!
//! Both look with the flags of a run, at what a run would see: the same watches, and for what a run does not watch a
//! list. They write nothing, and need no more rights than the backend. Findings come from pure functions; each has a
//! stable reason, which docs/doctor.md explains.

mod conditions;
mod finding;
mod installation;
mod leftovers;
mod look;
mod services;
mod workspaces;

use serde_json::json;

pub use self::finding::{Finding, Object, Severity};
pub use self::look::Error;
use self::look::Look;
use crate::cli::{Config, Format};

/// Whether everything is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that anybody has to do.
    Well,
    /// Somebody has to act.
    Unwell,
}

/// Looks, and prints what is wrong.
pub async fn run(config: Config, format: Format) -> Result<Verdict, Error> {
    let look = Look::at(config).await?;
    let mut findings = installation::findings(&look).await?;
    for cluster in &look.clusters {
        findings.extend(conditions::findings(&look, cluster));
        findings.extend(services::findings(&look, cluster));
        findings.extend(leftovers::findings(&look, cluster));
    }
    look.end().await;
    findings.sort_by(|a, b| a.severity.cmp(&b.severity).then_with(|| a.object.cmp(&b.object)));
    let unwell = findings.iter().any(|finding| finding.severity != Severity::Info);
    match format {
        Format::Text => println!("{}", finding::text(&findings, look.clusters.len())),
        Format::Json | Format::Yaml => {
            println!("{}", json!({ "findings": findings, "workspaces": look.clusters.len() }));
        }
    }
    Ok(if unwell { Verdict::Unwell } else { Verdict::Well })
}

/// Looks, and prints which logical clusters are served.
pub async fn workspaces(config: Config, format: Format) -> Result<(), Error> {
    let look = Look::at(config).await?;
    let rows: Vec<workspaces::Row> =
        look.clusters.iter().map(|cluster| workspaces::workspace(&look.kinds, cluster)).collect();
    look.end().await;
    let text = match format {
        Format::Text => workspaces::table(&rows),
        Format::Json => json!({ "workspaces": rows }).to_string(),
        Format::Yaml => {
            serde_saphyr::to_string(&json!({ "workspaces": rows })).map_err(Error::Yaml)?
        }
    };
    println!("{}", text.trim_end());
    for reason in &look.not_ready {
        eprintln!("not all is shown: {reason}");
    }
    Ok(())
}
