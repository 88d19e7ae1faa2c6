//! Step 4: the konnector's watches in the contract namespace, kept open for the whole test; also those on exported and
//! claimed resources, and an admin's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ApiResource, DynamicObject, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Consumer, Key};
use crate::object::{self, core, kube_bind};
use crate::wait::{SOON, eventually};

/// Pause after a watch that ended early.
const AGAIN: Duration = Duration::from_millis(500);

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// New, or there when the watch began.
    Added,
    /// Changed.
    Modified,
    /// Gone.
    Deleted,
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub struct Event {
    /// Kind of the object.
    pub kind: String,
    /// What happened.
    pub change: Change,
    /// The object then.
    pub object: DynamicObject,
    /// When it arrived.
    pub at: Instant,
}

/// Open watches. Dropping it closes them.
#[derive(Debug)]
pub struct Watches {
    log: Arc<Log>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Log {
    events: Mutex<Vec<Event>>,
    failure: Mutex<Option<String>>,
    length: watch::Sender<usize>,
}

impl Consumer {
    /// Reads the contract namespace's Namespace, opens the four watches with `sendInitialEvents` as client-go 0.35
    /// does, waits for their initial events, and checks them against a LIST.
    pub async fn open_watches(&self) -> Result<Watches> {
        object::api(&self.client, &core("Namespace"), None)
            .get(&self.namespace)
            .await
            .context("reading the contract namespace")?;
        let own = Some(self.namespace.as_str());
        let kinds = [
            core("Secret"),
            kube_bind("ClusterBinding"),
            kube_bind("APIServiceExport"),
            kube_bind("APIServiceNamespace"),
        ];
        let wanted: Vec<_> = kinds.iter().map(|resource| (resource.clone(), own)).collect();
        let watches = Watches::open(&self.client, &wanted).await?;
        for resource in &kinds {
            let list = object::list(&object::api(&self.client, resource, own)).await;
            let list = list.with_context(|| format!("listing {}", resource.plural))?;
            let listed: BTreeSet<_> = list.into_iter().filter_map(|o| o.metadata.name).collect();
            let seen = watches.log.names(&resource.kind);
            ensure!(seen == listed, "{}: watched {seen:?}, listed {listed:?}", resource.plural);
        }
        Ok(watches)
    }
}

impl Watches {
    /// Opens watches with `sendInitialEvents`, each in a namespace or for the whole cluster, and waits for the initial
    /// events.
    pub async fn open(client: &Client, wanted: &[(ApiResource, Option<&str>)]) -> Result<Self> {
        let (length, _) = watch::channel(0);
        let log = Arc::new(Log { events: Mutex::default(), failure: Mutex::default(), length });
        let mut tasks = JoinSet::new();
        for (resource, namespace) in wanted {
            let api = object::api(client, resource, *namespace);
            let version = log.initial(&resource.kind, &api).await?;
            let (log, kind) = (Arc::clone(&log), resource.kind.clone());
            tasks.spawn(async move { log.follow(kind, api, version).await });
        }
        Ok(Self { log, _tasks: tasks })
    }

    /// How many events there are: a mark for [`Watches::since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        lock(&self.log.events).len()
    }

    /// Events of a kind after a mark.
    pub fn since(&self, mark: usize, kind: &str) -> Result<Vec<Event>> {
        if let Some(failure) = lock(&self.log.failure).clone() {
            bail!("a watch of the consumer failed: {failure}");
        }
        let events = lock(&self.log.events);
        Ok(events.iter().skip(mark).filter(|event| event.kind == kind).cloned().collect())
    }

    /// Waits until no event of a kind has come for `window`; gives those after `mark`. A loop of two writers never
    /// lets this return.
    pub async fn quiet(
        &self,
        mark: usize,
        kind: &str,
        window: Duration,
        deadline: Duration,
    ) -> Result<Vec<Event>> {
        let mut length = self.log.length.subscribe();
        let begin = Instant::now();
        loop {
            length.mark_unchanged();
            let events = self.since(mark, kind)?;
            let last = events.last().map_or(begin, |event| event.at.max(begin));
            let left = window.saturating_sub(last.elapsed());
            if left.is_zero() {
                return Ok(events);
            }
            if begin.elapsed() > deadline {
                bail!(
                    "{} events of {kind} within {deadline:?}, and no pause of {window:?}",
                    events.len()
                );
            }
            // Whichever comes first, the next event or the end of the window.
            let _ = timeout(left, length.changed()).await;
        }
    }

