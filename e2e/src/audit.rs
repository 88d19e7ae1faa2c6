//! Counts API requests from an audit log in JSON lines: the exact measure of what a client costs the server.
//!
//! kcp writes one event with the client's own user agent per request, through a virtual workspace too; what the virtual
//! workspace then asks the shard appears under `…/apiexport-virtual-workspace`. The annotation `kcp.io/cluster` names
//! the logical cluster, and is missing on wildcard requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

/// The user agent of the backend starts with this.
pub const BACKEND: &str = "kube-bind-backend/";

/// The audit policy: each request once when it ends, and each watch when it starts.
pub const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

/// How often [`Audit::quiet`] looks.
const POLL: Duration = Duration::from_millis(200);

/// A server's audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    path: PathBuf,
}

/// A place in the log: what comes after it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// The beginning of the log.
    pub const START: Self = Self(0);
}

/// Which requests are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Start of the user agent.
    pub user_agent: String,
    /// Only this logical cluster; [`WILDCARD`] for requests to all at once.
    pub cluster: Option<String>,
}

/// The cluster of a request that names none: a wildcard in kcp, every request in Kubernetes.
pub const WILDCARD: &str = "*";

/// One finished request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: String,
    /// `<resource>.<group>` or `<resource>.<group>/<subresource>`, `core` for the core group; the path of anything else.
    pub resource: String,
    /// Logical cluster, or [`WILDCARD`].
    pub cluster: String,
    /// `<namespace>/<name>` as far as given.
    pub object: String,
    /// HTTP status code.
    pub code: u16,
    /// User agent.
    pub user_agent: String,
}

impl Filter {
    /// Everything that the backend under test does.
    #[must_use]
    pub fn backend() -> Self {
        Self::agent(BACKEND)
    }

    /// Requests of a user agent.
    #[must_use]
    pub fn agent(prefix: &str) -> Self {
        Self { user_agent: prefix.to_owned(), cluster: None }
    }

    /// Only those to one logical cluster.
    #[must_use]
    pub fn cluster(mut self, cluster: &str) -> Self {
        self.cluster = Some(cluster.to_owned());
        self
    }

    fn admits(&self, request: &Request) -> bool {
        request.user_agent.starts_with(&self.user_agent)
            && self.cluster.as_ref().is_none_or(|cluster| *cluster == request.cluster)
    }
}

impl Request {
    /// Whether the server's state could change by it. Access reviews are created, but change nothing.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
            && !self.resource.contains("reviews.authorization.k8s.io")
    }
}

impl Audit {
    /// The log at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The present end of the log.
    pub fn mark(&self) -> Result<Mark> {
        let file = self.open()?;
        Ok(Mark(file.metadata()?.len()))
    }

    /// Requests that ended after `mark`, but no watches.
    pub fn requests(&self, mark: Mark, filter: &Filter) -> Result<Vec<Request>> {
        Ok(self.requests_until(mark, filter)?.0)
    }

    /// The same, and how far the log was read.
    fn requests_until(&self, mark: Mark, filter: &Filter) -> Result<(Vec<Request>, Mark)> {
        let (events, end) = self.events(mark, "ResponseComplete", filter)?;
        let mut requests: Vec<Request> = events.into_iter().map(Request::from).collect();
        requests.retain(|request| request.verb != "watch" && filter.admits(request));
        Ok((requests, end))
    }

    /// Paths and queries of the lists that ended after `mark`, as the server got them.
    pub fn lists(&self, mark: Mark, filter: &Filter) -> Result<Vec<String>> {
        let events = self.events(mark, "ResponseComplete", filter)?.0.into_iter();
        let lists = events.filter(|event| event.verb == "list");
        let pairs = lists.map(|event| (event.request_uri.clone(), Request::from(event)));
        Ok(pairs.filter(|(_, request)| filter.admits(request)).map(|(uri, _)| uri).collect())
    }

    /// Watches that were opened after `mark`.
    pub fn watches(&self, mark: Mark, filter: &Filter) -> Result<Vec<Request>> {
        let events = self.events(mark, "ResponseStarted", filter)?.0.into_iter().map(Request::from);
        Ok(events.filter(|r| r.verb == "watch" && filter.admits(r)).collect())
    }

    /// Waits until no request but `ignored` ones has ended for `window`, and returns those from `mark` on.
    ///
    /// `ignored` is for requests that never stop, such as lease renewals.
    pub async fn quiet(
        &self,
        mark: Mark,
        filter: &Filter,
        window: Duration,
        deadline: Duration,
        ignored: impl Fn(&Request) -> bool,
    ) -> Result<Vec<Request>> {
        let end = Instant::now() + deadline;
        let mut since = Instant::now();
        let (mut requests, mut mark) = (Vec::new(), mark);
        loop {
            let (mut more, read) = self.requests_until(mark, filter)?;
            mark = read;
            more.retain(|request| !ignored(request));
            if !more.is_empty() {
                since = Instant::now();
                requests.extend(more);
            }
            if since.elapsed() >= window {
                return Ok(requests);
            }
            if Instant::now() > end {
                let newest = &requests[requests.len().saturating_sub(20)..];
                bail!(
                    "waited {deadline:?} for {window:?} without requests of {}; newest:\n{}",
                    filter.user_agent,
                    listing(newest)
                );
            }
            sleep(POLL).await;
        }
    }

