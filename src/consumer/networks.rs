//! Which addresses a consumer's API server may have (security row 18).
//!
//! The backend sends requests to an address that a user names, from inside the provider's network.
//! So only global unicast addresses are allowed, and what `--consumer-cidr` opens. Source of the
//! ranges: the IANA special-purpose address registries (RFC 6890 and its updates), and the
//! metadata services of the large clouds.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Why a value of `--consumer-cidr` was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// Not a CIDR.
    #[error(
        "{0:?} is not a network; write its first address and prefix length, such as 10.1.0.0/16"
    )]
    Malformed(String),
    /// Neither inside one range that is closed nor outside of all.
    #[error(
        "{given} is wider than {range}, which is {what}, and would open more than meant; name the networks \
         of the consumers one by one, {range} at most"
    )]
    TooWide {
        /// The network.
        given: Cidr,
        /// A closed range in it.
        range: Cidr,
        /// What that range is.
        what: &'static str,
    },
    /// Of a kind that no API server can have.
    #[error("{given} is {what}, which no API server can have; leave it out")]
    Never {
        /// The network.
        given: Cidr,
        /// What it is.
        what: &'static str,
    },
}

/// An address that the backend does not call. The text leaves the address out: for a host name it
/// would tell the user what the provider's DNS knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is {what}")]
pub struct Denied {
    /// The range that it is in.
    pub range: Cidr,
    /// What that range is.
    pub what: &'static str,
    /// Whether `--consumer-cidr` can open it.
    pub can_be_opened: bool,
}

/// A network: an address and the number of its leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    const fn v4(first: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = first;
        Self { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    const fn v6(first: u128, prefix: u8) -> Self {
        Self { first: IpAddr::V6(Ipv6Addr::from_bits(first)), prefix }
    }

    /// Parses `10.1.0.0/16` or `fd00::/8`. Bits behind the prefix must be zero, so that a slip is
    /// seen; an address alone is refused for the same reason.
    pub fn parse(given: &str) -> Result<Self, NetworkError> {
        let refused = || NetworkError::Malformed(given.chars().take(100).collect());
        let (first, prefix) = given.trim().split_once('/').ok_or_else(refused)?;
        let first: IpAddr = first.parse().map_err(|_| refused())?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or_else(refused)?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let cidr = Self { first, prefix };
        if prefix > width || bits(first) != bits(first) & cidr.mask() {
            return Err(refused());
        }
        Ok(cidr)
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && bits(ip) & self.mask() == bits(self.first)
    }

    fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.first)
    }

    fn mask(&self) -> u128 {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        let host = width - u32::from(self.prefix).min(width);
        u128::MAX.checked_shl(host).unwrap_or_default()
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// What happens with the addresses of a closed range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Nothing opens them.
    Never,
    /// `--consumer-cidr` opens them.
    ByFlag,
}

const METADATA: &str = "that of a cloud's metadata service";
const DOCUMENTATION: &str = "for documentation only";
const LOOPBACK: &str = "that of the backend's own host";
const PRIVATE: &str = "private";
const RESERVED: &str = "reserved";

