//! Lines for `/etc/hosts` of the konnector's pods: `--konnector-host-alias` and `hostAliases` of
//! `apply-binding` (contract flags.md 2, http.md 7).

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use super::names;

/// How much of a refused value is quoted.
const QUOTED: usize = 100;

/// Why a host alias was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{given:?} is not a host alias: {problem}; write IP:host1,host2, such as \
     10.0.0.1:kcp.example.com or [fd00::1]:kcp.example.com"
)]
pub struct HostAliasError {
    /// The refused value, shortened.
    pub given: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// One address and its host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names, at least one, each a DNS name in lower case.
    pub hostnames: Vec<String>,
}

impl HostAlias {
    /// Parses `IP:host1,host2`. An IPv6 address may stand in brackets; without them the last colon
    /// separates, since no host name has one. v0.8.1 took the first colon, so IPv6 never worked.
    pub fn parse(given: &str) -> Result<Self, HostAliasError> {
        let (ip, hostnames) = address_and_names(given)?;
        let mut alias = Self { ip, hostnames: Vec::new() };
        for name in hostnames.split(',') {
            alias.add(name, given)?;
        }
        Ok(alias)
    }

    /// Parses the values of a list flag, which pflag has split at its commas. In v0.8.1 the names
    /// after the first were an error unless the whole value was quoted as CSV; here a value that is
    /// only a name belongs to the alias before it.
    pub fn parse_list<S: AsRef<str>>(given: &[S]) -> Result<Vec<Self>, HostAliasError> {
        let mut aliases: Vec<Self> = Vec::new();
        for item in given.iter().map(AsRef::as_ref) {
            match aliases.last_mut() {
                Some(last) if !item.contains(':') => last.add(item, item)?,
                _ => aliases.push(Self::parse(item)?),
            }
        }
        Ok(aliases)
    }

    fn add(&mut self, name: &str, given: &str) -> Result<(), HostAliasError> {
        let name = name.trim().to_ascii_lowercase();
        if !names::is_dns_subdomain(&name) {
            return Err(refused(given, "a host name is not a DNS name"));
        }
        if !self.hostnames.contains(&name) {
            self.hostnames.push(name);
        }
        Ok(())
    }
}

fn address_and_names(given: &str) -> Result<(IpAddr, &str), HostAliasError> {
    let Some((ip, names)) = given.trim().rsplit_once(':') else {
        return Err(refused(given, "it has no colon between address and names"));
    };
    let bracketed = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let ip = match bracketed {
        Some(ip) => ip.parse().map(IpAddr::V6).ok(),
        None => ip.parse().ok(),
    };
    ip.map(|ip| (ip, names)).ok_or_else(|| refused(given, "it does not begin with an IP address"))
}

fn refused(given: &str, problem: &'static str) -> HostAliasError {
    HostAliasError { given: given.chars().take(QUOTED).collect(), problem }
}

impl fmt::Display for HostAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.hostnames.join(",")),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}", self.hostnames.join(",")),
        }
    }
}

