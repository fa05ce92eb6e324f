//! One connection to one broker: requests go out in order, answers come back in that order.

use super::sasl::{self, Sasl};
use super::{Error, Pulse, Settings};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, StreamOwned};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A broker that does not take a connection for so long is not there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// An answer that takes longer is none.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// What is written between two signs of life.
const CHUNK_SIZE: usize = 256 << 10;
/// Of the time that a login holds for; the rest is for what is asked then.
const LIFETIME_USED: f64 = 0.8;
/// How often a pulse is given while a broker is waited for.
const PULSE_INTERVAL: Duration = Duration::from_millis(500);
/// The number of the first request that a broker without a login may refuse.
const FIRST_AFTER_VERSIONS: i32 = 2;
/// What a port that speaks TLS answers to what is none: the beginning of an alert (RFC 8446, 5.1).
const TLS_ALERT: [u8; 2] = [21, 3];
/// No answer is larger: what one fetch may bring, and its frame.
const ANSWER_SIZE_MAX: usize = 104 << 20;

/// A connection, its handshakes done.
pub(super) struct Connection {
    stream: Stream,
    address: String,
    pulse: Pulse,
    correlation: i32,
    /// By request what the broker speaks, the first and the last.
    versions: HashMap<i16, (i16, i16)>,
    /// Requests whose answers are to come.
    sent: VecDeque<(i32, i16)>,
    /// The broker wants to be told anew then who this is, and closes the connection if it is not.
    expires: Option<Instant>,
    has_login: bool,
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Whom a client believes, under a name that tells one choice from another.
#[derive(Clone)]
pub struct Tls {
    pub name: String,
    pub config: Arc<ClientConfig>,
}

impl Tls {
    fn wrap(&self, address: &str, stream: TcpStream) -> Result<Stream, String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let client = ClientConnection::new(self.config.clone(), name).map_err(|error| format!("TLS: {error}"))?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(client, stream))))
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.name == other.name
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS ({})", self.name)
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Clear(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

impl Connection {
    /// Connects, asks what is spoken, and says who it is.
    pub(super) fn open(address: &str, settings: &Settings, pulse: &Pulse) -> Result<Connection, Error> {
        let failed = |error: io::Error| Error::Connection { address: address.to_owned(), reason: error.to_string() };
        let stream = connect(address, pulse).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(PULSE_INTERVAL)).map_err(failed)?;
        stream.set_write_timeout(Some(PULSE_INTERVAL)).map_err(failed)?;
        let stream = match &settings.tls {
            None => Stream::Clear(stream),
            Some(tls) => {
                tls.wrap(address, stream).map_err(|reason| Error::Connection { address: address.to_owned(), reason })?
            }
        };
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            pulse: pulse.clone(),
            correlation: 0,
            versions: HashMap::new(),
            sent: VecDeque::new(),
            expires: None,
            has_login: settings.sasl.is_some(),
        };
        connection.shake_hands()?;
        let told = connection.call(&ApiVersionsRequest::default())?;
        let ranges = told.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        connection.versions = ranges.collect();
        if let Some(sasl) = &settings.sasl {
            connection.authenticate(sasl)?;
        }
        Ok(connection)
    }

    /// TLS, where it is spoken.
    fn shake_hands(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            let Stream::Tls(stream) = &mut self.stream else { return Ok(()) };
            if !stream.conn.is_handshaking() {
                return Ok(());
            }
            match stream.conn.complete_io(&mut stream.sock) {
                Ok(_) => {}
                Err(error) if is_later(&error) => self.wait_on(deadline)?,
                Err(error) => return Err(self.failed(tls_told(&error))),
            }
        }
    }

    /// Says who this is; KIP-368: for how long that holds.
    fn authenticate(&mut self, sasl: &Sasl) -> Result<(), Error> {
        let lifetime = sasl::handshake(self, sasl)?;
        self.expires = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(LIFETIME_USED));
        Ok(())
    }

    /// Whether another connection is to take its place before anything else is asked.
    pub(super) fn has_expired(&self) -> bool {
        self.sent.is_empty() && self.expires.is_some_and(|expires| Instant::now() >= expires)
    }

    /// The version in which a request is sent: the newest that both sides know and that still names topics.
    fn version<Q: Request>(&self) -> Result<i16, Error> {
        let (min, max) = (Q::VERSIONS.min, newest(Q::KEY).min(Q::VERSIONS.max));
        if Q::KEY == ApiKey::ApiVersions as i16 {
            return Ok(0);
        }
        let (theirs_min, theirs_max) = self.versions.get(&Q::KEY).copied().unwrap_or((1, 0));
        let version = max.min(theirs_max);
        if version < min.max(theirs_min) {
            let api = ApiKey::try_from(Q::KEY).map_or_else(|()| Q::KEY.to_string(), |api| format!("{api:?}"));
            return Err(Error::Version { address: self.address.clone(), api, min, max });
        }
        Ok(version)
    }

    /// Whether the broker knows such requests at all.
    pub(super) fn speaks<Q: Request>(&self) -> bool {
        self.version::<Q>().is_ok()
    }

    /// Sends a request and takes its answer.
    pub(super) fn call<Q: Request>(&mut self, request: &Q) -> Result<Q::Response, Error> {
        self.send(request)?;
        self.receive::<Q>(Duration::ZERO)
    }

    /// Sends a request; its answer is to be taken by [`Connection::receive`], in the order of sending.
    pub(super) fn send<Q: Request>(&mut self, request: &Q) -> Result<(), Error> {
        let version = self.version::<Q>()?;
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("inrush")));
        let mut body = BytesMut::new();
        body.extend_from_slice(&[0; 4]);
        let header_version = Q::header_version(version);
        let encoded = header.encode(&mut body, header_version).and_then(|()| request.encode(&mut body, version));
        encoded.map_err(|error| self.failed(error.to_string()))?;
        let size = (body.len() - 4) as i32;
        body[..4].copy_from_slice(&size.to_be_bytes());
        self.write(&body)?;
        self.sent.push_back((self.correlation, version));
        Ok(())
    }

    /// A broker that takes nothing for as long as an answer may last is not there.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let mut deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            let written = match bytes.is_empty() {
                true => self.stream.flush().map(|()| 0),
                false => self.stream.write(&bytes[..bytes.len().min(CHUNK_SIZE)]),
            };
            match written {
                Ok(0) if bytes.is_empty() => return Ok(()),
                Ok(0) => return Err(self.failed("the connection was closed".to_owned())),
                Ok(count) => {
                    bytes = &bytes[count..];
                    deadline = Instant::now() + ANSWER_PATIENCE;
                }
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(self.failed(error.to_string())),
            }
            self.wait_on(deadline)?;
        }
    }

    /// A sign of life, if there is time left and somebody waits.
    fn wait_on(&self, deadline: Instant) -> Result<(), Error> {
        if Instant::now() >= deadline {
            return Err(self.failed("no answer in time".to_owned()));
        }
        if !(self.pulse)() {
            return Err(self.failed("nobody waits for the answer any more".to_owned()));
        }
        Ok(())
    }

    /// The answer to the oldest request that has none; it may take `wait` longer than others.
    pub(super) fn receive<Q: Request>(&mut self, wait: Duration) -> Result<Q::Response, Error> {
        self.receive_until::<Q>(Instant::now() + ANSWER_PATIENCE + wait)
    }

    /// The same, at the latest at this moment.
    pub(super) fn receive_until<Q: Request>(&mut self, deadline: Instant) -> Result<Q::Response, Error> {
        let Some((correlation, version)) = self.sent.pop_front() else {
            return Err(self.failed("an answer is waited for that was not asked for".to_owned()));
        };
        let mut size = [0; 4];
        self.read(&mut size, deadline)?;
        if size.starts_with(&TLS_ALERT) {
            return Err(self.failed("this port speaks TLS: add tls = { ca = \"FILE\" } with the cluster's certificates, or tls = true where a public authority has signed them".to_owned()));
        }
        let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if size > ANSWER_SIZE_MAX {
            return Err(self.failed(format!("an answer of {size} bytes exceeds the limit of {ANSWER_SIZE_MAX}")));
        }
        let mut bytes = BytesMut::zeroed(size);
        self.read(&mut bytes, deadline)?;
        let mut bytes: Bytes = bytes.freeze();
        let failed = |error: String| Error::Connection { address: self.address.clone(), reason: error };
        let header = ResponseHeader::decode(&mut bytes, Q::Response::header_version(version));
        let header = header.map_err(|error| failed(error.to_string()))?;
        if header.correlation_id != correlation {
            return Err(failed(format!("answer {} came in place of {correlation}", header.correlation_id)));
        }
        let answer = Q::Response::decode(&mut bytes, version).map_err(|error| failed(error.to_string()))?;
        if bytes.has_remaining() {
            return Err(failed(format!("{} bytes follow an answer", bytes.remaining())));
        }
        Ok(answer)
    }

    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> Result<(), Error> {
        while !into.is_empty() {
            self.wait_on(deadline)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = left.min(PULSE_INTERVAL).max(Duration::from_millis(1));
            self.stream.socket().set_read_timeout(Some(timeout)).map_err(|error| self.failed(error.to_string()))?;
            match self.stream.read(into) {
                Ok(0) => return Err(self.failed(self.closed())),
                Ok(read) => into = &mut into[read..],
                Err(error) if is_later(&error) => {}
                // TLS, whose other side went without a farewell.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.failed(self.closed())),
                Err(error) => return Err(self.failed(error.to_string())),
            }
        }
        Ok(())
    }

    fn closed(&self) -> String {
        // A broker that wants a login closes without a word what does not begin with one.
        let wants_login = !self.has_login && !self.versions.is_empty() && self.correlation == FIRST_AFTER_VERSIONS;
        let hint = if wants_login { "; if the broker wants a login, say it with sasl" } else { "" };
        format!("the connection was closed{hint}")
    }

    pub(super) fn failed(&self, reason: String) -> Error {
        Error::Connection { address: self.address.clone(), reason }
    }
}

