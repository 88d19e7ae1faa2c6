use proptest::prelude::*;

use super::*;

fn networks(given: &[&str]) -> ConsumerNetworks {
    ConsumerNetworks::parse(given).unwrap()
}

fn verdict(networks: &ConsumerNetworks, ip: &str) -> Result<(), Denied> {
    networks.check(ip.parse().unwrap())
}

#[test]
fn only_global_unicast_is_open_without_the_flag() {
    let none = ConsumerNetworks::default();
    for ip in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2a00:1450::1", "2600::1", "2003::1"] {
        assert_eq!(verdict(&none, ip), Ok(()), "{ip}");
    }
    for ip in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.96.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.8.9.1",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.255.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",
        "::127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:0:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(verdict(&none, ip).is_err(), "{ip}");
    }
}

#[test]
fn the_flag_opens_what_it_names_and_no_metadata_service_in_it() {
    let open = networks(&["10.1.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "::1/128"]);
    for ip in ["10.1.2.3", "127.0.0.1", "169.254.0.1", "fd00::1", "::1"] {
        assert_eq!(verdict(&open, ip), Ok(()), "{ip}");
    }
    for ip in ["10.2.0.1", "192.168.0.1", "169.254.169.254", "fd00:ec2::254", "::ffff:10.1.2.3"] {
        assert!(verdict(&open, ip).is_err(), "{ip}");
    }
    let metadata = networks(&["169.254.169.254/32"]);
    assert_eq!(verdict(&metadata, "169.254.169.254"), Ok(()));
}

#[test]
fn behind_nat64_the_ipv4_address_is_looked_at_too() {
    let open = networks(&["64:ff9b::/96"]);
    assert_eq!(verdict(&open, "64:ff9b::8.8.8.8"), Ok(()));
    assert!(verdict(&open, "64:ff9b::10.0.0.1").is_err());
    assert_eq!(verdict(&networks(&["64:ff9b::/96", "10.0.0.0/8"]), "64:ff9b::10.0.0.1"), Ok(()));
}

#[test]
fn a_network_that_would_open_more_than_meant_is_refused() {
    let too_wide = |given: &str| {
        let error = ConsumerNetworks::parse(&[given]).unwrap_err();
        assert!(matches!(error, NetworkError::TooWide { .. }), "{given}: {error}");
    };
    ["0.0.0.0/0", "8.0.0.0/5", "172.0.0.0/8", "::/0", "2000::/3", "fc00::/6"]
        .into_iter()
        .for_each(too_wide);
    let never = |given: &str| {
        let error = ConsumerNetworks::parse(&[given]).unwrap_err();
        assert!(matches!(error, NetworkError::Never { .. }), "{given}: {error}");
    };
    ["0.0.0.0/32", "224.0.0.0/4", "255.255.255.255/32", "::ffff:0:0/96", "ff00::/8"]
        .into_iter()
        .for_each(never);
    for wrong in [
        "",
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "a/8",
        "fd00::/129",
        "010.0.0.0/8",
        "10.0.0.0/8/8",
    ] {
        let error = ConsumerNetworks::parse(&[wrong]).unwrap_err();
        assert_eq!(error, NetworkError::Malformed(wrong.to_owned()));
    }
    // The backend's own host may have a global address.
    assert!(networks(&["8.8.8.8/32"]).names("8.8.8.8".parse().unwrap()));
}

#[test]
fn the_ranges_are_written_with_zero_bits_behind_the_prefix() {
    for (range, ..) in CLOSED {
        assert_eq!(Cidr::parse(&range.to_string()), Ok(*range));
    }
}

proptest! {
    #[test]
    fn every_ipv4_address_in_ipv6_form_is_closed(ip: u32) {
        let none = ConsumerNetworks::default();
        let embedded = u128::from(ip);
        let teredo = (0x2001_u128 << 112) | embedded;
        let six_to_four = (0x2002_u128 << 112) | (embedded << 80);
        for form in [0, 0xffff << 32, 0xffff << 48, 0x0064_ff9b << 96].map(|p: u128| p | embedded) {
            prop_assert!(none.check(Ipv6Addr::from_bits(form).into()).is_err());
        }
        prop_assert!(none.check(Ipv6Addr::from_bits(teredo).into()).is_err());
        prop_assert!(none.check(Ipv6Addr::from_bits(six_to_four).into()).is_err());
    }

    #[test]
    fn the_standard_library_finds_nothing_private_in_what_is_open(ip: u32) {
        let ip = Ipv4Addr::from_bits(ip);
        if ConsumerNetworks::default().check(ip.into()).is_ok() {
            prop_assert!(!(ip.is_private() || ip.is_loopback() || ip.is_link_local()
                || ip.is_multicast() || ip.is_broadcast() || ip.is_documentation()
                || ip.is_unspecified()));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[0-9a-f:./]{0,45}") {
        let _ = ConsumerNetworks::parse(&[text]);
    }
}
