//! A web server that a test plays: it writes down what it is sent and answers by a script.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) at: Instant,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    /// As it was sent.
    pub(super) body: Vec<u8>,
    /// `n` of each row.
    pub(super) numbers: Vec<i64>,
    pub(super) target: String,
    /// Whether it was answered with 2xx.
    pub(super) is_taken: bool,
}

/// What the script says to a request.
pub(super) enum Reply {
    Status(u16, String),
    /// With a header.
    With(u16, (&'static str, String)),
    /// Nothing, for as long as this.
    Hang(Duration),
    /// The connection ends before the answer.
    Close,
    /// It ends within the answer's body, behind the status.
    CloseInBody(u16),
    /// Nothing comes behind the status, and the connection stays.
    HangInBody(u16),
    /// The same answer, this much later.
    Slow(Duration, u16),
}

type Script = dyn FnMut(&Received) -> Reply + Send;

#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    script: Arc<Mutex<Box<Script>>>,
}

impl Receiver {
    /// Listens for as long as the test's process lives.
    pub(super) fn start(script: impl FnMut(&Received) -> Reply + Send + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver {
            port: listener.local_addr().unwrap().port(),
            received: Arc::default(),
            script: Arc::new(Mutex::new(Box::new(script))),
        };
        let own = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        receiver
    }

    pub(super) fn well() -> Receiver {
        Receiver::start(|_| Reply::Status(200, String::new()))
    }

    pub(super) fn script(&self, script: impl FnMut(&Received) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// `to`, with more settings.
    pub(super) fn to(&self, more: &str) -> String {
        format!("{{ http = \"http://127.0.0.1:{}/in\", linger = \"5ms\"{more} }}", self.port)
    }

    /// `n` of all rows that were taken, as one sees them who keeps ids and drops what he knows; sorted.
    pub(super) fn rows(&self) -> Vec<i64> {
        let mut known = BTreeSet::new();
        let mut rows = Vec::new();
        for one in self.received().into_iter().filter(|one| one.is_taken) {
            if known.insert(one.headers["webhook-id"].clone()) {
                rows.extend(one.numbers);
            }
        }
        rows.sort_unstable();
        rows
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let mut received = request(&mut reader)?;
            let reply = (self.script.lock().unwrap())(&received);
            let (status, header) = match &reply {
                Reply::Status(status, _)
                | Reply::CloseInBody(status)
                | Reply::HangInBody(status)
                | Reply::Slow(_, status) => (*status, None),
                Reply::With(status, header) => (*status, Some(header)),
                Reply::Hang(_) | Reply::Close => (0, None),
            };
            received.is_taken = (200..300).contains(&status);
            self.received.lock().unwrap().push(received);
            let body = match &reply {
                Reply::Status(_, body) => body.as_str(),
                _ => "",
            };
            let length = if matches!(reply, Reply::CloseInBody(_) | Reply::HangInBody(_)) { 100 } else { body.len() };
            let header = header.map_or(String::new(), |(name, value)| format!("{name}: {value}\r\n"));
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{header}\r\n{body}");
            match reply {
                Reply::Hang(wait) => {
                    std::thread::sleep(wait);
                    return None;
                }
                Reply::Close => return None,
                Reply::CloseInBody(_) => {
                    stream.write_all(answer.as_bytes()).ok()?;
                    return None;
                }
                Reply::HangInBody(_) => {
                    stream.write_all(answer.as_bytes()).ok()?;
                    let _ = reader.read(&mut [0]);
                    return None;
                }
                Reply::Slow(wait, _) => std::thread::sleep(wait),
                Reply::Status(..) | Reply::With(..) => {}
            }
            stream.write_all(answer.as_bytes()).ok()?;
        }
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut line = String::new();
    let mut next = |reader: &mut BufReader<TcpStream>| {
        line.clear();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = next(reader)?;
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = next(reader)?.split_once(": ") {
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    let mut text = String::new();
    match headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => drop(flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap()),
        _ => text = String::from_utf8(body.clone()).unwrap(),
    }
    let rows: Vec<serde_json::Value> = match headers["content-type"].as_str() {
        "application/json" => serde_json::from_str(&text).unwrap(),
        _ => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    };
    let numbers = rows.iter().filter_map(|row| row["n"].as_i64()).collect();
    let target = first.split(' ').nth(1).unwrap().to_owned();
    Some(Received { at: Instant::now(), headers, body, numbers, target, is_taken: false })
}
