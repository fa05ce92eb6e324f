//! `to = { http = "https://…" }`: what it says, and how it is read.

use super::super::super::secrets::{self, Hidden};
use super::super::super::web::{Address, Trust};
use super::signature::Keys;
use crate::config::{Section, size};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use std::path::Path;
use std::time::Duration;

/// Rows and bytes of one request, unless the file says otherwise.
const BATCH_ROWS: usize = 500;
const BATCH_SIZE: usize = 1 << 20;
const BATCH_ROWS_MAX: usize = 10_000;
const BATCH_SIZE_MIN: usize = 1 << 10;
const BATCH_SIZE_MAX: usize = 8 << 20;
/// How long a row waits for others, unless the file says otherwise.
const LINGER: Duration = Duration::from_millis(200);
const LINGER_MAX: Duration = Duration::from_secs(60);
/// From the connection to the answer, unless the file says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Well below what a stop and a last cut may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// Requests at a time, of all source partitions together.
const IN_FLIGHT: i64 = 4;
const IN_FLIGHT_MAX: i64 = 64;
const HEADERS_MAX: usize = 32;
/// Headers that are the output's own.
const RESERVED: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "expect",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "inrush-source",
];

/// Where rows go by HTTP.
#[derive(Clone, Debug)]
pub struct HttpOutput {
    /// As it stands in the file, without the query: secrets in it are not filled in.
    pub(in crate::stream) name: String,
    /// Never shown.
    pub(super) address: Address,
    pub(super) trust: Trust,
    pub(in crate::stream) batch_rows: usize,
    pub(super) batch_size: usize,
    pub(super) linger: Duration,
    pub(super) body: Body,
    pub(super) gzip: bool,
    /// Values are marked as sensitive: nothing shows them.
    pub(super) headers: HeaderMap,
    /// Empty = not signed.
    pub(super) keys: Keys,
    pub(super) timeout: Duration,
    pub(super) in_flight: usize,
    /// What was filled in.
    pub(super) filled: Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// One JSON array of objects.
    Array,
    /// An object a line.
    Lines,
}

impl HttpOutput {
    /// Its settings in words, without what is secret; and the bytes that it may hold.
    pub(in crate::stream) fn told(&self) -> (u64, Vec<(&'static str, String)>) {
        let body = match self.body {
            Body::Array => "one JSON array of objects",
            Body::Lines => "a JSON object a line",
        };
        let settings = vec![
            ("address", self.name.clone()),
            (
                "batch",
                format!("{} rows or {} bytes, after {:?} what there is", self.batch_rows, self.batch_size, self.linger),
            ),
            ("body", format!("{body}{}", if self.gzip { ", gzip" } else { "" })),
            (
                "headers",
                match self.headers.is_empty() {
                    true => "none".to_owned(),
                    false => self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>().join(", "),
                },
            ),
            ("signed", if self.keys.0.is_empty() { "no" } else { "yes" }.to_owned()),
            ("timeout", format!("{:?}", self.timeout)),
            ("in flight", format!("{} requests at a time, one of each source partition", self.in_flight)),
            ("delivery", "at least once; a batch keeps its id when it is sent again".to_owned()),
        ];
        // What waits and what is on its way.
        ((2 * self.in_flight * self.batch_size) as u64, settings)
    }

    /// Reads it; mistakes are noted.
    pub(in crate::stream) fn read(to: &Section<'_>) -> Option<HttpOutput> {
        let file = to.mistakes().file;
        let written = to.string("http").map(|written| written.value).unwrap_or_default();
        let mut hidden = Vec::new();
        let address = to.read("http", |text| {
            let filled = secrets::fill_noting(text, file, &mut hidden)?;
            // What is wrong with a secret is told without it.
            let hidden = |why| if filled == text { why } else { "with its secrets this is no address".to_owned() };
            Address::parse(&filled).map_err(hidden)
        });
        let (batch_rows, batch_size) = to.read("batch", batch).map_or((BATCH_ROWS, BATCH_SIZE), |batch| batch.value);
        let linger = to.duration("linger").map_or(LINGER, |linger| linger.value);
        if linger > LINGER_MAX {
            to.wrong("linger", format!("a row waits {} s at most for others", LINGER_MAX.as_secs()));
        }
        let timeout = to.duration("timeout").map_or(TIMEOUT, |timeout| timeout.value);
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
            to.wrong("timeout", format!("it is 100ms to {}s", TIMEOUT_MAX.as_secs()));
        }
        let in_flight = to.integer("in-flight").map_or(IN_FLIGHT, |count| count.value);
        if !(1..=IN_FLIGHT_MAX).contains(&in_flight) {
            to.wrong(
                "in-flight",
                format!("it is 1 to {IN_FLIGHT_MAX} requests at a time, one of each source partition"),
            );
        }
        let body = to.read("body", |text| match text {
            "json" => Ok(Body::Array),
            "ndjson" => Ok(Body::Lines),
            _ => Err("it is \"json\" (one array) or \"ndjson\" (a line each)".to_owned()),
        });
        let gzip = to.read("compression", |text| match text {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => Err("it is \"gzip\" or \"none\"".to_owned()),
        });
        let keys = to.read("sign", |name| {
            let text = secrets::named(name, file)?;
            hidden.extend(text.lines().map(|line| line.trim().to_owned()));
            Keys::parse(&text)
        });
        let trust = to.read("ca", |ca| Trust::of_file(&file.parent().unwrap_or(Path::new(".")).join(ca)));
        let headers = to.table("headers").map(|headers| read_headers(&headers, file, &mut hidden));
        Some(HttpOutput {
            name: written.split('?').next().unwrap_or_default().to_owned(),
            address: address?.value,
            trust: trust.map_or(Trust::Machine, |trust| trust.value),
            batch_rows,
            batch_size,
            linger,
            body: body.map_or(Body::Array, |body| body.value),
            gzip: gzip.is_some_and(|gzip| gzip.value),
            headers: headers.unwrap_or_default(),
            keys: keys.map_or_else(Keys::default, |keys| keys.value),
            timeout,
            in_flight: in_flight.clamp(1, IN_FLIGHT_MAX) as usize,
            filled: Hidden::of(hidden),
        })
    }
}

