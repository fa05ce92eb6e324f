//! Signatures in the manner of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over `ID.TIMESTAMP.BODY`.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Keys of one receiver, so many at a time while they change.
const KEYS_MAX: usize = 4;

/// Keys to sign with; nothing shows them.
#[derive(Clone, Default)]
pub(super) struct Keys(pub(super) Vec<Vec<u8>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// A key a line: `whsec_` and base64, or bytes as they stand.
    ///
    /// # Errors
    /// What is wrong, without the key.
    pub(super) fn parse(text: &str) -> Result<Keys, String> {
        let key = |line: &str| match line.strip_prefix("whsec_") {
            Some(coded) => STANDARD.decode(coded).map_err(|_| "what follows whsec_ is no base64".to_owned()),
            None => Ok(line.as_bytes().to_vec()),
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<Vec<u8>> = lines.map(key).collect::<Result<_, _>>()?;
        match keys.len() {
            1..=KEYS_MAX => Ok(Keys(keys)),
            count => Err(format!("it holds {count} keys, one a line; 1 to {KEYS_MAX} are right")),
        }
    }

    /// The header's value: `v1,BASE64` of each key, with spaces between; `None` without keys.
    pub(super) fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> Option<String> {
        let signed = |key: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.update(format!("{id}.{timestamp_s}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        (!self.0.is_empty()).then(|| self.0.iter().map(signed).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_example_of_standard_webhooks_is_signed_as_it_says() {
        // From the reference libraries of standard-webhooks.
        let keys = Keys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn two_keys_sign_both_while_one_takes_over_from_the_other() {
        let keys = Keys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nplain words\n").unwrap();
        let signed = keys.sign("a", 1, b"x").unwrap();
        let (first, second) = signed.split_once(' ').unwrap();
        assert_eq!(Some(second.to_owned()), Keys::parse("plain words").unwrap().sign("a", 1, b"x"));
        assert!(first.starts_with("v1,") && first != second);
        assert_eq!(Keys::default().sign("a", 1, b"x"), None);
        let wrong = Keys::parse("whsec_%%%").unwrap_err();
        assert!(wrong.contains("base64") && !wrong.contains("%%%"), "{wrong}");
        assert!(Keys::parse("\n\n").is_err());
    }
}
