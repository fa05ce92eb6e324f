//! GET over HTTP/1.1 without TLS, one connection for one fetch.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::fmt;
use tokio::net::TcpStream;

/// A registered schema is not larger.
const ANSWER_SIZE_MAX: usize = 4 << 20;
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// Where a registry is.
#[derive(Clone, Debug)]
pub(super) struct Address {
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
}

impl Address {
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn parse(url: &str) -> Result<Address, String> {
        let example = "write http://HOST:PORT";
        let uri: Uri = url.parse().map_err(|error| format!("\"{url}\" is no address: {error}; {example}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err("TLS is not spoken here: reach the registry by http://, over a private network or by way of a proxy on this host".to_owned());
            }
            _ => return Err(format!("\"{url}\" is no address; {example}")),
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            return Err(format!("an address has no user and no question mark; {example}"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("\"{url}\" names no host"))?;
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Address { host: host.to_owned(), port: uri.port_u16().unwrap_or(80), path })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Connects when something is asked; again if the registry has closed it.
pub(super) struct Connection<'a> {
    address: &'a Address,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(address: &'a Address) -> Connection<'a> {
        Connection { address, sender: None }
    }

    /// Status and whole body of what stands at this path below the registry's.
    ///
    /// # Errors
    /// It cannot be reached, or its answer is too long or breaks off.
    pub(super) async fn get(&mut self, path: &str) -> Result<(StatusCode, Bytes), String> {
        let kept = self.sender.take_if(|sender| sender.is_ready());
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let host = format!("{}:{}", self.address.host, self.address.port);
        let request =
            Request::get(format!("{}{path}", self.address.path)).header("host", host).header("accept", ACCEPT);
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        let body = body.map_err(|error| format!("its answer to {path} broke off: {error}"))?.to_bytes();
        self.sender = Some(sender);
        Ok((status, body))
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let host = self.address.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.address.port)).await.map_err(|error| error.to_string())?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(driver);
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port_and_perhaps_a_path() {
        let shown = |url: &str| Address::parse(url).map(|address| address.to_string());
        assert_eq!(shown("http://registry:8081").as_deref(), Ok("http://registry:8081"));
        assert_eq!(shown("http://registry/apis/ccompat/v7/").as_deref(), Ok("http://registry:80/apis/ccompat/v7"));
        assert_eq!(shown("http://[::1]:1").as_deref(), Ok("http://[::1]:1"));
        for wrong in
            ["https://registry", "registry:8081", "http://", "", "http://a@b", "http://a b", "file:///x", "http://a/?b"]
        {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
        assert!(shown("https://registry").unwrap_err().contains("TLS"));
    }
}
