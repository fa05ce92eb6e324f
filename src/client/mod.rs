//! What the commands and the demo talk to a daemon with: JSON over HTTP/1.1, one connection kept per [`Client`]; and [`KafkaClient`].

mod kafka;
mod quotas;

pub use kafka::{END, Fetched, KafkaClient, START};
pub use quotas::{QuotaEntity, QuotaEntry};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A connection to one door. Calls block.
pub struct Client {
    runtime: Runtime,
    link: Link,
}

/// A connection to one door for tasks; [`Client`] is the same for threads.
pub struct Link {
    address: String,
    write_key: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// An answer of the daemon.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Client {
    /// A client of the door at `HOST:PORT`; connects at the first call.
    ///
    /// # Errors
    /// The system has no runtime to give.
    pub fn new(address: impl Into<String>) -> Result<Client> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Client { runtime, link: Link::new(address) })
    }

    /// The same client, which sends a write key with each request.
    pub fn with_write_key(mut self, key: Option<String>) -> Client {
        self.link = self.link.with_write_key(key);
        self
    }

    /// Sends a request and reads its whole answer. A kept connection that the daemon has closed is opened anew once.
    ///
    /// # Errors
    /// The daemon cannot be reached; the connection broke.
    pub fn call(&mut self, method: Method, path: &str, content_type: &str, body: impl Into<Bytes>) -> Result<Answer> {
        let body = body.into();
        let Client { runtime, link } = self;
        runtime.block_on(async {
            let is_kept = link.sender.is_some();
            match link.call(&method, path, content_type, body.clone()).await {
                Err(_) if is_kept => link.call(&method, path, content_type, body).await,
                answer => answer,
            }
        })
    }

    /// Gets an answer that comes line by line, without empty ones; ends when `each` says so or there are no more.
    ///
    /// # Errors
    /// As [`Client::json`]; or that of `each`.
    pub fn lines(&mut self, path: &str, mut each: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        let Client { runtime, link } = self;
        runtime.block_on(async {
            let mut body = link.open(path).await?;
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(piece) = frame?.into_data() else { continue };
                rest.extend_from_slice(&piece);
                let Some(end) = memchr::memrchr(b'\n', &rest) else { continue };
                for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    if !each(line)? {
                        return Ok(());
                    }
                }
                rest.drain(..=end);
            }
            Ok(())
        })
    }

    /// A call whose answer is JSON and says 2xx.
    ///
    /// # Errors
    /// As [`Client::call`]; or what the daemon said instead.
    pub fn json(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.call(method, path, "application/json", body)?;
        self.link.judged(answer.status, &answer.body)
    }
}

impl Link {
    /// A link to the door at `HOST:PORT`; connects at the first call.
    pub fn new(address: impl Into<String>) -> Link {
        Link { address: address.into(), write_key: None, sender: None }
    }

    /// The same link, which sends a write key with each request.
    pub fn with_write_key(mut self, key: Option<String>) -> Link {
        self.write_key = key;
        self
    }

    /// JSON, if the answer says 2xx.
    fn judged(&self, status: StatusCode, body: &[u8]) -> Result<Value> {
        let value: Value = serde_json::from_slice(body)
            .with_context(|| format!("{} answered {status} with something that is not JSON", self.address))?;
        if !status.is_success() {
            match value.get("error").and_then(Value::as_str) {
                Some(error) => bail!("{error}"),
                None => bail!("{status}: {value}"),
            }
        }
        Ok(value)
    }

    /// Asks for an answer that comes as it goes, on a connection of its own.
    async fn open(&self, path: &str) -> Result<Incoming> {
        let mut sender = connect(&self.address).await?;
        sender.ready().await?;
        let request = Request::builder().uri(path).header("host", &self.address).body(Full::new(Bytes::new()))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body();
        if !status.is_success() {
            self.judged(status, &body.collect().await?.to_bytes())?;
            bail!("{status}");
        }
        Ok(body)
    }

    /// Sends a request and reads its whole answer. Any error closes the connection; the next call opens another.
    ///
    /// # Errors
    /// The daemon cannot be reached; the connection broke, and nobody knows whether the request was taken.
    pub async fn call(&mut self, method: &Method, path: &str, content_type: &str, body: Bytes) -> Result<Answer> {
        // Taken out, so that a broken connection and a dropped future leave none behind.
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => connect(&self.address).await?,
        };
        sender.ready().await?;
        let request = Request::builder().method(method).uri(path).header("host", &self.address);
        let request = request.header("content-type", content_type);
        let request = match &self.write_key {
            Some(key) => request.header("x-write-key", key),
            None => request,
        };
        let request = request.body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        self.sender = Some(sender);
        Ok(Answer { status, body })
    }
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.with_context(|| format!("no daemon answers on {address}; start one: inrush serve"))?;
    stream.set_nodelay(true)?;
    let (sender, driver) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(sender)
}