    fn open(&self) -> Result<File> {
        File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))
    }

    /// Events that may be of the filter's user agent, and the end of the last whole line. A log may be large, so that only
    /// these lines are read as JSON.
    fn events(&self, mark: Mark, stage: &str, filter: &Filter) -> Result<(Vec<Event>, Mark)> {
        let mut file = self.open()?;
        file.seek(SeekFrom::Start(mark.0))?;
        let agent = format!("\"userAgent\":\"{}", filter.user_agent);
        let (mut reader, mut end) = (BufReader::with_capacity(1 << 20, file), mark.0);
        let (mut events, mut line) = (Vec::new(), String::new());
        loop {
            line.clear();
            let read = reader.read_line(&mut line).context("reading the audit log")?;
            // The last line may be half written.
            if !line.ends_with('\n') {
                return Ok((events, Mark(end)));
            }
            end += u64::try_from(read)?;
            if !line.contains(&agent) || !line.contains(stage) {
                continue;
            }
            let event: Event = serde_json::from_str(&line).context("an audit event")?;
            if event.stage == stage {
                events.push(event);
            }
        }
    }
}

/// How many requests there are per verb and resource.
#[must_use]
pub fn count(requests: &[Request]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry((request.verb.clone(), request.resource.clone())).or_default() += 1;
    }
    counts
}

/// The requests, one a line, for a message.
#[must_use]
pub fn listing(requests: &[Request]) -> String {
    requests.iter().fold(String::new(), |mut text, r| {
        let _ =
            writeln!(text, "  {} {} {} {} -> {}", r.verb, r.resource, r.cluster, r.object, r.code);
        text
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl From<Event> for Request {
    fn from(event: Event) -> Self {
        let path = event.request_uri.split('?').next().unwrap_or_default().to_owned();
        let (resource, object) = match event.object_ref {
            None => (path, String::new()),
            Some(o) => {
                let group = if o.api_group.is_empty() { "core" } else { &o.api_group };
                let slash = if o.subresource.is_empty() { "" } else { "/" };
                let resource = format!("{}.{group}{slash}{}", o.resource, o.subresource);
                (resource, format!("{}/{}", o.namespace, o.name))
            }
        };
        let cluster = event.annotations.get("kcp.io/cluster").filter(|cluster| !cluster.is_empty());
        Self {
            verb: event.verb,
            resource,
            cluster: cluster.cloned().unwrap_or_else(|| WILDCARD.to_owned()),
            object,
            code: event.response_status.map_or(0, |status| status.code),
            user_agent: event.user_agent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: &str = r#"{"stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/configmaps","verb":"create","userAgent":"kube-bind-backend/0.1.0","objectRef":{"resource":"configmaps","namespace":"default","name":"x","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},"annotations":{"kcp.io/cluster":"vxqz"}}"#;
    const WILD: &str = r#"{"stage":"ResponseComplete","requestURI":"/apis/rbac.authorization.k8s.io/v1/roles?limit=1","verb":"list","userAgent":"kube-bind-backend/0.1.0","objectRef":{"resource":"roles","apiGroup":"rbac.authorization.k8s.io"},"responseStatus":{"code":200}}"#;

    fn log(name: &str, text: &str) -> Audit {
        let path = std::env::temp_dir().join(format!("audit-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Audit::new(&path)
    }

    fn request(verb: &str, resource: &str, cluster: &str, object: &str, code: u16) -> Request {
        let user_agent = "kube-bind-backend/0.1.0".to_owned();
        let [verb, resource, cluster, object] =
            [verb, resource, cluster, object].map(str::to_owned);
        Request { verb, resource, cluster, object, code, user_agent }
    }

    #[test]
    fn whole_lines_after_the_mark_become_requests() {
        let audit = log("lines", &format!("{CREATE}\n{WILD}\n{{\"stage\":\"Resp"));
        let requests = audit.requests(Mark(0), &Filter::backend()).unwrap();
        assert_eq!(
            requests,
            [
                request("create", "configmaps.core", "vxqz", "default/x", 201),
                request("list", "roles.rbac.authorization.k8s.io", WILDCARD, "/", 200),
            ]
        );
        let after = Mark(u64::try_from(CREATE.len()).unwrap() + 1);
        let one = Filter::backend().cluster("vxqz");
        assert_eq!(audit.requests(after, &one).unwrap(), []);
        assert_eq!(audit.requests(Mark(0), &Filter::agent("konnector")).unwrap(), []);
        assert_eq!(
            audit.lists(Mark(0), &Filter::backend()).unwrap(),
            ["/apis/rbac.authorization.k8s.io/v1/roles?limit=1"]
        );
    }

    #[test]
    fn access_reviews_are_no_writes() {
        let review = "subjectaccessreviews.authorization.k8s.io";
        assert!(!request("create", review, "vxqz", "/", 201).is_write());
        assert!(request("create", "secrets.core", "vxqz", "a/b", 201).is_write());
    }
}
