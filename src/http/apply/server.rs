//! The server in a consumer's kubeconfig, in the one spelling that is accepted.
//!
//! Libraries disagree about odd spellings: what one takes for a name another takes for an address
//! (`0x7f.1`, `2130706433`, `0177.0.0.1`). So whatever is not plainly an address or a name is
//! refused here, before anything is resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::ServerName;
use thiserror::Error;

use crate::consumer::names;

/// Longest server that is read.
const MAX_LENGTH: usize = 2048;

/// Why a server was refused. Does not quote it: it may carry credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the server of the kubeconfig is refused: {0}; it must be https://<host>[:<port>][/<path>] with \
     a plain host name or address"
)]
pub struct ServerError(&'static str);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name in lower case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// URL of a consumer's API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    host: Host,
    port: u16,
    /// Without a slash at its end; mostly empty.
    path: String,
}

impl ServerUrl {
    /// Parses a server.
    pub fn parse(given: &str) -> Result<Self, ServerError> {
        require(given.len() <= MAX_LENGTH, "it is too long")?;
        require(!given.starts_with("http://"), "it does not use https")?;
        let rest = given.strip_prefix("https://");
        let rest = rest.ok_or(ServerError("it does not begin with https://"))?;
        require(!rest.contains(['?', '#']), "it has a query or a fragment")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        require(!authority.contains('@'), "it carries credentials")?;
        let (host, port) = split_port(authority);
        Ok(Self { host: parse_host(host)?, port: parse_port(port)?, path: parse_path(path)? })
    }

    /// Where it is.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands before the path of each request, without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of the `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V4(ip)) => ip.to_string(),
            Host::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }

    /// What the certificate must be for.
    pub fn server_name(&self) -> Result<ServerName<'static>, ServerError> {
        match &self.host {
            Host::Address(ip) => Ok(ServerName::from(*ip)),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|_| ServerError("no certificate can be for its host")),
        }
    }
}

fn require(condition: bool, otherwise: &'static str) -> Result<(), ServerError> {
    if condition { Ok(()) } else { Err(ServerError(otherwise)) }
}

/// The host, with the brackets of an IPv6 address, and the port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let end_of_host = authority.find(']').map_or(0, |bracket| bracket + 1);
    let after = authority.get(end_of_host..).unwrap_or_default();
    match after.rsplit_once(':') {
        Some((rest_of_host, port)) => {
            let host = authority.get(..end_of_host + rest_of_host.len()).unwrap_or_default();
            (host, Some(port))
        }
        None => (authority, None),
    }
}

fn parse_host(host: &str) -> Result<Host, ServerError> {
    if let Some(bracketed) = host.strip_prefix('[') {
        let ip = bracketed.strip_suffix(']').and_then(|ip| ip.parse::<Ipv6Addr>().ok());
        let ip = ip.ok_or(ServerError("its host is not an IPv6 address"))?;
        return Ok(Host::Address(ip.into()));
    }
    // Four decimal numbers without leading zeros, nothing else.
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(ip.into()));
    }
    let name = host.to_ascii_lowercase();
    require(names::is_dns_subdomain(&name), "its host is not a DNS name")?;
    // Whatever ends like a number is an address to some library (WHATWG URL, "ends in a number").
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = |text: &str, hex: bool| {
        text.bytes().all(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() })
    };
    let is_number =
        number(last, false) || last.strip_prefix("0x").is_some_and(|digits| number(digits, true));
    require(!is_number, "its host is an unusual spelling of an address")?;
    Ok(Host::Name(name))
}

fn parse_port(port: Option<&str>) -> Result<u16, ServerError> {
    let Some(port) = port else { return Ok(443) };
    let plain = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| plain).ok_or(ServerError("its port is not a number up to 65535"))
}

