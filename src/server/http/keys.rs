//! Write keys. They are public identifiers that stand in web pages: what they are good for is to be taken away from one sender.

use super::headers::Headers;
use base64::{Engine, engine::general_purpose::STANDARD_PAD_INDIFFERENT};
use sha2::{Digest, Sha256};

/// Who may write: the hashes of keys, never the keys. Empty: everybody.
#[derive(Clone, Debug, Default)]
pub struct WriteKeys {
    hashes: Vec<[u8; 32]>,
}

impl WriteKeys {
    /// Of SHA-256 hashes in hex.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(hashes: &[String]) -> Result<WriteKeys, &'static str> {
        let wrong = "write-keys holds SHA-256 hashes in hex, never the keys themselves: printf %s KEY | sha256sum";
        let byte = |pair: &[u8]| Some(char::from(pair[0]).to_digit(16)? << 4 | char::from(pair[1]).to_digit(16)?);
        let hash = |text: &String| {
            let bytes: Option<Vec<u8>> =
                text.as_bytes().chunks_exact(2).map(|pair| byte(pair).map(|b| b as u8)).collect();
            bytes.filter(|_| text.len() == 64)?.try_into().ok()
        };
        let hashes = hashes.iter().map(|text| hash(text).ok_or(wrong)).collect::<Result<_, _>>()?;
        Ok(WriteKeys { hashes })
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the request may write: header `X-Write-Key`, user of HTTP Basic, a bearer, or `?key=` (beacons cannot set headers).
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn check(&self, headers: &Headers<'_>, query: Option<&str>) -> Result<(), &'static str> {
        if self.is_empty() {
            return Ok(());
        }
        let by_authorization = || {
            let (scheme, value) = headers.text("authorization")?.split_once(' ')?;
            match scheme {
                _ if scheme.eq_ignore_ascii_case("basic") => basic_user(value),
                _ if scheme.eq_ignore_ascii_case("bearer") => Some(value.trim().to_owned()),
                _ => None,
            }
        };
        let key = headers
            .text("x-write-key")
            .map(str::to_owned)
            .or_else(by_authorization)
            .or_else(|| super::query::parameter(query, "key"))
            .ok_or("a write key is needed: header X-Write-Key, Basic user, Bearer, or ?key=")?;
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        // All are compared to their end: the time tells neither which one nor how far it fits.
        let is_known = self.hashes.iter().fold(false, |found, known| found | is_equal(known, &hash));
        if is_known { Ok(()) } else { Err("this write key is not known; its SHA-256 must stand under write-keys") }
    }
}

fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

/// The user of HTTP Basic: base64 of `user:password` or `user`.
fn basic_user(encoded: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD_PAD_INDIFFERENT.decode(encoded.trim()).ok()?).ok()?;
    Some(text.split(':').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "secret".
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn is_let_in(name: &'static str, value: &str, query: Option<&str>) -> bool {
        let headers = [httparse::Header { name, value: value.as_bytes() }];
        let other = "0".repeat(64);
        WriteKeys::parse(&[other, HASH.to_uppercase()]).unwrap().check(&Headers::Slices(&headers), query).is_ok()
    }

    #[test]
    fn a_key_may_come_in_every_way_that_clients_know() {
        assert!(is_let_in("x-write-key", "secret", None));
        assert!(is_let_in("authorization", "Basic c2VjcmV0Og==", None));
        assert!(is_let_in("authorization", "bearer secret", None));
        assert!(is_let_in("accept", "*/*", Some("camera=1&key=se%63ret")));
        assert!(!is_let_in("x-write-key", "Secret", None));
        assert!(!is_let_in("accept", "*/*", None));
        assert!(!is_let_in("authorization", "Basic !!", None));
    }

    #[test]
    fn keys_themselves_are_not_taken_for_hashes() {
        for wrong in ["secret", &HASH[1..], &HASH.replace('2', "g")] {
            assert!(WriteKeys::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(WriteKeys::parse(&[]).unwrap().check(&Headers::Slices(&[]), None).is_ok());
    }

    #[test]
    fn the_user_of_basic_auth_is_the_key() {
        assert_eq!(basic_user("d3JpdGVLZXk6").as_deref(), Some("writeKey"));
        assert_eq!(basic_user("a2V5OnBhc3M=").as_deref(), Some("key"));
        assert_eq!(basic_user("!!"), None);
    }
}
