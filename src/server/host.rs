//! By which names a door may be asked: a page that was rebound to our address by DNS asks by its own.

use std::net::IpAddr;

/// Whether `host`, as the Host header has it, is an IP address, `localhost` or one of `names`; with or without a port.
pub(super) fn is_ours(host: &str, names: &[String]) -> bool {
    let name = name_of(host);
    host.parse::<IpAddr>().is_ok()
        || name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The name of `name:port`, `[v6]:port`, `name`.
pub(super) fn name_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_our_names_are_ours() {
        let names = ["events.example".to_owned()];
        for host in ["127.0.0.1:8080", "[::1]:8080", "::1", "localhost", "LOCALHOST:1", "events.example:80"] {
            assert!(is_ours(host, &names), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "events.example.evil.example"] {
            assert!(!is_ours(host, &names), "{host}");
        }
    }
}
