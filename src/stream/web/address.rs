//! Where to reach somebody: `http[s]://HOST[:PORT][/PATH]`.

use hyper::Uri;
use std::fmt;

/// A host with its port, and where to begin there.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::stream) struct Address {
    is_tls: bool,
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
    /// With its question mark, or empty.
    query: String,
}

impl Address {
    /// # Errors
    /// What is wrong with it, for people.
    pub(in crate::stream) fn parse(url: &str) -> Result<Address, String> {
        let example = "write https://HOST[:PORT][/PATH]";
        // What stands before an @ may be a password.
        if url.split(['/', '?']).nth(2).is_some_and(|authority| authority.contains('@')) {
            return Err(format!("an address has no user: give it a header or a user of its own; {example}"));
        }
        let uri: Uri = url.parse().map_err(|error| format!("\"{url}\" is no address: {error}; {example}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("\"{url}\" is no address; {example}")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("\"{url}\" names no host"))?;
        Ok(Address {
            is_tls,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            path: uri.path().trim_end_matches('/').to_owned(),
            query: uri.query().map_or(String::new(), |query| format!("?{query}")),
        })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// To connect to: an IPv6 address stands without its brackets.
    pub(super) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn host_header(&self) -> String {
        match (self.is_tls, self.port) {
            (false, 80) | (true, 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    pub(in crate::stream) fn path(&self) -> &str {
        &self.path
    }

    pub(in crate::stream) fn has_query(&self) -> bool {
        !self.query.is_empty()
    }

    /// Path and query, as a request names them.
    pub(in crate::stream) fn target(&self) -> String {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        format!("{path}{}", self.query)
    }

    /// The path and query that a redirect from here leads to, if it stays at this host; `location` is absolute, or begins with a slash.
    pub(in crate::stream) fn redirected(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(location.to_owned());
        }
        let to = Address::parse(location).ok()?;
        let is_same = (to.is_tls, &to.host, to.port) == (self.is_tls, &self.host, self.port);
        is_same.then(|| to.target())
    }
}

impl fmt::Display for Address {
    /// Without the query, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host_header(), self.path)
    }
}

/// Host and port alone: a path may be a secret too.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host_header())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port_and_perhaps_a_path() {
        let shown = |url: &str| Address::parse(url).map(|address| address.to_string());
        assert_eq!(shown("http://registry:8081").as_deref(), Ok("http://registry:8081"));
        assert_eq!(shown("http://registry/apis/ccompat/v7/").as_deref(), Ok("http://registry/apis/ccompat/v7"));
        assert_eq!(shown("http://[::1]:1").as_deref(), Ok("http://[::1]:1"));
        assert_eq!(shown("https://hooks.example/in?key=hidden").as_deref(), Ok("https://hooks.example/in"));
        for wrong in ["registry:8081", "http://", "", "http://a b", "file:///x", "//x/y"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
        let with_user = shown("https://me:hidden@a/b").unwrap_err();
        assert!(with_user.contains("no user") && !with_user.contains("hidden"), "{with_user}");
        assert_eq!(Address::parse("https://a/in?key=1").unwrap().target(), "/in?key=1");
        assert_eq!(Address::parse("https://a").unwrap().target(), "/");
    }

    #[test]
    fn a_redirect_stays_at_its_host() {
        let address = Address::parse("https://hooks.example/in").unwrap();
        assert_eq!(address.redirected("/other?x").as_deref(), Some("/other?x"));
        assert_eq!(address.redirected("https://hooks.example:443/b").as_deref(), Some("/b"));
        for away in
            ["http://hooks.example/in", "https://evil.example/in", "//evil.example/", "https://hooks.example:8443/"]
        {
            assert_eq!(address.redirected(away), None, "{away}");
        }
    }
}