/// All closed ranges. The smallest one that holds an address decides about it, so an opened network
/// does not open a metadata service in it.
const CLOSED: &[(Cidr, &str, Open)] = &[
    (Cidr::v4([0, 0, 0, 0], 8), "this network", Open::Never),
    (Cidr::v4([10, 0, 0, 0], 8), PRIVATE, Open::ByFlag),
    (Cidr::v4([100, 64, 0, 0], 10), "shared by a carrier or cloud", Open::ByFlag),
    (Cidr::v4([100, 100, 100, 200], 32), METADATA, Open::ByFlag),
    (Cidr::v4([127, 0, 0, 0], 8), LOOPBACK, Open::ByFlag),
    (Cidr::v4([168, 63, 129, 16], 32), METADATA, Open::ByFlag),
    (Cidr::v4([169, 254, 0, 0], 16), "link-local", Open::ByFlag),
    (Cidr::v4([169, 254, 169, 254], 32), METADATA, Open::ByFlag),
    (Cidr::v4([172, 16, 0, 0], 12), PRIVATE, Open::ByFlag),
    (Cidr::v4([192, 0, 0, 0], 24), RESERVED, Open::ByFlag),
    (Cidr::v4([192, 0, 2, 0], 24), DOCUMENTATION, Open::ByFlag),
    (Cidr::v4([192, 88, 99, 0], 24), RESERVED, Open::ByFlag),
    (Cidr::v4([192, 168, 0, 0], 16), PRIVATE, Open::ByFlag),
    (Cidr::v4([198, 18, 0, 0], 15), "for benchmarks only", Open::ByFlag),
    (Cidr::v4([198, 51, 100, 0], 24), DOCUMENTATION, Open::ByFlag),
    (Cidr::v4([203, 0, 113, 0], 24), DOCUMENTATION, Open::ByFlag),
    (Cidr::v4([224, 0, 0, 0], 4), "multicast", Open::Never),
    (Cidr::v4([240, 0, 0, 0], 4), "reserved or broadcast", Open::Never),
    // Of IPv6 only 2000::/3 is global unicast; the first row closes the rest, whatever it becomes.
    (Cidr::v6(0, 0), RESERVED, Open::Never),
    (Cidr::v6(0x2000 << 112, 3), "", Open::ByFlag),
    (Cidr::v6(1, 128), LOOPBACK, Open::ByFlag),
    (Cidr::v6(0xffff << 32, 96), "an IPv4 address in IPv6 form", Open::Never),
    (Cidr::v6(0xffff << 48, 96), "an IPv4 address in IPv6 form", Open::Never),
    (Cidr::v6(0x0064_ff9b << 96, 96), "an IPv4 address behind NAT64", Open::ByFlag),
    (Cidr::v6(0x0064_ff9b_0001 << 80, 48), "an IPv4 address behind NAT64", Open::Never),
    (Cidr::v6(0x2001 << 112, 23), "for protocols such as Teredo", Open::Never),
    (Cidr::v6(0x2001_0db8 << 96, 32), DOCUMENTATION, Open::ByFlag),
    (Cidr::v6(0x2002 << 112, 16), "an IPv4 address in 6to4 form", Open::Never),
    (Cidr::v6(0x3fff << 112, 20), DOCUMENTATION, Open::ByFlag),
    (Cidr::v6(0xfc00 << 112, 7), PRIVATE, Open::ByFlag),
    (Cidr::v6((0xfd00_0ec2 << 96) | 0x254, 128), METADATA, Open::ByFlag),
    (Cidr::v6((0xfd20_00ce << 96) | 0x254, 128), METADATA, Open::ByFlag),
    (Cidr::v6(0xfe80 << 112, 10), "link-local", Open::ByFlag),
    (Cidr::v6(0xfec0 << 112, 10), PRIVATE, Open::ByFlag),
    (Cidr::v6(0xff00 << 112, 8), "multicast", Open::Never),
];

/// The row of [`CLOSED`] that says what global unicast is, and closes nothing.
const GLOBAL_V6: Cidr = Cidr::v6(0x2000 << 112, 3);

/// The NAT64 prefix that everyone shares (RFC 6052), which ends with an IPv4 address.
const NAT64: Cidr = Cidr::v6(0x0064_ff9b << 96, 96);

fn smallest(holds: impl Fn(&Cidr) -> bool) -> Option<&'static (Cidr, &'static str, Open)> {
    CLOSED.iter().filter(|(range, ..)| holds(range)).max_by_key(|(range, ..)| range.prefix)
}

/// The networks that `--consumer-cidr` opens; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerNetworks(Vec<Cidr>);

impl ConsumerNetworks {
    /// Parses the values of `--consumer-cidr`. A network must be inside one closed range or touch
    /// none (as the address of the backend's own host), so that `0.0.0.0/0` opens nothing by
    /// accident.
    pub fn parse<S: AsRef<str>>(given: &[S]) -> Result<Self, NetworkError> {
        given
            .iter()
            .map(|given| meant(Cidr::parse(given.as_ref())?))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a network names the address, whatever range it is in.
    #[must_use]
    pub fn names(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }

    /// Whether the backend may call the address.
    pub fn check(&self, ip: IpAddr) -> Result<(), Denied> {
        let Some((range, what, open)) = smallest(|range| range.contains(ip)) else {
            return Ok(());
        };
        if *range == GLOBAL_V6 {
            return Ok(());
        }
        let can_be_opened = *open == Open::ByFlag;
        let opened = self.0.iter().any(|network| range.covers(network) && network.contains(ip));
        if !(can_be_opened && opened) {
            return Err(Denied { range: *range, what, can_be_opened });
        }
        match ip {
            IpAddr::V6(ip) if NAT64.contains(IpAddr::V6(ip)) => self.check(IpAddr::V4(behind(ip))),
            _ => Ok(()),
        }
    }
}

/// Refuses a network that opens nothing, or more than one closed range.
fn meant(given: Cidr) -> Result<Cidr, NetworkError> {
    let home = smallest(|range| range.covers(&given)).filter(|(range, ..)| *range != GLOBAL_V6);
    match home {
        Some((.., Open::ByFlag)) => return Ok(given),
        Some((range, what, Open::Never)) if range.prefix > 0 => {
            return Err(NetworkError::Never { given, what });
        }
        _ => {}
    }
    let inside = |range: &Cidr| given.covers(range) && *range != given && *range != GLOBAL_V6;
    match (CLOSED.iter().find(|(range, ..)| inside(range)), home) {
        (Some((range, what, _)), _) => Err(NetworkError::TooWide { given, range: *range, what }),
        (None, Some((_, what, _))) => Err(NetworkError::Never { given, what }),
        (None, None) => Ok(given),
    }
}

/// The IPv4 address that a NAT64 address leads to.
fn behind(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests;
