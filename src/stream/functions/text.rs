//! Hashes and JSON.

use super::udf::{Body, udf};
use datafusion_expr::ScalarUDF;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub(super) fn sha256(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|text| Some(hex(&Sha256::digest(text.as_bytes())))))
}

pub(super) fn hmac_sha256(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text2(hmac))
}

/// Never computed: [`crate::stream::secrets`] puts the secret in its place when the pipeline is planned.
pub(super) fn secret(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text(|_| None))
}

pub(super) fn json_get(name: &'static str) -> ScalarUDF {
    udf(name, Body::Text2(get))
}

fn hmac(text: &str, secret: &str) -> Option<String> {
    // HMAC takes keys of every length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(text.as_bytes());
    Some(hex(&mac.finalize().into_bytes()))
}

fn get(json: &str, path: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let pointer = if path.starts_with('/') { path.to_owned() } else { format!("/{}", path.replace('.', "/")) };
    match value.pointer(&pointer)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pseudonym_is_that_of_the_rfc() {
        // RFC 4231, test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hmac("what do ya want for nothing?", "Jefe").as_deref(), Some(expected));
    }

    #[test]
    fn json_is_reached_into() {
        let json = r#"{"a":{"b":"x","c":[1,{"d":true}]},"n":null}"#;
        assert_eq!(get(json, "a.b").as_deref(), Some("x"));
        assert_eq!(get(json, "/a/c/1/d").as_deref(), Some("true"));
        assert_eq!(get(json, "a.c").as_deref(), Some(r#"[1,{"d":true}]"#));
        assert_eq!((get(json, "n"), get(json, "z"), get("no json", "a")), (None, None, None));
    }
}
