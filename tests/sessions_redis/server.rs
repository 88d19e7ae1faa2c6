//! A real `redis-server` for one test.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kube_bind_backend::http::sessions::{Redis, RedisConfig, Store};

use super::Hands;

/// How long a server may take to start. One that is there takes some milliseconds.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A server, and the directory that it works in. Both go with the test.
pub(crate) struct Server {
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    arguments: Vec<String>,
    config: RedisConfig,
    child: Option<Child>,
}

impl Server {
    /// Without TLS and password.
    pub(crate) async fn plain() -> Self {
        Self::start(|_, port| {
            let arguments = vec!["--port".to_owned(), port.to_string()];
            (arguments, RedisConfig::new(format!("127.0.0.1:{port}")))
        })
        .await
    }

    /// With these arguments; gives clients this configuration.
    pub(crate) async fn start(prepare: impl Fn(&Path, u16) -> (Vec<String>, RedisConfig)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // Another process may take the port before the server does: then there is another port.
        for _ in 0..5 {
            let port = free_port();
            let (arguments, config) = prepare(&dir, port);
            let mut server = Self { dir: dir.clone(), port, arguments, config, child: None };
            if server.run().await.is_ok() {
                return server;
            }
        }
        panic!("redis-server does not start; it says:\n{}", log(&dir));
    }

    /// How a client reaches it.
    pub(crate) fn config(&self) -> RedisConfig {
        self.config.clone()
    }

    /// Starts it (again) on its port, and waits until it answers.
    pub(crate) async fn run(&mut self) -> Result<(), ()> {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = Command::new(binary())
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(&self.dir)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let store = Store::Redis(Redis::new(self.config(), Hands::new().clock()).unwrap());
        let give_up = Instant::now() + START_WITHIN;
        loop {
            if store.check().await.is_ok() {
                return Ok(());
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            if ended || Instant::now() > give_up {
                self.kill();
                return Err(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it: connections break, and what it knew is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lets it stand still (`STOP`) and go on (`CONT`).
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let status =
            Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.dir).unwrap();
        }
    }
}

/// The server's program. A machine without it has not tested the store: that is a failure.
fn binary() -> PathBuf {
    if let Some(named) = env::var_os("REDIS_SERVER") {
        let named = PathBuf::from(named);
        assert!(
            named.is_file(),
            "REDIS_SERVER={} is not a file; scripts/tools says how to get a redis-server",
            named.display()
        );
        return named;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/bin".into()])
        .map(|dir| dir.join("redis-server"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "there is no redis-server for this test, neither in $REDIS_SERVER nor on the PATH; \
                 scripts/tools says how to get one"
            )
        })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}
