//! Proxies in front of the door: whose word about a client's address is believed.

use super::headers::{Headers, plain_text};
use std::net::IpAddr;

/// Networks whose `X-Forwarded-For` is believed and whose connections are not counted by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<(IpAddr, u8)>,
}

impl Proxies {
    /// Of `10.0.0.0/8`, `192.0.2.7`, `fd00::/8`.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse(networks: &[String]) -> Result<Proxies, String> {
        let wrong = |text: &str| format!("\"{text}\" is neither an address nor a network like 10.0.0.0/8");
        let network = |text: &String| {
            let (address, bits) = text.split_once('/').unwrap_or((text, ""));
            let address = address.parse::<IpAddr>().map_err(|_| wrong(text))?;
            let bits_max = if address.is_ipv4() { 32 } else { 128 };
            let bits = if bits.is_empty() { bits_max } else { bits.parse().map_err(|_| wrong(text))? };
            if bits <= bits_max { Ok((address, bits)) } else { Err(wrong(text)) }
        };
        Ok(Proxies { networks: networks.iter().map(network).collect::<Result<_, _>>()? })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|(network, bits)| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        })
    }

    /// Who sent a request: the peer, or, if it is a proxy, the last address it forwards for that is no proxy itself. What stands before
    /// that in the header is the client's own word. `None`, if a proxy forwards for somebody whom it does not name by an address.
    pub(super) fn client(&self, peer: IpAddr, headers: &Headers<'_>) -> Option<IpAddr> {
        let mut client = peer.to_canonical();
        let hops: Vec<&[u8]> = headers.all("x-forwarded-for").flat_map(|value| value.split(|b| *b == b',')).collect();
        for hop in hops.into_iter().rev() {
            if !self.contains(client) {
                break;
            }
            client = plain_text(hop).and_then(|hop| address_of(hop.trim()))?;
        }
        Some(client)
    }
}

/// Of `192.0.2.7`, `192.0.2.7:4711`, `[::1]:4711`, `::1`.
fn address_of(hop: &str) -> Option<IpAddr> {
    let parsed = hop.parse::<IpAddr>().or_else(|_| super::super::host::name_of(hop).parse());
    parsed.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, said: &[&'static str]) -> String {
        let proxies = Proxies::parse(&["10.0.0.0/8".into(), "fd00::1".into()]).unwrap();
        let header = |value: &&'static str| httparse::Header { name: "X-Forwarded-For", value: value.as_bytes() };
        let headers: Vec<_> = said.iter().map(header).collect();
        let client = proxies.client(peer.parse().unwrap(), &Headers::Slices(&headers));
        client.map_or("nobody".to_owned(), |client| client.to_string())
    }

    #[test]
    fn only_proxies_are_believed_and_only_as_far_as_they_saw() {
        assert_eq!(client("192.0.2.1", &["1.2.3.4"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "1.2.3.4:55"]), "1.2.3.4");
        assert_eq!(client("::ffff:10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
        for unreadable in ["unknown", "1.2.3.4, \u{e9}", "\u{e9}, 127.0.0.1x", ""] {
            assert_eq!(client("10.0.0.1", &[unreadable]), "nobody", "{unreadable}");
        }
        assert_eq!(client("10.0.0.1", &["\u{e9}, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("fd00::1", &[]), "fd00::1");
    }

    #[test]
    fn networks_are_checked() {
        assert!(Proxies::parse(&["10.0.0.0/33".into()]).is_err());
        assert!(Proxies::parse(&["proxy.example".into()]).is_err());
        let all = Proxies::parse(&["0.0.0.0/0".into()]).unwrap();
        assert!(all.contains("9.9.9.9".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }
}
