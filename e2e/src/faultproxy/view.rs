//! What is seen through a proxy where that is not what there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};

/// In the paths of endpoint slices.
pub(super) const SLICES: &str = "/apiexportendpointslices";
/// In the paths of lists and watches of all logical clusters.
pub const WILDCARD: &str = "/clusters/*/";

/// What a client gets.
pub(super) type Seen = UnsyncBoxBody<Bytes, kube::Error>;

/// The difference to what there is.
#[derive(Debug, Default)]
pub(super) struct View {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    endpoints: Option<Value>,
    hidden: BTreeMap<String, Hidden>,
}

/// What is not seen of a logical cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hidden {
    /// Anything.
    All,
    /// Its objects in the list and watch of this path.
    In(String),
}

impl Hidden {
    fn is_in(&self, path: &str) -> bool {
        match self {
            Self::All => path.contains(WILDCARD),
            Self::In(hidden) => hidden == path,
        }
    }
}

impl View {
    pub(super) fn publish(&self, urls: &[String]) {
        let endpoints = urls.iter().map(|url| json!({"url": url})).collect();
        self.with(|inner| inner.endpoints = Some(endpoints));
    }

    /// Hides this of a logical cluster; what was hidden before comes back.
    pub(super) fn hide(&self, cluster: &str, hidden: Option<Hidden>) -> Option<Hidden> {
        self.with(|inner| match hidden {
            Some(hidden) => inner.hidden.insert(cluster.to_owned(), hidden),
            None => inner.hidden.remove(cluster),
        })
    }

    /// Whether a request is one to a logical cluster that is hidden.
    pub(super) fn hides(&self, path: &str) -> bool {
        self.with(|inner| {
            inner.hidden.iter().any(|(cluster, hidden)| {
                *hidden == Hidden::All && path.contains(&format!("/clusters/{cluster}/"))
            })
        })
    }

    /// Whether the answers to requests of this path have to go through [`View::body`].
    pub(super) fn changes(&self, path: &str) -> bool {
        self.with(|inner| {
            (inner.endpoints.is_some() && path.contains(SLICES))
                || inner.hidden.values().any(|hidden| hidden.is_in(path))
        })
    }

    /// An answer in JSON as it is seen: an object, a list, or a watch, which has an event per line.
    pub(super) fn body<B>(self: Arc<Self>, path: String, body: B) -> Seen
    where
        B: Body<Data = Bytes, Error = kube::Error> + Send + 'static,
    {
        let end = stream::once(async { None });
        let chunks = body.into_data_stream().map(Some).chain(end);
        let lines = chunks.scan(Vec::new(), |rest: &mut Vec<u8>, chunk| {
            let whole = match chunk {
                Some(Ok(bytes)) => {
                    rest.extend_from_slice(&bytes);
                    let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    Ok(rest.drain(..end).collect::<Vec<u8>>())
                }
                Some(Err(error)) => Err(error),
                None => Ok(std::mem::take(rest)),
            };
            std::future::ready(Some(whole))
        });
        let seen = lines.map(move |lines| {
            let lines = lines?;
            let lines = lines.split_inclusive(|byte| *byte == b'\n');
            let seen: Vec<u8> = lines.flat_map(|line| self.line(&path, line)).collect();
            Ok(Frame::data(Bytes::from(seen)))
        });
        StreamBody::new(seen).boxed_unsync()
    }

