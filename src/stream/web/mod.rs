//! HTTP/1.1 as a client, with or without TLS: one address, one connection that is kept. For HTTP outputs and schema registries.
//!
//! Knows no retry, no proxy and no time limit: who asks sets one around the call. A redirect is an answer like any other.

mod address;
#[cfg(test)]
mod tests;
mod tls;

pub(super) use address::Address;
pub(super) use tls::Trust;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer, as far as it was read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Its first bytes.
    pub(super) body: Bytes,
    /// Why that is not all of it.
    pub(super) cut_off: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: &'a str,
    /// Beside `host`.
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
    /// More of the answer is not read.
    pub(super) answer_size_max: usize,
}

/// Connects when something is asked; again if the other side has closed it.
pub(super) struct Connection {
    address: Address,
    trust: Trust,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// The beginning of the last answer.
    heard: Option<(StatusCode, HeaderMap)>,
}

impl Connection {
    pub(super) fn new(address: Address, trust: Trust) -> Connection {
        Connection { address, trust, sender: None, heard: None }
    }

    /// Asks and reads the answer. A connection that was kept and turns out to be closed is made once more; the other side may then have
    /// seen what was asked already.
    ///
    /// # Errors
    /// It cannot be reached, or no status came back.
    pub(super) async fn ask(&mut self, asked: &Asked<'_>) -> Result<Answer, String> {
        self.heard = None;
        if let Some(sender) = self.sender.take_if(|sender| sender.is_ready())
            && let Ok(answer) = self.ask_over(sender, asked).await
        {
            return Ok(answer);
        }
        let sender = self.connect().await?;
        self.ask_over(sender, asked).await
    }

    /// What has come of the last answer, for who gave up waiting for the rest; not its body.
    pub(super) fn heard(&mut self) -> Option<Answer> {
        let (status, headers) = self.heard.take()?;
        Some(Answer { status, headers, body: Bytes::new(), cut_off: Some("its body did not come in time".to_owned()) })
    }

    /// What comes next goes over another connection.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    async fn ask_over(&mut self, mut sender: SendRequest<Full<Bytes>>, asked: &Asked<'_>) -> Result<Answer, String> {
        let mut request = Request::builder().method(asked.method.clone()).uri(asked.target);
        if let Some(headers) = request.headers_mut() {
            headers.extend(asked.headers.clone());
        }
        let request = request.header("host", self.address.host_header()).body(Full::new(asked.body.clone()));
        let request = request.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| told(&error))?;
        let (head, body) = answer.into_parts();
        self.heard = Some((head.status, head.headers.clone()));
        let (body, cut_off) = first_bytes(body, asked.answer_size_max).await;
        if cut_off.is_none() {
            self.sender = Some(sender);
        }
        Ok(Answer { status: head.status, headers: head.headers, body, cut_off })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect((self.address.host(), self.address.port())).await;
        let stream = stream.map_err(|error| error.to_string())?;
        // A request is written whole.
        let _ = stream.set_nodelay(true);
        let failed = |error: hyper::Error| told(&error);
        if !self.address.is_tls() {
            let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
            tokio::spawn(driver);
            return Ok(sender);
        }
        let stream = self.trust.connect(self.address.host(), stream).await?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(driver);
        Ok(sender)
    }
}

/// The first bytes of a body, and why they are not all.
async fn first_bytes(mut body: Incoming, size_max: usize) -> (Bytes, Option<String>) {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Err(error) => return (read.freeze(), Some(format!("the answer broke off: {}", told(&error)))),
            Ok(frame) => {
                let Some(data) = frame.data_ref() else { continue };
                let room = size_max - read.len();
                read.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    return (read.freeze(), Some(format!("the answer has more than {size_max} bytes")));
                }
            }
        }
    }
    (read.freeze(), None)
}

/// An error with what caused it, which hyper keeps to itself.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