/// The newest version of a request that is spoken here: later ones name topics by id.
fn newest(key: i16) -> i16 {
    match ApiKey::try_from(key) {
        Ok(ApiKey::Produce) => 12,
        Ok(ApiKey::Fetch) => 12,
        Ok(ApiKey::Metadata) => 12,
        Ok(ApiKey::ListOffsets) => 7,
        Ok(ApiKey::InitProducerId) => 4,
        // The older forms of these have one group or one coordinator an answer.
        Ok(ApiKey::FindCoordinator) => 3,
        Ok(ApiKey::OffsetFetch) => 7,
        Ok(ApiKey::OffsetCommit) => 8,
        Ok(ApiKey::JoinGroup) => 7,
        Ok(ApiKey::SyncGroup) => 5,
        Ok(ApiKey::Heartbeat) => 4,
        Ok(ApiKey::LeaveGroup) => 4,
        _ => i16::MAX,
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// A handshake's error, and what to do about it.
fn tls_told(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let hint = match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            ": name the authority that has signed the brokers' certificates with tls = { ca = \"FILE\" }"
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => ": servers, and what the brokers advertise, must be names that their certificates are for",
        Some(rustls::Error::InvalidMessage(_)) => ": this port speaks no TLS; name the one that does, or leave out tls",
        _ if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            ": a port that speaks no TLS closes the connection so; name the one that does, or leave out tls"
        }
        _ => "",
    };
    format!("TLS: {error}{hint}")
}

/// The first address of the name that takes a connection.
fn connect(address: &str, pulse: &Pulse) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for place in address.to_socket_addrs()? {
        // Each may take its whole time.
        if !pulse() {
            return Err(io::Error::other("nobody waits for the connection any more"));
        }
        match TcpStream::connect_timeout(&place, CONNECT_PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
