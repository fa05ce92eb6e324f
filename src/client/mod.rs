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
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::OnceLock;
use std::time::Duration;
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
            let address = link.address.clone();
            let asked = async {
                match link.call(&method, path, content_type, body.clone()).await {
                    Err(_) if is_kept => link.call(&method, path, content_type, body).await,
                    answer => answer,
                }
            };
            patiently(&address, asked).await?
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

    /// Records of a topic's partition. `from` is an offset or what else the door takes.
    ///
    /// # Errors
    /// The daemon cannot be reached, or says why not.
    pub fn page(&mut self, topic: &str, partition: i32, from: &str, limit: u64) -> Result<Page> {
        let path = format!("/v1/topics/{topic}/events?partition={partition}&from={from}&limit={limit}");
        let answer = self.call(Method::GET, &path, "application/json", "")?;
        self.link.judged(answer.status, &answer.body)
    }
}

/// How who waits is told.
static TELL: OnceLock<fn(&str)> = OnceLock::new();

/// Has who waits for a slow answer told so, in this process; without it nobody is.
pub fn tell_who_waits(tell: fn(&str)) {
    // Once is enough.
    let _ = TELL.set(tell);
}

/// Who waits for an answer is told after this, and gives up after that: some answers have whole topics to read.
const TOLD_AFTER: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// A page of records.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Each an object as the door wrote it: no value is read and written anew.
    pub events: Vec<Box<RawValue>>,
    /// Where the next page begins.
    pub next: i64,
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
    fn judged<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T> {
        let other = || format!("{} answered {status} with something that is not JSON as it is wanted", self.address);
        if !status.is_success() {
            let value: Value = serde_json::from_slice(body).with_context(other)?;
            match value.get("error").and_then(Value::as_str) {
                Some(error) => bail!("{error}"),
                None => bail!("{status}: {value}"),
            }
        }
        serde_json::from_slice(body).with_context(other)
    }

    /// Asks for an answer that comes as it goes, on a connection of its own.
    async fn open(&self, path: &str) -> Result<Incoming> {
        let request = Request::builder().uri(path).header("host", &self.address).body(Full::new(Bytes::new()))?;
        let begun = async {
            let mut sender = connect(&self.address).await?;
            sender.ready().await?;
            anyhow::Ok(sender.send_request(request).await?)
        };
        let response = patiently(&self.address, begun).await??;
        let status = response.status();
        let body = response.into_body();
        if !status.is_success() {
            self.judged::<Value>(status, &body.collect().await?.to_bytes())?;
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

/// What comes of a question, for which somebody waits: he is told when it takes long, and that is not for ever.
async fn patiently<T>(address: &str, asked: impl Future<Output = T>) -> Result<T> {
    let mut asked = std::pin::pin!(asked);
    if let Ok(answer) = tokio::time::timeout(TOLD_AFTER, &mut asked).await {
        return Ok(answer);
    }
    if let Some(tell) = TELL.get() {
        tell(&format!("{address} has not answered for {} s, it is waited for", TOLD_AFTER.as_secs()));
    }
    match tokio::time::timeout(ANSWER_TIME_MAX - TOLD_AFTER, asked).await {
        Ok(answer) => Ok(answer),
        Err(_) => bail!("{address} did not answer within {} s: does the daemon hang?", ANSWER_TIME_MAX.as_secs()),
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