fn parse_path(path: &str) -> Result<String, ServerError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:".contains(&b))
    };
    let mut segments = path.split('/').skip(1);
    require(segments.all(plain), "its path has unusual characters, or '.', '..' or '//'")?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(host: &str, port: u16, path: &str) -> ServerUrl {
        let host = match host.parse() {
            Ok(ip) => Host::Address(ip),
            Err(_) => Host::Name(host.to_owned()),
        };
        ServerUrl { host, port, path: path.to_owned() }
    }

    #[test]
    fn plain_servers_are_taken_apart() {
        for (given, expected) in [
            ("https://api.example.com", url("api.example.com", 443, "")),
            ("https://API.example.com:6443/", url("api.example.com", 6443, "")),
            ("https://127.0.0.1:1", url("127.0.0.1", 1, "")),
            ("https://[::1]:65535/", url("::1", 65535, "")),
            ("https://[fd00::1]", url("fd00::1", 443, "")),
            ("https://kcp:6443/clusters/root:org:a", url("kcp", 6443, "/clusters/root:org:a")),
            ("https://r.io/k8s/clusters/c-1/", url("r.io", 443, "/k8s/clusters/c-1")),
            ("https://3com.1x", url("3com.1x", 443, "")),
        ] {
            assert_eq!(ServerUrl::parse(given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn unusual_spellings_are_refused() {
        for given in [
            "",
            "https://",
            "https:///x",
            "http://api.example.com",
            "HTTPS://api.example.com",
            "ftp://a",
            "//a",
            "a:6443",
            "https:/a",
            "https://a b",
            "https://a\tb",
            "https://a\n",
            "https://a\\b",
            "https://user@a",
            "https://u:p@a",
            "https://a?x",
            "https://a#x",
            "https://a:",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:01",
            "https://a:1:2",
            "https://0x7f.1",
            "https://0x7f000001",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://127.1",
            "https://127.0.0.01",
            "https://1.2.3.4.5",
            "https://a.0x1",
            "https://a.0x",
            "https://127.0.0.1.",
            "https://a.",
            "https://.a",
            "https://a..b",
            "https://%31.0.0.1",
            "https://\u{ff11}27.0.0.1",
            "https://b\u{fc}cher",
            "https://a_b",
            "https://-a",
            "https://::1",
            "https://[::1",
            "https://::1]",
            "https://[127.0.0.1]",
            "https://[fe80::1%25eth0]",
            "https://[::1]x",
            "https://[]",
            "https://a//b",
            "https://a/./b",
            "https://a/..",
            "https://a/%2e",
            "https://a/b c",
        ] {
            assert!(ServerUrl::parse(given).is_err(), "{given}");
        }
        assert!(ServerUrl::parse(&format!("https://{}", "a".repeat(MAX_LENGTH))).is_err());
    }

    #[test]
    fn the_host_header_leaves_the_usual_port_out() {
        for (given, expected) in [
            ("https://A.b:443", "a.b"),
            ("https://a.b:6443", "a.b:6443"),
            ("https://[fd00::1]", "[fd00::1]"),
            ("https://[fd00::1]:1", "[fd00::1]:1"),
        ] {
            assert_eq!(ServerUrl::parse(given).unwrap().authority(), expected);
        }
    }

    proptest! {
        #[test]
        fn a_url_library_sees_the_same_host_and_port(given in "https://[0-9a-fx.:\\[\\]@/%-]{0,30}") {
            if let Ok(ours) = ServerUrl::parse(&given) {
                let theirs = url::Url::parse(&given).unwrap();
                let host = match theirs.host().unwrap() {
                    url::Host::Domain(name) => Host::Name(name.to_owned()),
                    url::Host::Ipv4(ip) => Host::Address(ip.into()),
                    url::Host::Ipv6(ip) => Host::Address(ip.into()),
                };
                prop_assert_eq!(&host, ours.host());
                prop_assert_eq!(theirs.port_or_known_default(), Some(ours.port()));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(given in "\\PC{0,60}") {
            let _ = ServerUrl::parse(&given);
            let _ = ServerUrl::parse(&format!("https://{given}"));
        }
    }
}
