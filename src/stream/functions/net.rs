//! Parts of URLs and addresses. The URL is cut, not parsed: what clients send is often no valid URL, and its host is wanted all the same.

use super::udf::{Body, udf};
use datafusion_expr::ScalarUDF;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A URL's parts as they stand.
struct Url<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

fn cut(url: &str) -> Url<'_> {
    let (rest, fragment) = url.split_once('#').map_or((url, None), |(rest, fragment)| (rest, Some(fragment)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (scheme, rest) = match rest.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), Some(rest)),
        None => (None, rest.strip_prefix("//")),
    };
    match rest {
        Some(rest_of) => {
            let at = rest_of.find('/').unwrap_or(rest_of.len());
            Url { scheme, authority: Some(&rest_of[..at]), path: &rest_of[at..], query, fragment }
        }
        None => {
            let path = url.split(['?', '#']).next().unwrap_or_default();
            Url { scheme: None, authority: None, path, query, fragment }
        }
    }
}

fn host(url: &str) -> Option<String> {
    let authority = cut(url).authority?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

fn path(url: &str) -> Option<String> {
    let cut = cut(url);
    Some(if cut.path.is_empty() { "/" } else { cut.path }.to_owned())
}

fn query(url: &str, name: &str) -> Option<String> {
    let pairs = cut(url).query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.into_iter().find(|(key, _)| decoded(key) == name)?;
    Some(decoded(value))
}

/// Undoes percent-encoding; bytes that are no UTF-8 become replacement characters.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn masked(address: &str) -> Option<String> {
    Some(match address.trim().parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & !0xff).to_string(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 80 << 80).to_string(),
    })
}

pub(super) fn url_host(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(host))
}

pub(super) fn url_path(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(path))
}

pub(super) fn url_scheme(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|url| cut(url).scheme.map(str::to_ascii_lowercase)))
}

pub(super) fn url_fragment(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|url| cut(url).fragment.map(str::to_owned)))
}

pub(super) fn url_query(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text2(query))
}

pub(super) fn ip_mask(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(masked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_even_if_they_are_odd() {
        let url = "HTTPS://user@Shop.Example:8443/a/b?q=x%20y+z&utm_source=a#top";
        assert_eq!(host(url).as_deref(), Some("shop.example"));
        assert_eq!(path(url).as_deref(), Some("/a/b"));
        assert_eq!(query(url, "q").as_deref(), Some("x y z"));
        assert_eq!(query(url, "none"), None);
        assert_eq!(cut(url).fragment, Some("top"));
        assert_eq!(host("//cdn.example").as_deref(), Some("cdn.example"));
        assert_eq!((host("/only/path?x=1"), path("/only/path?x=1").as_deref()), (None, Some("/only/path")));
        assert_eq!(path("https://a.example").as_deref(), Some("/"));
        assert_eq!(host("http://[2001:db8::1]:80/").as_deref(), Some("2001:db8::1"));
    }

    #[test]
    fn addresses_lose_their_last_part() {
        assert_eq!(masked("203.0.113.77").as_deref(), Some("203.0.113.0"));
        assert_eq!(masked("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1::"));
        assert_eq!(masked("::ffff:203.0.113.77").as_deref(), Some("203.0.113.0"));
        assert_eq!(masked("not an address"), None);
    }
}