    /// A line as it is seen; nothing where it is not.
    fn line(&self, path: &str, line: &[u8]) -> Vec<u8> {
        let Ok(mut value) = serde_json::from_slice::<Value>(line) else { return line.to_vec() };
        let seen = self.with(|inner| {
            if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
                items.retain_mut(|item| inner.is_seen(path, item));
                return true;
            }
            match value.get_mut("object") {
                Some(object) => inner.is_seen(path, object),
                None => inner.is_seen(path, &mut value),
            }
        });
        if !seen {
            return Vec::new();
        }
        let mut text = value.to_string().into_bytes();
        text.push(b'\n');
        text
    }

    fn with<T>(&self, with: impl FnOnce(&mut Inner) -> T) -> T {
        with(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// Whether an object is seen; changes it to what is seen of it.
    fn is_seen(&self, path: &str, object: &mut Value) -> bool {
        if let Some(endpoints) = self.endpoints.as_ref().filter(|_| path.contains(SLICES))
            && object["metadata"]["name"].is_string()
        {
            object["status"]["endpoints"] = endpoints.clone();
        }
        let cluster = object["metadata"]["annotations"]["kcp.io/cluster"].as_str();
        let hidden = cluster.and_then(|cluster| self.hidden.get(cluster));
        !hidden.is_some_and(|hidden| hidden.is_in(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(cluster: &str) -> Value {
        json!({"metadata": {"name": "x", "annotations": {"kcp.io/cluster": cluster}}})
    }

    /// What is seen of an answer that comes in these pieces.
    async fn seen(view: &Arc<View>, path: &str, pieces: Vec<Vec<u8>>) -> String {
        let pieces =
            pieces.into_iter().map(|piece| Ok::<_, kube::Error>(Frame::data(Bytes::from(piece))));
        let body = StreamBody::new(stream::iter(pieces));
        let seen = Arc::clone(view).body(path.to_owned(), body).collect().await.unwrap();
        String::from_utf8(seen.to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn objects_of_a_hidden_cluster_are_in_no_list_and_no_watch() {
        let view = Arc::new(View::default());
        let path = "/services/apiexport/e/x/clusters/*/api/v1/secrets";
        assert!(!view.changes(path));
        view.hide("b", Some(Hidden::All));
        assert!(view.changes(path) && !view.changes("/clusters/a/api/v1/secrets"));
        assert!(view.hides("/clusters/b/api/v1/secrets") && !view.hides("/clusters/a/x"));

        let list = json!({"kind": "List", "items": [object("a"), object("b")]}).to_string();
        let (first, rest) = list.as_bytes().split_at(list.len() / 2);
        let expected = json!({"kind": "List", "items": [object("a")]});
        assert_eq!(
            seen(&view, path, vec![first.to_vec(), rest.to_vec()]).await,
            format!("{expected}\n")
        );

        let event = |cluster: &str| json!({"type": "ADDED", "object": object(cluster)});
        let text = format!("{}\n{}\n{}\n", event("b"), event("a"), event("b"));
        let pieces = text.as_bytes().chunks(7).map(<[u8]>::to_vec).collect();
        assert_eq!(seen(&view, path, pieces).await, format!("{}\n", event("a")));

        view.hide("b", Some(Hidden::In(path.to_owned())));
        assert_eq!(seen(&view, path, vec![event("b").to_string().into_bytes()]).await, "");
        let other = "/services/apiexport/e/x/clusters/*/api/v1/namespaces";
        assert!(view.changes(path) && !view.changes(other) && !view.hides("/clusters/b/x"));

        view.hide("b", None);
        assert!(!view.changes(path) && !view.hides("/clusters/b/x"));
    }

    #[tokio::test]
    async fn a_slice_has_the_endpoints_that_were_published() {
        let view = Arc::new(View::default());
        let path = "/clusters/root/apis/apis.kcp.io/v1alpha1/apiexportendpointslices";
        let slice = |urls: &[&str]| {
            let endpoints: Vec<_> = urls.iter().map(|url| json!({"url": url})).collect();
            json!({"metadata": {"name": "e"}, "status": {"endpoints": endpoints}})
        };
        view.publish(&["a".to_owned(), "b".to_owned()]);
        let event = |slice| json!({"type": "MODIFIED", "object": slice}).to_string() + "\n";
        let through = seen(&view, path, vec![event(slice(&["c"])).into_bytes()]).await;
        assert_eq!(through, event(slice(&["a", "b"])));
        view.publish(&[]);
        let through = seen(&view, path, vec![slice(&["c"]).to_string().into_bytes()]).await;
        assert_eq!(through, format!("{}\n", slice(&[])));
        // What names no object, such as an error, stays as it is.
        let error = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410}});
        let through = seen(&view, path, vec![error.to_string().into_bytes()]).await;
        assert_eq!(through, format!("{error}\n"));
    }
}
