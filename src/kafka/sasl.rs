//! Who a client is: SASL PLAIN (RFC 4616), SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), inside SaslAuthenticate frames (KIP-152).

use super::connection::Connection;
use super::{Error, check};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use sha2::{Digest, Sha256, Sha512};
use std::fmt;
use std::time::Duration;

/// A server that asks for more rounds of hashing than this is not asked to log in: it would take seconds.
const ITERATIONS_MAX: u32 = 1_000_000;
const NONCE_SIZE: usize = 18;

/// How a client says who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub username: String,
    pub password: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name may be a secret too.
        write!(f, "{}", self.mechanism.name())
    }
}

impl Mechanism {
    pub const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

    /// As Kafka's `sasl.mechanism` names it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Mechanism::Plain | Mechanism::ScramSha256 => Sha256::digest(bytes).to_vec(),
            Mechanism::ScramSha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        const ANY_LENGTH: &str = "HMAC takes keys of any length";
        match self {
            Mechanism::Plain | Mechanism::ScramSha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_LENGTH);
                mac.update(bytes);
                mac.finalize().into_bytes().to_vec()
            }
            Mechanism::ScramSha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(key).expect(ANY_LENGTH);
                mac.update(bytes);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

    /// `Hi` of RFC 5802: PBKDF2 for one block.
    fn stretched(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut last = self.hmac(password, &[salt, &1u32.to_be_bytes()].concat());
        let mut all = last.clone();
        for _ in 1..iterations {
            last = self.hmac(password, &last);
            all.iter_mut().zip(&last).for_each(|(all, last)| *all ^= last);
        }
        all
    }
}

/// Logs in on a new connection; gives how long the broker lets that hold, if it says so.
pub(super) fn handshake(connection: &mut Connection, sasl: &Sasl) -> Result<Option<Duration>, Error> {
    let what = || format!("cannot log in to Kafka with {sasl:?}");
    let refused = |error: ResponseError, detail: String| Error::Refused { what: what(), error, detail: Some(detail) };
    let name = StrBytes::from_static_str(sasl.mechanism.name());
    let answer = connection.call(&SaslHandshakeRequest::default().with_mechanism(name))?;
    match ResponseError::try_from_code(answer.error_code) {
        None => {}
        Some(error @ ResponseError::UnsupportedSaslMechanism) => {
            let theirs = answer.mechanisms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(refused(error, format!("it takes {theirs}: say one of them as mechanism of sasl")));
        }
        Some(error @ ResponseError::IllegalSaslState) => {
            let detail = "this port wants no login: name the one that does, or leave out sasl";
            return Err(refused(error, detail.to_owned()));
        }
        Some(_) => check(answer.error_code, what)?,
    }
    let mut lifetime = 0;
    let mut say = |bytes: Vec<u8>| -> Result<Bytes, Error> {
        let answer = connection.call(&SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(bytes)))?;
        lifetime = answer.session_lifetime_ms;
        let Some(error) = ResponseError::try_from_code(answer.error_code) else { return Ok(answer.auth_bytes) };
        let told = answer.error_message.map(|message| message.to_string()).unwrap_or_default();
        Err(refused(error, format!("{told}: look at username, password and mechanism of sasl")))
    };
    match sasl.mechanism {
        Mechanism::Plain => say(format!("\0{}\0{}", sasl.username, sasl.password).into_bytes()).map(drop)?,
        Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            exchange(sasl, say)?.map_err(|reason| Error::Connection { address: what(), reason })?;
        }
    }
    Ok(u64::try_from(lifetime).ok().filter(|ms| *ms > 0).map(Duration::from_millis))
}

/// Both sides show that they know the password; else why not.
fn exchange(sasl: &Sasl, mut say: impl FnMut(Vec<u8>) -> Result<Bytes, Error>) -> Result<Result<(), String>, Error> {
    let nonce: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(NONCE_SIZE).collect();
    let scram = Scram::new(sasl, STANDARD.encode(nonce));
    let first = say(scram.first().into_bytes())?;
    let (last, proof) = match scram.last(&first) {
        Ok(last) => last,
        Err(reason) => return Ok(Err(reason)),
    };
    let end = say(last.into_bytes())?;
    // The server knows the password too, or it is not the one that was meant.
    Ok(match std::str::from_utf8(&end) == Ok(&format!("v={}", STANDARD.encode(proof))) {
        true => Ok(()),
        false => Err("the server does not prove that it knows the password".to_owned()),
    })
}

/// One exchange of SCRAM.
struct Scram<'a> {
    sasl: &'a Sasl,
    bare: String,
    nonce: String,
}

impl Scram<'_> {
    fn new(sasl: &Sasl, nonce: String) -> Scram<'_> {
        let username = sasl.username.replace('=', "=3D").replace(',', "=2C");
        Scram { sasl, bare: format!("n={username},r={nonce}"), nonce }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The last message to the server, and what it has to answer.
    fn last(&self, server_first: &[u8]) -> Result<(String, Vec<u8>), String> {
        let text = std::str::from_utf8(server_first).map_err(|error| error.to_string())?;
        let field = |name: &str| {
            text.split(',')
                .find_map(|part| part.strip_prefix(name))
                .ok_or_else(|| format!("the server's first message \"{text}\" lacks {name}"))
        };
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server answers somebody else's greeting".to_owned());
        }
        let salt = STANDARD.decode(field("s=")?).map_err(|error| error.to_string())?;
        let iterations: u32 = field("i=")?.parse().map_err(|_| "the server's iterations are no number".to_owned())?;
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(format!("{iterations} iterations are not in 1 to {ITERATIONS_MAX}"));
        }
        let mechanism = self.sasl.mechanism;
        let salted = mechanism.stretched(self.sasl.password.as_bytes(), &salt, iterations);
        let client_key = mechanism.hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{text},{without_proof}", self.bare);
        let signature = mechanism.hmac(&mechanism.hash(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = mechanism.hmac(&salted, b"Server Key");
        let verifier = mechanism.hmac(&server_key, message.as_bytes());
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), verifier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_that_of_rfc_7677() {
        let sasl =
            Sasl { mechanism: Mechanism::ScramSha256, username: "user".to_owned(), password: "pencil".to_owned() };
        let scram = Scram::new(&sasl, "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, verifier) = scram.last(server).unwrap();
        assert!(last.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{last}");
        assert_eq!(STANDARD.encode(verifier), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_that_answers_somebody_else_or_asks_too_much_is_refused() {
        let sasl = Sasl { mechanism: Mechanism::ScramSha512, username: "a=b,c".to_owned(), password: "p".to_owned() };
        let scram = Scram::new(&sasl, "mine".to_owned());
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=mine");
        for wrong in [
            "r=other1,s=YQ==,i=4096",
            "r=mine,s=YQ==,i=4096",
            "r=mine1,s=YQ==,i=0",
            "r=mine1,s=YQ==,i=9999999",
            "r=mine1,i=1",
            "x",
        ] {
            assert!(scram.last(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(format!("{sasl:?}"), "SCRAM-SHA-512", "a name may be a secret as a password is");
    }
}
