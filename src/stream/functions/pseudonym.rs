//! Hashes: names that nobody can read and that stay the same.

use super::call::{Call, Function, Gives, Takes};
use arrow::array::{ArrayRef, StringArray};
use datafusion_common::Result;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "hmac_sha256",
        takes: &[("value", Takes::Text), ("secret", Takes::Text)],
        optional: 0,
        gives: Gives::Text,
        meaning: "keyed pseudonym, hex; the secret is best secret('NAME')",
        examples: &[(
            "hmac_sha256('what do ya want for nothing?', secret('visitors'))",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        )],
        compute: hmacs,
    },
    Function {
        name: crate::stream::secrets::FUNCTION,
        takes: &[("name", Takes::Text)],
        optional: 0,
        gives: Gives::Text,
        meaning: "what the file NAME holds, under $CREDENTIALS_DIRECTORY or in secrets/ beside the pipeline file; read when the pipeline starts",
        // Of a file that holds Jefe.
        examples: &[("length(secret('visitors'))", "4")],
        // crate::stream::secrets puts the secret in its place when the pipeline is planned.
        compute: |call| call.nothing(),
    },
    Function {
        name: "sha256",
        takes: &[("value", Takes::Text)],
        optional: 0,
        gives: Gives::Text,
        meaning: "SHA-256, hex; of names and addresses anybody can make a list of them: use hmac_sha256",
        examples: &[("sha256('abc')", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")],
        compute: |call| call.each_text::<StringArray, _>(|text| Some(hex::encode(Sha256::digest(text.as_bytes())))),
    },
];

fn hmacs(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, secrets) = (call.texts(0)?, call.texts(1)?);
    let keyed = |secret: &str| Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok();
    // A constant secret is worked into the key once, not once a row.
    let constant = secrets.constant().and_then(keyed);
    call.each::<StringArray, _>(|row| {
        let text = texts.get(row)?;
        let mut mac = match &constant {
            Some(mac) => mac.clone(),
            None => keyed(secrets.get(row)?)?,
        };
        mac.update(text.as_bytes());
        Some(hex::encode(mac.finalize().into_bytes()))
    })
}