/// `existing` with `wanted` put in. A wanted name leaves the address that it had, because in
/// `/etc/hosts` the first line with a name wins; other names stay where they are, because other
/// providers may have put them there.
#[must_use]
pub fn merge(existing: &[HostAlias], wanted: &[HostAlias]) -> Vec<HostAlias> {
    let owner = |name: &String| wanted.iter().find(|alias| alias.hostnames.contains(name));
    let mut merged: Vec<HostAlias> = Vec::new();
    let mut put = |ip: IpAddr, name: &String| match merged.iter_mut().find(|alias| alias.ip == ip) {
        Some(alias) if alias.hostnames.contains(name) => {}
        Some(alias) => alias.hostnames.push(name.clone()),
        None => merged.push(HostAlias { ip, hostnames: vec![name.clone()] }),
    };
    for alias in existing {
        for name in &alias.hostnames {
            if owner(name).is_none_or(|owner| owner.ip == alias.ip) {
                put(alias.ip, name);
            }
        }
    }
    for alias in wanted {
        alias.hostnames.iter().for_each(|name| put(alias.ip, name));
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alias(ip: &str, names: &[&str]) -> HostAlias {
        let hostnames = names.iter().map(|name| (*name).to_owned()).collect();
        HostAlias { ip: ip.parse().unwrap(), hostnames }
    }

    #[test]
    fn an_alias_is_an_address_and_its_names() {
        for (given, expected) in [
            ("1.2.3.4:a", alias("1.2.3.4", &["a"])),
            ("1.2.3.4:a,b.c", alias("1.2.3.4", &["a", "b.c"])),
            (" 1.2.3.4:A, a ", alias("1.2.3.4", &["a"])),
            ("[fd00::1]:a,b", alias("fd00::1", &["a", "b"])),
            ("fd00::1:cafe", alias("fd00::1", &["cafe"])),
        ] {
            assert_eq!(HostAlias::parse(given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_alias_is_refused() {
        for given in [
            "",
            ":",
            "a",
            "1.2.3.4",
            "1.2.3.4:",
            "1.2.3.4:a,",
            "x:a",
            "1.2.3:a",
            "01.2.3.4:a",
            "[1.2.3.4]:a",
            "[fd00::1:a",
            "fd00::1]:a",
            "1.2.3.4:a b",
            "1.2.3.4:a\nb",
            "1.2.3.4:*.a",
            "fe80::1%eth0:a",
        ] {
            assert!(HostAlias::parse(given).is_err(), "{given}");
        }
        let long = HostAlias::parse(&"x".repeat(5000)).unwrap_err();
        assert_eq!(long.given.len(), QUOTED);
    }

    #[test]
    fn names_that_the_list_separator_cut_off_are_put_back() {
        let expected = vec![alias("1.2.3.4", &["a", "b"]), alias("fd00::1", &["c"])];
        for items in [&["1.2.3.4:a", "b", "[fd00::1]:c"][..], &["1.2.3.4:a,b", "fd00::1:c"]] {
            assert_eq!(HostAlias::parse_list(items), Ok(expected.clone()));
        }
        assert_eq!(HostAlias::parse_list::<&str>(&[]), Ok(Vec::new()));
        assert!(HostAlias::parse_list(&["b", "1.2.3.4:a"]).is_err());
        assert!(HostAlias::parse_list(&["1.2.3.4:a", ""]).is_err());
    }

    #[test]
    fn a_wanted_name_moves_and_the_others_stay() {
        let existing = [alias("10.0.0.1", &["a", "b"]), alias("10.0.0.2", &["c"])];
        let wanted = [alias("10.0.0.3", &["b"]), alias("10.0.0.2", &["d", "c"])];
        let expected = vec![
            alias("10.0.0.1", &["a"]),
            alias("10.0.0.2", &["c", "d"]),
            alias("10.0.0.3", &["b"]),
        ];
        let merged = merge(&existing, &wanted);
        let sorted = |mut aliases: Vec<HostAlias>| {
            aliases.sort_by_key(|alias| alias.ip);
            aliases
        };
        assert_eq!(sorted(merged.clone()), expected);
        assert_eq!(merge(&merged, &wanted), merged, "a second merge changes nothing");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_it_takes_is_read_back(text in "\\PC{0,60}") {
            if let Ok(alias) = HostAlias::parse(&text) {
                prop_assert_eq!(HostAlias::parse(&alias.to_string()), Ok(alias));
            }
        }

        #[test]
        fn near_misses_do_not_panic_either(text in "[0-9a-f:.\\[\\],]{0,40}") {
            if let Ok(alias) = HostAlias::parse(&text) {
                prop_assert_eq!(HostAlias::parse(&alias.to_string()), Ok(alias));
            }
        }
    }
}
