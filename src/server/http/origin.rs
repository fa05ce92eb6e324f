//! Who may ask: CORS for pages that send events, and refusal of what a foreign page could do through somebody's browser.
//!
//! Beacons are always sent with credentials, so the page's origin is echoed and never `*`.

use super::super::host::{is_ours, name_of};
use super::headers::Headers;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HOST, HeaderMap, HeaderValue,
    ORIGIN, VARY,
};

/// Which pages may send events.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Exact origins, such as `https://shop.example`, beside the ones of this machine.
    pub allowed: Vec<String>,
    /// Names, beside IP addresses and `localhost`, that requests may be addressed to.
    pub host_names: Vec<String>,
}

impl Origins {
    /// Whether a page of this origin may send events: listed, of this machine, or without an origin of its own (`null`: a local file).
    pub fn allows(&self, origin: &str) -> bool {
        let host = origin.strip_prefix("http://").or(origin.strip_prefix("https://")).map(name_of);
        origin == "null"
            || matches!(host, Some("localhost" | "127.0.0.1"))
            || self.allowed.iter().any(|known| known == origin)
    }

    /// The origin whose pages may see the answer to a request.
    pub(super) fn granted(&self, request: &Headers<'_>) -> Option<HeaderValue> {
        let origin = request.text("origin").filter(|origin| self.allows(origin))?;
        HeaderValue::from_str(origin).ok()
    }

    /// Adds what a browser needs to show the answer to its page, if it may.
    pub(super) fn grant(granted: Option<HeaderValue>, answer: &mut HeaderMap) {
        answer.insert(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = granted {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// As [`Origins::grant`], for the question before a request.
    pub fn grant_preflight(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        Origins::grant(self.granted(&Headers::Map(request)), answer);
        if !answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        answer.insert(VARY, HeaderValue::from_static("origin, access-control-request-headers"));
        // A public page asks whether it may reach this machine's network.
        if request.contains_key("access-control-request-private-network") {
            answer.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
        }
        if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    }

    /// For requests that read or change: refuses pages, and names we do not go by (DNS rebinding).
    ///
    /// # Errors
    /// What to do instead.
    pub fn check_reader(&self, request: &HeaderMap) -> Result<(), String> {
        if let Some(origin) = request.get(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            if !self.allowed.iter().any(|known| *known == origin) {
                return Err(format!(
                    "pages of {origin} may not read here; list the origin under cors-origins if they should"
                ));
            }
        }
        let Some(host) = request.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()) else {
            return Ok(());
        };
        if is_ours(&host, &self.host_names) {
            return Ok(());
        }
        Err(format!(
            "this door does not go by the name \"{}\"; use its address, or list the name under host-names",
            name_of(&host)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_pages_may_send_and_foreign_ones_only_if_listed() {
        let origins = Origins { allowed: vec!["https://shop.example".into()], host_names: vec![] };
        for good in ["null", "http://localhost:3000", "http://127.0.0.1:8000", "https://shop.example"] {
            assert!(origins.allows(good), "{good}");
        }
        for bad in ["https://evil.example", "http://localhost.evil.example", "https://shop.example.evil.example"] {
            assert!(!origins.allows(bad), "{bad}");
        }
    }

    #[test]
    fn a_page_may_not_read() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8080"));
        assert!(Origins::default().check_reader(&headers).is_ok());
        headers.insert(ORIGIN, HeaderValue::from_static("http://localhost:3000"));
        assert!(Origins::default().check_reader(&headers).is_err());
        headers.remove(ORIGIN);
        headers.insert(HOST, HeaderValue::from_static("rebound.example"));
        assert!(Origins::default().check_reader(&headers).is_err());
    }
}
