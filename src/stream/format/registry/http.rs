//! How a registry is reached: one connection for one fetch, with a user's name and password if it wants them.

use super::super::super::web::{self, Address, Asked, Trust};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

/// A registered schema is not larger.
const ANSWER_SIZE_MAX: usize = 4 << 20;
const ACCEPTED: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// Where a registry is, and who asks.
#[derive(Clone, Debug)]
pub(in crate::stream) struct Access {
    address: Address,
    trust: Trust,
    /// The password's value is marked as sensitive: nothing shows it.
    headers: HeaderMap,
}

impl Access {
    /// The registry at `http[s]://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub(in crate::stream) fn new(url: &str) -> Result<Access, String> {
        let address = Address::parse(url)?;
        if address.has_query() {
            return Err("the address of a registry has no question mark".to_owned());
        }
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]);
        Ok(Access { address, trust: Trust::Machine, headers })
    }

    pub(in crate::stream) fn trusting(self, trust: Trust) -> Access {
        Access { trust, ..self }
    }

    /// As this user, by HTTP Basic.
    pub(in crate::stream) fn of_user(mut self, user: &str, password: &str) -> Access {
        let coded = STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {coded}")).expect("base64 is plain ASCII");
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        self
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }
}

/// Connects when something is asked; again if the registry has closed it.
pub(super) struct Connection<'a> {
    access: &'a Access,
    connection: web::Connection,
}

impl<'a> Connection<'a> {
    pub(super) fn new(access: &'a Access) -> Connection<'a> {
        let connection = web::Connection::new(access.address.clone(), access.trust.clone());
        Connection { access, connection }
    }

    /// Status and whole body of what stands at this path below the registry's.
    ///
    /// # Errors
    /// It cannot be reached, or its answer is too long or breaks off.
    pub(super) async fn get(&mut self, path: &str) -> Result<(StatusCode, Bytes), String> {
        let target = format!("{}{path}", self.access.address.path());
        let asked = Asked {
            method: Method::GET,
            target: &target,
            headers: &self.access.headers,
            body: Bytes::new(),
            answer_size_max: ANSWER_SIZE_MAX,
        };
        let answer = self.connection.ask(&asked).await?;
        match answer.cut_off {
            Some(why) => Err(format!("of what stands at {path}: {why}")),
            None => Ok((answer.status, answer.body)),
        }
    }
}
