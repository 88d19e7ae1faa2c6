//! The backend's own credential: the token of its service account, in a kubeconfig file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::api::keys;
use crate::consumer::kubeconfig::Kubeconfig;
use crate::init::connection::{Admin, POLL, SETTLE, Workspace};
use crate::init::error::Error;
use crate::init::objects::{self, Kind, Outcome, Target};

/// Token Secret of the backend's service account.
const TOKEN_SECRET: &str = "backend-token";

/// Makes the token Secret and waits until kcp has filled it.
pub(super) async fn ensure_token(workspace: &Workspace) -> Result<SecretString, Error> {
    objects::ensure(workspace, &token_secret()).await?;
    let target = Target::new(Kind::Secret, Some(keys::KUBE_BIND_NAMESPACE), TOKEN_SECRET);
    let started = Instant::now();
    while started.elapsed() < SETTLE {
        let secret = objects::get(workspace, &target).await?;
        if let Some(token) = secret.as_ref().and_then(token) {
            return Ok(token);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::Timeout {
        what: target.label,
        workspace: workspace.path.clone(),
        state: "filled with a token",
        waited: SETTLE,
        next: "see the log of kcp for its service account token controller, then run init again",
    })
}

fn token_secret() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": TOKEN_SECRET,
            "namespace": keys::KUBE_BIND_NAMESPACE,
            "labels": {keys::LABEL_MANAGED: keys::TRUE},
            "annotations": {keys::SERVICE_ACCOUNT_NAME: keys::BACKEND_SERVICE_ACCOUNT},
        },
        "type": keys::SERVICE_ACCOUNT_TOKEN_TYPE,
    })
}

fn token(secret: &Value) -> Option<SecretString> {
    let bytes = STANDARD.decode(secret["data"][keys::TOKEN_KEY].as_str()?).ok()?;
    let token = String::from_utf8(bytes).ok()?;
    (!token.is_empty()).then(|| SecretString::from(token))
}

/// The kubeconfig of the backend: same shape as that of a consumer, on the export workspace.
pub(super) fn kubeconfig(admin: &Admin, workspace: &Workspace, token: SecretString) -> Kubeconfig {
    Kubeconfig {
        server: workspace.server.clone(),
        ca_data: Some(admin.ca.clone()),
        tls_server_name: admin.tls_server_name(),
        namespace: keys::KUBE_BIND_NAMESPACE.to_owned(),
        token,
    }
}

/// Finds out before anything is created whether the file can be written at the end.
pub(super) fn check_output(path: &Path) -> Result<(), Error> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let metadata = fs::metadata(directory.unwrap_or(Path::new("."))).and_then(|metadata| {
        if metadata.is_dir() { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
    });
    metadata.map_err(|source| Error::file("write", path, source))?;
    existing(path).map(|_| ())
}

/// The kubeconfig that the file holds, if there is a file.
fn existing(path: &Path) -> Result<Option<Kubeconfig>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
        Ok(bytes) => {
            let known = Kubeconfig::parse(&bytes).ok().filter(is_of_backend);
            known.map(Some).ok_or_else(|| Error::ForeignFile(path.to_owned()))
        }
    }
}

/// Whether a file is one that init may write again.
pub(crate) fn is_written_by_init(path: &Path) -> bool {
    existing(path).is_ok_and(|found| found.is_some())
}

/// Whether its token is one of the backend's service account. Others have kubeconfigs of this shape, too, with tokens that
/// nothing brings back.
fn is_of_backend(kubeconfig: &Kubeconfig) -> bool {
    let payload = kubeconfig.token.expose_secret().split('.').nth(1);
    let bytes = payload.and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims: Option<Value> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let (namespace, account) = (keys::KUBE_BIND_NAMESPACE, keys::BACKEND_SERVICE_ACCOUNT);
    let subject = format!("{}{namespace}:{account}", keys::SERVICE_ACCOUNT_USER);
    claims.is_some_and(|claims| claims["sub"] == subject)
}