fn read_headers(section: &Section<'_>, file: &Path, hidden: &mut Vec<String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if section.entries().len() > HEADERS_MAX {
        section.wrong("", format!("at most {HEADERS_MAX} headers"));
    }
    for (name, text) in section.texts() {
        let value = secrets::fill_noting(&text.value, file, hidden).and_then(|text| {
            // What is wrong with a value is told without it.
            HeaderValue::from_str(&text).map_err(|_| {
                "this is no value of a header: it has a line break or another control character".to_owned()
            })
        });
        match (HeaderName::from_bytes(name.as_bytes()), value) {
            (Err(_), _) => section.wrong(name, "this is no name of a header"),
            (Ok(_), Err(reason)) => section.wrong(name, reason),
            (Ok(name), Ok(_)) if RESERVED.contains(&name.as_str()) => {
                section.wrong(name.as_str(), "the output sets this header itself");
            }
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
    }
    headers
}

/// `500`, `1MiB`, or both: `500 or 1MiB`.
fn batch(text: &str) -> Result<(usize, usize), String> {
    let mut found = (None, None);
    for part in text.split(" or ").map(str::trim) {
        match (part.parse::<usize>(), size(part)) {
            (Ok(rows), _) if found.0.is_none() => found.0 = Some(rows),
            (Err(_), Ok(bytes)) if found.1.is_none() => found.1 = Some(bytes as usize),
            _ => return Err(format!("\"{text}\" is no batch; write rows, a size, or both: \"500 or 1MiB\"")),
        }
    }
    let (rows, bytes) = (found.0.unwrap_or(BATCH_ROWS), found.1.unwrap_or(BATCH_SIZE));
    if !(1..=BATCH_ROWS_MAX).contains(&rows) || !(BATCH_SIZE_MIN..=BATCH_SIZE_MAX).contains(&bytes) {
        return Err(format!("a batch has 1 to {BATCH_ROWS_MAX} rows and 1KiB to 8MiB"));
    }
    Ok((rows, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::super::super::load;
    use super::super::super::super::spec::Output;
    use super::*;
    use bytes::Bytes;

    fn read(to: &str, folder: &Path) -> Result<HttpOutput, Vec<String>> {
        let text = format!("from = \"topic:c\"\nto = {{ {to} }}\n[columns]\na = \"string\"\n");
        let job = load::text(&folder.join("p.toml"), &text);
        let job = job.map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let Output::Http(out) = &job.spec.routes[0].to else { panic!("{:?}", job.spec.routes) };
        Ok((**out).clone())
    }

    #[test]
    fn an_address_is_enough_and_everything_can_be_said() {
        let folder = tempfile::tempdir().unwrap();
        let plain = read("http = \"https://hooks.example/in\"", folder.path()).unwrap();
        assert_eq!((plain.batch_rows, plain.batch_size, plain.body, plain.gzip), (500, 1 << 20, Body::Array, false));
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/token"), "hidden-token\n").unwrap();
        std::fs::write(folder.path().join("secrets/key"), "hidden-key\n").unwrap();
        let all = "http = \"http://h:1/{secret:token}/in?k=hidden-query\", batch = \"20 or 2KiB\", linger = \"1s\", body = \"ndjson\", compression = \"gzip\", timeout = \"5s\", in-flight = 2, sign = \"key\", headers = { authorization = \"Bearer {secret:token}\" }";
        let all = read(all, folder.path()).unwrap();
        assert_eq!((all.batch_rows, all.batch_size, all.body, all.gzip), (20, 2 << 10, Body::Lines, true));
        assert_eq!(all.headers["authorization"], "Bearer hidden-token");
        assert_eq!(all.address.target(), "/hidden-token/in?k=hidden-query");
        let shown = format!("{all:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        let told = format!("{:?}", all.told());
        assert!(told.contains("http://h:1/{secret:token}/in") && !told.contains("hidden"), "{told}");
        let said = "no hidden-token here, and hidden-key is no key";
        let masked = all.filled.mask(Bytes::from(said));
        assert_eq!(masked, "no (secret) here, and (secret) is no key");
        assert_eq!(Output::Http(Box::new(all)).to_string(), "http http://h:1/{secret:token}/in");
        let wrong = read("http = \"{secret:token}\"", folder.path()).unwrap_err();
        assert!(wrong[0].contains("no address") && !wrong[0].contains("hidden"), "{wrong:?}");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let to = "http = \"hooks.example\", batch = \"many\", linger = \"5m\", body = \"xml\", timeout = \"1h\", in-flight = 0, sign = \"none\", ca = \"none.pem\", headers = { host = \"x\", authorization = \"{secret:none}\" }, comression = \"gzip\"";
        let found = read(to, folder.path()).unwrap_err();
        for wanted in [
            "to.http",
            "to.batch",
            "to.linger",
            "to.body",
            "to.timeout",
            "to.in-flight",
            "to.sign",
            "to.ca",
            "headers.host",
            "headers.authorization",
            "\"compression\"",
        ] {
            assert!(found.iter().any(|line| line.contains(wanted)), "{wanted}: {found:#?}");
        }
    }
}