    /// Waits for an event of a kind after `mark` that fulfils `condition`.
    pub async fn wait_for(
        &self,
        mark: usize,
        kind: &str,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        eventually(what, deadline, async || {
            let events = self.since(mark, kind)?;
            let found = events.iter().find(|event| condition(event)).cloned();
            found.with_context(|| format!("{} other events of {kind}", events.len()))
        })
        .await
    }

    /// Waits for an event of one object: the answer of the server to a write.
    pub async fn wait_for_object(
        &self,
        mark: usize,
        kind: &str,
        key: &Key,
        what: &str,
        condition: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let what = format!("{what} of {kind} {}", key.name);
        self.wait_for(mark, kind, &what, SOON, |event| {
            let metadata = &event.object.metadata;
            metadata.name.as_ref() == Some(&key.name)
                && metadata.namespace == key.namespace
                && condition(event)
        })
        .await
    }
}

impl Log {
    /// Opens a watch with initial events and reads it up to the bookmark that ends them; gives its resourceVersion.
    ///
    /// Again after 429, as client-go does: kcp and Kubernetes give it while the watch cache of a kind fills.
    async fn initial(&self, kind: &str, api: &Api<DynamicObject>) -> Result<String> {
        let (events, version) = eventually(
            &format!("initial events of {kind}"),
            SOON,
            async || match initial_events(api).await {
                Err(kube::Error::Api(status)) if status.code == 429 => Err(status.message),
                outcome => Ok(outcome),
            },
        )
        .await?
        .with_context(|| format!("watching {kind}"))?;
        for event in events {
            self.record(kind, event)?;
        }
        Ok(version)
    }

    /// Watches on from a version, again and again. An error that is not the end of a connection is kept for the test.
    async fn follow(&self, kind: String, api: Api<DynamicObject>, mut version: String) {
        loop {
            let opened = api.watch(&WatchParams::default(), &version).await;
            let mut stream = match opened {
                Ok(stream) => stream.boxed(),
                Err(kube::Error::Api(status)) => return self.fail(&format!("{kind}: {status}")),
                // The server is being restarted, perhaps.
                Err(_) => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            while let Some(Ok(event)) = stream.next().await {
                match self.record(&kind, event) {
                    Ok(Some(newer)) => version = newer,
                    Ok(None) => {}
                    Err(error) => return self.fail(&format!("{kind}: {error:#}")),
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn record(&self, kind: &str, event: WatchEvent<DynamicObject>) -> Result<Option<String>> {
        let (change, object) = match event {
            WatchEvent::Added(object) => (Change::Added, object),
            WatchEvent::Modified(object) => (Change::Modified, object),
            WatchEvent::Deleted(object) => (Change::Deleted, object),
            WatchEvent::Bookmark(mark) => return Ok(Some(mark.metadata.resource_version)),
            WatchEvent::Error(status) => bail!("{status}"),
        };
        let version = object.metadata.resource_version.clone();
        let mut events = lock(&self.events);
        events.push(Event { kind: kind.to_owned(), change, object, at: Instant::now() });
        self.length.send_replace(events.len());
        Ok(version)
    }

    fn fail(&self, why: &str) {
        *lock(&self.failure) = Some(why.to_owned());
        self.length.send_modify(|_| {});
    }

    fn names(&self, kind: &str) -> BTreeSet<String> {
        let events = lock(&self.events);
        events
            .iter()
            .filter(|event| event.kind == kind)
            .filter_map(|event| event.object.metadata.name.clone())
            .collect()
    }
}

/// The events before the bookmark `k8s.io/initial-events-end`, and its resourceVersion.
async fn initial_events(
    api: &Api<DynamicObject>,
) -> kube::Result<(Vec<WatchEvent<DynamicObject>>, String)> {
    let params = WatchParams::default().initial_events();
    let mut stream = api.watch(&params, "").await?.boxed();
    let mut events = Vec::new();
    while let Some(event) = stream.try_next().await? {
        match event {
            WatchEvent::Bookmark(mark)
                if mark.metadata.annotations.contains_key("k8s.io/initial-events-end") =>
            {
                return Ok((events, mark.metadata.resource_version));
            }
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            event => events.push(event),
        }
    }
    Err(kube::Error::Service("the watch ended before its initial events were complete".into()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