/// Writes the file for its owner only, and in one step: a running backend never reads half of it.
/// Leaves it alone where it says the same already, and refuses to overwrite what init did not
/// write.
pub(super) fn write(path: &Path, kubeconfig: &Kubeconfig) -> Result<Outcome, Error> {
    let outcome = match existing(path)? {
        None => Outcome::Created,
        Some(found) => {
            let metadata = fs::metadata(path);
            let metadata = metadata.map_err(|error| Error::file("read", path, error))?;
            let private = metadata.permissions().mode() & 0o777 == 0o600;
            if private && found.same_access(kubeconfig) {
                return Ok(Outcome::Unchanged);
            }
            Outcome::Updated
        }
    };
    let yaml = kubeconfig.to_yaml();
    replace_file(path, yaml.expose_secret().as_bytes())
        .map_err(|error| Error::file("write", path, error))?;
    Ok(outcome)
}

fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary: PathBuf = path.with_file_name(name);
    let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may hold a token. Whether it was made at all does not matter.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One with a token of this subject, which `id` tells from others.
    fn with_token(subject: &str, id: &str) -> Kubeconfig {
        let claims = json!({"sub": subject, "jti": id}).to_string();
        let token = format!("head.{}.signature", URL_SAFE_NO_PAD.encode(claims));
        Kubeconfig {
            server: "https://h/clusters/root:kube-bind".to_owned(),
            ca_data: Some(b"ca".to_vec()),
            tls_server_name: None,
            namespace: "kube-bind".to_owned(),
            token: SecretString::from(token),
        }
    }

    fn kubeconfig(id: &str) -> Kubeconfig {
        with_token("system:serviceaccount:kube-bind:backend", id)
    }

    /// A directory of its own, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("init-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_file_is_written_once_for_its_owner_and_again_only_when_it_differs() {
        let directory = Directory::new("write");
        let path = directory.0.join("backend.kubeconfig");
        assert_eq!(write(&path, &kubeconfig("a")).unwrap(), Outcome::Created);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write(&path, &kubeconfig("a")).unwrap(), Outcome::Unchanged);
        assert_eq!(write(&path, &kubeconfig("b")).unwrap(), Outcome::Updated);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(write(&path, &kubeconfig("b")).unwrap(), Outcome::Updated);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let expected = kubeconfig("b").to_yaml();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected.expose_secret());
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_init_did_not_write_is_left_alone() {
        let directory = Directory::new("foreign");
        let path = directory.0.join("config");
        fs::write(&path, "apiVersion: v1\nkind: Config\nclusters: []\n").unwrap();
        assert!(matches!(check_output(&path), Err(Error::ForeignFile(_))));
        assert!(matches!(write(&path, &kubeconfig("a")), Err(Error::ForeignFile(_))));
        assert!(!is_written_by_init(&path));
    }

    #[test]
    fn the_token_of_somebody_else_is_never_overwritten() {
        let directory = Directory::new("users");
        let path = directory.0.join("config");
        let users = with_token("https://issuer#ann", "a").to_yaml();
        fs::write(&path, users.expose_secret()).unwrap();
        assert!(matches!(check_output(&path), Err(Error::ForeignFile(_))));
        assert!(matches!(write(&path, &kubeconfig("a")), Err(Error::ForeignFile(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), users.expose_secret());
        fs::write(&path, kubeconfig("a").to_yaml().expose_secret()).unwrap();
        assert!(is_written_by_init(&path));
    }

    #[test]
    fn a_place_that_does_not_exist_is_noticed_at_the_start() {
        let directory = Directory::new("missing");
        assert!(check_output(Path::new("backend.kubeconfig")).is_ok());
        let path = directory.0.join("no/backend.kubeconfig");
        assert!(matches!(check_output(&path), Err(Error::File { .. })));
    }

    #[test]
    fn a_token_is_taken_only_when_it_is_there() {
        assert!(token(&json!({})).is_none());
        assert!(token(&json!({"data": {"token": ""}})).is_none());
        let filled = token(&json!({"data": {"token": "eA=="}})).unwrap();
        assert_eq!(filled.expose_secret(), "x");
    }
}
