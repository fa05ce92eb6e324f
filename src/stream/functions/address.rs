//! IP addresses: what of them may be kept.

use super::call::{Function, Gives, Takes};
use arrow::array::StringArray;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "ip_mask",
    takes: &[("address", Takes::Text)],
    optional: 0,
    gives: Gives::Text,
    meaning: "the address without its last 8 bits (IPv4) or last 80 (IPv6); NULL for what is no address",
    examples: &[
        ("ip_mask('203.0.113.77')", "203.0.113.0"),
        ("ip_mask('2001:db8:1:2:3:4:5:6')", "2001:db8:1::"),
        ("ip_mask('unknown')", "NULL"),
    ],
    compute: |call| call.each_text::<StringArray, _>(masked),
}];

/// An address; IPv4 that is written as IPv6 is IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn masked(text: &str) -> Option<String> {
    Some(match address(text)? {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & !0xff).to_string(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 80 << 80).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_last_part() {
        assert_eq!(masked("203.0.113.77").as_deref(), Some("203.0.113.0"));
        assert_eq!(masked("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1::"));
        assert_eq!(masked("::ffff:203.0.113.77").as_deref(), Some("203.0.113.0"));
        assert_eq!(masked("not an address"), None);
    }
}
