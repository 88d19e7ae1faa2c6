//! TLS and passwords of Redis, and configurations that are refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use kube_bind_backend::http::sessions::{
    Redis, RedisConfig, RedisConfigError, RedisTls, StoreError,
};

use super::server::Server;
use super::{Hands, redis, suite};

const PASSWORD: &str = "correct horse";

/// Runs openssl in a directory.
fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|err| panic!("this test needs openssl: {err}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A CA, a certificate of it for 127.0.0.1, and a CA that has nothing to do with it.
fn certificates(dir: &Path) {
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for ca in ["ca", "foreign"] {
        openssl(
            dir,
            &format!("req -x509 {curve} -days 2 -subj /CN={ca} -keyout {ca}.key -out {ca}.pem"),
        );
    }
    openssl(dir, &format!("req {curve} -subj /CN=redis -keyout server.key -out server.csr"));
    fs::write(dir.join("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
    );
}

/// A server that speaks TLS alone and wants a password.
async fn server() -> Server {
    Server::start(|dir, port| {
        if !dir.join("server.pem").exists() {
            certificates(dir);
        }
        let arguments = format!(
            "--port 0 --tls-port {port} --tls-cert-file server.pem --tls-key-file server.key \
             --tls-ca-cert-file ca.pem --tls-auth-clients no"
        );
        let mut arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        arguments.extend(["--requirepass".to_owned(), PASSWORD.to_owned()]);
        let config = RedisConfig {
            password: Some(PASSWORD.into()),
            tls: Some(RedisTls { ca: Some(fs::read(dir.join("ca.pem")).unwrap()) }),
            ..RedisConfig::new(format!("127.0.0.1:{port}"))
        };
        (arguments, config)
    })
    .await
}

#[tokio::test]
async fn the_store_in_redis_over_tls_with_a_password_does_what_a_store_does() {
    let server = server().await;
    let hands = Hands::new();
    suite::all(&hands, || redis(server.config(), &hands)).await;
    let named = RedisConfig { username: Some("default".to_owned()), ..server.config() };
    assert_eq!(redis(named, &hands).check().await, Ok(()));
}

async fn problem(config: RedisConfig) -> String {
    match redis(config, &Hands::new()).check().await {
        Err(StoreError::Unavailable { problem }) => problem,
        other => panic!("it is {other:?}"),
    }
}

#[tokio::test]
async fn a_redis_that_is_not_the_right_one_is_refused_and_no_password_is_said() {
    let server = server().await;
    let foreign = RedisTls { ca: Some(fs::read(server.dir.join("foreign.pem")).unwrap()) };
    let by_name = format!("localhost:{}", server.port);
    for (config, expected) in [
        (RedisConfig { tls: Some(foreign), ..server.config() }, "invalid peer certificate"),
        (
            RedisConfig { tls: Some(RedisTls::default()), ..server.config() },
            "invalid peer certificate",
        ),
        (RedisConfig { address: by_name, ..server.config() }, "invalid peer certificate"),
        (
            RedisConfig { password: Some("wrong horse".into()), ..server.config() },
            "authentication failed",
        ),
        (RedisConfig { password: None, ..server.config() }, "NOAUTH"),
        (RedisConfig { tls: None, ..server.config() }, ""),
    ] {
        let said = problem(config).await;
        assert!(said.contains(expected) && !said.contains("horse"), "{said}");
    }
}

#[test]
fn a_configuration_that_can_never_work_is_refused() {
    let refused = |config| Redis::new(config, Hands::new().clock()).unwrap_err();
    let address = |text: &str| RedisConfigError::Address(text.to_owned());
    for text in ["", "redis", "redis:", "redis:x", "redis:70000", ":6379", "a b:1", "redis://r:1"] {
        assert_eq!(refused(RedisConfig::new(text.to_owned())), address(text), "{text}");
    }
    let with_password = RedisConfig::new("me:correct horse@redis:6379".to_owned());
    let said = refused(with_password).to_string();
    assert!(!said.contains("horse"), "{said}");
    for (pem, expected) in [
        ("", "it has no certificate"),
        ("hello", "it has no certificate"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", ""),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
    ] {
        let tls = Some(RedisTls { ca: Some(pem.as_bytes().to_vec()) });
        let config = RedisConfig { tls, ..RedisConfig::new("redis:6379".to_owned()) };
        let RedisConfigError::Ca(said) = refused(config) else { panic!("{pem}") };
        assert!(said.contains(expected), "{pem}: {said}");
    }
    for text in ["redis:6379", "127.0.0.1:6379", "[::1]:6379", "redis.example.com:6379"] {
        let tls = Some(RedisTls::default());
        let config = RedisConfig { tls, ..RedisConfig::new(text.to_owned()) };
        assert!(Redis::new(config, Hands::new().clock()).is_ok(), "{text}");
    }
}
