//! The door from outside: bytes over real sockets to a door on a simulated disk, sent by clients that are slow, lie, flood or hang up.

mod quotas;

use super::*;
use crate::disk::sim::Sim;
use crate::record::{Offset, TopicName};
use crate::store::{NewTopic, Options as StoreOptions};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_millis(300);
const EVENTS: &str = "/v1/topics/t/events";

struct Open {
    address: SocketAddr,
    store: Store,
    budget: Budget,
    quotas: Quotas,
    clock: Clock,
    stop: watch::Sender<bool>,
}

async fn open_with(options: Options, budget: usize) -> Open {
    let store = StoreOptions {
        data: "/data".into(),
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 1 << 20,
        low_disk_bytes: Some(0),
        checkpoint_interval: Duration::from_secs(1),
    };
    let clock = Clock::manual(1_700_000_000_000);
    let store = Store::open(store, Sim::new(1).disk(), clock.clone()).unwrap();
    let ingest = Ingest::start(tokio::runtime::Handle::current()).unwrap();
    let budget = Budget::new(budget);
    let quotas = Quotas::load(store.clone(), clock.clone());
    let pulse = Pulse::new("the door");
    let door =
        HttpDoor::new(store.clone(), ingest, clock.clone(), budget.clone(), quotas.clone(), options, pulse).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(serve(listener, Arc::new(door), stopping));
    Open { address, store, budget, quotas, clock, stop }
}

fn options() -> Options {
    Options { auto_create: true, ..Options::default() }
}

fn limited(change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = options();
    change(&mut options.limits);
    options
}

async fn open() -> Open {
    open_with(options(), 64 << 20).await
}

/// An answer: status, head, body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    fn has(&self, header: &str) -> bool {
        self.head.to_ascii_lowercase().contains(&header.to_ascii_lowercase())
    }
}

/// Reads one answer with a Content-Length.
async fn answer(stream: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap_or_else(|_| panic!("cut after {}", String::from_utf8_lossy(&head)));
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    Answer { status, head, body }
}

impl Open {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        answer(&mut stream).await
    }

    async fn post(&self, headers: &str, body: &[u8]) -> Answer {
        self.call("POST", EVENTS, headers, body).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, "", b"").await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// All events of the topic's first partition.
    async fn stored(&self) -> Vec<Value> {
        if self.store.topic("t").is_none() {
            return Vec::new();
        }
        self.get(&format!("{EVENTS}?limit=10000")).await["events"].as_array().unwrap().clone()
    }

    async fn topic(&self, config: &[(&str, &str)]) {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let name = TopicName::new("t").unwrap();
        self.store.create_topic(NewTopic { name, partitions: 1, config }).await.unwrap();
    }
}

/// Waits until the peer closes; what it sent before.
async fn closed(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut rest).await;
    String::from_utf8_lossy(&rest).into_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn json_is_taken_in_every_form_whatever_its_type_says() {
    let door = open().await;
    let forms: [(&str, Vec<u8>); 7] = [
        ("", b"{\"n\":0}".to_vec()),
        ("content-type: text/plain\r\n", b"[{\"n\":1},{\"n\":2}]".to_vec()),
        ("content-type: application/x-www-form-urlencoded\r\n", b"{\"n\":3}\n{\"n\":4}\n".to_vec()),
        ("content-encoding: gzip\r\n", gzip(b"{\"n\":5}")),
        // RudderStack's node client: gzip, called a form, without an encoding.
        ("content-type: application/x-www-form-urlencoded\r\n", gzip(b"{\"n\":6}")),
        ("content-type: application/json\r\n", zstd::bulk::compress(b"{\"n\":7}", 1).unwrap()),
        ("content-encoding: gzip\r\n", b"{\"n\":8}".to_vec()),
    ];
    for (headers, body) in forms {
        let answer = door.post(headers, &body).await;
        assert_eq!(answer.status, 200, "{headers}: {}", String::from_utf8_lossy(&answer.body));
    }
    let numbers: Vec<i64> = door.stored().await.iter().map(|event| event["value"]["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    assert_eq!(door.post("content-encoding: br\r\n", b"\x0b\x02\x80{}").await.status, 400);
}

#[tokio::test]
async fn a_cameras_parts_are_events_with_one_id() {
    let door = open().await;
    let picture = [b"\xff\xd8\xff".to_vec(), (0..60_000u32).map(|n| ((n * n) >> 5) as u8).collect()].concat();
    let mut body = b"--boundary\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n{\"label\":\"person\"}\r\n--boundary\r\nContent-Disposition: form-data; name=\"pic\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
    body.extend_from_slice(&picture);
    body.extend_from_slice(b"\r\n--boundary--\r\n");
    let path = format!("{EVENTS}?camera=front%20door&key=x");
    let answer =
        door.call("POST", &path, "content-type: multipart/form-data; boundary=boundary\r\n", &body).await.json();
    assert_eq!(answer, json!({ "taken": 2, "bad": [], "retry": [], "quarantined": 0 }));
    let stored = door.stored().await;
    assert_eq!(stored[0]["value"], json!({ "label": "person" }));
    let headers = [&stored[0]["headers"], &stored[1]["headers"]];
    assert!(headers[0]["multipart-id"].as_str().is_some_and(|id| id.len() == 32));
    assert_eq!(headers[0]["multipart-id"], headers[1]["multipart-id"]);
    assert_eq!(headers[0]["content-type"], Value::Null);
    let text = |name: &str| headers[1][name].as_str().unwrap_or_default();
    assert_eq!(
        ["camera", "content-type", "multipart-name", "multipart-filename"].map(text),
        ["front door", "image/jpeg", "pic", "a.jpg"]
    );
    assert_eq!(stored[1]["value_base64"].as_str().unwrap().len(), picture.len().div_ceil(3) * 4);
    let cut = door.post("content-type: multipart/mixed; boundary=boundary\r\n", &body[..body.len() - 20]).await;
    assert_eq!((cut.status, door.stored().await.len()), (400, 2));
}

#[tokio::test]
async fn bad_lines_are_named_kept_and_cost_the_others_nothing() {
    let door = open().await;
    let mixed = door.post("", b"{\"n\":1}\n{broken\n{\"n\":\"\xff\"}\n{\"n\":2}").await;
    assert_eq!(mixed.status, 200);
    let mixed = mixed.json();
    assert_eq!((&mixed["taken"], &mixed["quarantined"]), (&json!(2), &json!(2)));
    assert_eq!(
        mixed["bad"].as_array().unwrap().iter().map(|bad| &bad["line"]).collect::<Vec<_>>(),
        [&json!(2), &json!(3)]
    );
    let dead = door.get("/v1/topics/t-dlt/events").await;
    assert_eq!(dead["events"][0]["value"], "{broken");
    assert_eq!(dead["events"][1]["headers"]["inrush-dlt-line"], "3");
    assert_eq!(door.post("", b"{broken").await.status, 400);
    assert_eq!(door.post("", b"[1,").await.status, 400);
    assert_eq!(door.post("", b" \n ").await.status, 400);
    assert_eq!(door.stored().await.len(), 2);
}

#[tokio::test]
async fn keys_and_times_are_read_out_of_events() {
    let door = open().await;
    door.topic(&[("inrush.http.key", "/user"), ("inrush.http.timestamp", "/ts")]).await;
    let body = b"[{\"user\":\"a\",\"ts\":1699999999000},{\"user\":7,\"ts\":5},{}]";
    assert_eq!(door.post("", body).await.status, 200);
    let stored = door.stored().await;
    let read: Vec<_> =
        stored.iter().map(|event| (event["key"].clone(), event["timestamp"].as_i64().unwrap())).collect();
    let arrival = 1_700_000_000_000;
    assert_eq!(read, [(json!("a"), arrival - 1000), (json!("7"), arrival), (Value::Null, arrival)]);
}

#[tokio::test]
async fn bombs_and_lengths_that_lie_are_refused_and_nothing_is_taken() {
    let door = open().await;
    door.topic(&[]).await;
    let bomb = gzip(&vec![b' '; 8 << 20]);
    assert_eq!(door.post("", &bomb).await.status, 413);
    let many = "1\n".repeat(10_001);
    assert_eq!(door.post("", many.as_bytes()).await.status, 413);
    // A length beyond the limit is refused before a byte of the body came.
    let mut stream = door.connect().await;
    let head =
        format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 99999999999\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let refused = answer(&mut stream).await;
    assert!(refused.status == 413 && refused.has("connection: close"), "{}", refused.head);
    // More than it may be, without a length: its sender reads the answer and not a reset.
    let mut stream = door.connect().await;
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    for _ in 0..10 {
        stream.write_all(&piece).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 413);
    // A body that ends early.
    let mut stream = door.connect().await;
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{\"n\":1}}\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    closed(&mut stream).await;
    assert_eq!(door.stored().await.len(), 0);
    assert_eq!(door.budget.taken(), 0);
}

#[tokio::test]
async fn requests_of_every_legal_shape_are_answered_in_order() {
    let door = open().await;
    let mut stream = door.connect().await;
    // Chunked, cut in the middle of a value, and two more behind it before the first is answered.
    let chunked = format!(
        "POST {EVENTS} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{{\"n\":\r\n2\r\n1}}\r\n0\r\n\r\n"
    );
    let plain = |n: u32| format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\n{{\"n\":{n}}}");
    stream.write_all((chunked + &plain(2) + &plain(3)).as_bytes()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(answer(&mut stream).await.status, 200);
    }
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 7\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 100);
    stream.write_all(b"{\"n\":4}").await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 200);
    let numbers: Vec<i64> = door.stored().await.iter().map(|event| event["value"]["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    for smuggled in ["content-length: 3\r\ncontent-length: 4\r\n\r\n1234", "transfer-encoding: gzip, x\r\n\r\n1"] {
        let mut stream = door.connect().await;
        stream.write_all(format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\n{smuggled}").as_bytes()).await.unwrap();
        let said = closed(&mut stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{smuggled}: {said}");
    }
    assert_eq!(door.stored().await.len(), 4);
}

#[tokio::test]
async fn a_slow_head_is_cut_and_a_silent_connection_is_not() {
    let door = open_with(limited(|limits| limits.head_patience = SOON), 64 << 20).await;
    let mut idle = door.connect().await;
    idle.write_all(format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes())
        .await
        .unwrap();
    assert_eq!(answer(&mut idle).await.status, 200);
    let mut never_used = door.connect().await;
    let mut slow = door.connect().await;
    slow.write_all(b"POST /v1/topics/t/ev").await.unwrap();
    closed(&mut slow).await;
    // As long as the slow one lasted, these said nothing.
    for mut kept in [idle, std::mem::replace(&mut never_used, door.connect().await)] {
        kept.write_all(format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes())
            .await
            .unwrap();
        assert_eq!(answer(&mut kept).await.status, 200);
    }
}

#[tokio::test]
async fn an_idle_connection_is_cut_in_the_end() {
    let door = open_with(limited(|limits| limits.idle_max = SOON), 64 << 20).await;
    closed(&mut door.connect().await).await;
}

#[tokio::test]
async fn a_slow_body_gets_408_and_gives_its_bytes_back() {
    let slow = limited(|limits| (limits.rate_grace, limits.pause_max) = (SOON, Duration::from_secs(3600)));
    let pausing = limited(|limits| (limits.rate_min, limits.pause_max) = (1, SOON));
    for options in [slow, pausing] {
        let door = open_with(options, 64 << 20).await;
        let mut stream = door.connect().await;
        let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await.unwrap();
        let refused = answer(&mut stream).await;
        assert!(refused.status == 408 && refused.has("connection: close"), "{}", refused.head);
        assert_eq!(door.budget.taken(), 0);
        assert_eq!(door.post("", b"{}").await.status, 200);
    }
}

#[tokio::test]
async fn when_memory_is_out_requests_are_sent_away_and_the_oldest_ends() {
    // 1 MiB in all, of it 256 KiB for one request at a time.
    let door = open_with(limited(|limits| limits.budget_patience = SOON), 1 << 20).await;
    let body = vec![b' '; 700 << 10];
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len() + 2);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = door.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..380 << 10]).await.unwrap();
        held.push(stream);
    }
    while door.budget.taken() < 700 << 10 {
        tokio::task::yield_now().await;
    }
    let refused = door.post("", &vec![b' '; 300 << 10]).await;
    assert!(refused.status == 429 && refused.has("retry-after: 1") && refused.has("connection: close"));
    let mut first = held.remove(0);
    first.write_all(&[&body[380 << 10..], b"{}"].concat()).await.unwrap();
    let status = answer(&mut first).await.status;
    assert_eq!(status, 429, "with the other one holding on there is no room for the whole");
    drop(held);
    while door.budget.taken() > 0 {
        tokio::task::yield_now().await;
    }
    let mut late = door.connect().await;
    late.write_all(&[head.as_bytes(), &body, b"{}"].concat()).await.unwrap();
    assert_eq!(answer(&mut late).await.status, 200);
}

#[tokio::test]
async fn many_small_events_take_the_memory_that_they_hold() {
    let body = format!("[{}1]", "1,".repeat(9_999));
    let small = open_with(options(), 256 << 10).await;
    small.topic(&[]).await;
    assert_eq!(small.post("", body.as_bytes()).await.status, 429);
    assert_eq!((small.budget.taken(), small.stored().await.len()), (0, 0));
    let door = open().await;
    assert_eq!(door.post("", body.as_bytes()).await.json()["taken"], 10_000);
}

#[tokio::test]
async fn what_is_captured_of_a_head_does_not_multiply_without_bound() {
    let door = open().await;
    let agent = format!("user-agent: {}\r\n", "x".repeat(20_000));
    let many = format!("[{}1]", "1,".repeat(999));
    let refused = door.post(&agent, many.as_bytes()).await;
    assert_eq!(refused.status, 413);
    assert!(refused.json()["error"].as_str().unwrap().contains("inrush.http.capture"), "{}", refused.json());
    assert_eq!(door.stored().await.len(), 0);
    assert_eq!(door.post(&agent, b"[1,2]").await.json()["taken"], 2);
}

#[tokio::test]
async fn who_says_that_nothing_more_comes_still_gets_the_answer() {
    let door = open().await;
    let chunked = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n7\r\n0\r\n\r\n");
    let whole = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n7");
    for request in [chunked, whole] {
        let mut stream = door.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(answer(&mut stream).await.json()["taken"], 1);
        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn connections_are_counted_and_places_come_back() {
    let door = open_with(limited(|limits| limits.connections_max = 2), 64 << 20).await;
    let mut first = door.connect().await;
    first
        .write_all(format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes())
        .await
        .unwrap();
    assert_eq!(answer(&mut first).await.status, 200);
    let second = door.connect().await;
    closed(&mut door.connect().await).await;
    drop((first, second));
    // Until the door has noticed that they are gone, new ones are closed.
    loop {
        let mut stream = door.connect().await;
        let sent = stream.write_all(b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        if sent.is_ok() && stream.read_u8().await.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn proxies_tell_who_the_client_is() {
    let proxies = Proxies::parse(&["127.0.0.0/8".into()]).unwrap();
    let door = open_with(Options { proxies, ..options() }, 64 << 20).await;
    door.topic(&[("inrush.http.capture", "ip,user-agent")]).await;
    door.post("x-forwarded-for: 6.6.6.6, 198.51.100.7\r\nuser-agent: test\r\n", b"{}").await;
    let headers = &door.stored().await[0]["headers"];
    assert_eq!((&headers["ip"], &headers["user-agent"]), (&json!("198.51.100.7"), &json!("test")));
}

#[tokio::test]
async fn write_keys_let_in_and_close_reading_to_other_machines() {
    let hash = hex::encode(Sha256::digest(b"secret"));
    let keys = Options { write_keys: WriteKeys::parse(&[hash]).unwrap(), ..options() };
    let door = open_with(keys.clone(), 64 << 20).await;
    assert_eq!(door.post("", b"{}").await.status, 401);
    assert_eq!(door.post("x-write-key: wrong\r\n", b"{}").await.status, 401);
    assert!(door.store.topic("t").is_none());
    assert_eq!(door.post("x-write-key: secret\r\n", b"{}").await.status, 200);
    assert_eq!(door.call("POST", &format!("{EVENTS}?key=secret"), "", b"{}").await.status, 200);
    assert_eq!(door.call("GET", EVENTS, "", b"").await.status, 200);
    let forwarded = "x-forwarded-for: 198.51.100.7\r\n";
    assert_eq!(door.call("GET", EVENTS, forwarded, b"").await.status, 403);
    assert_eq!(door.call("DELETE", "/v1/topics/t", forwarded, b"").await.status, 403);
    let door = open_with(Options { is_open: true, ..keys }, 64 << 20).await;
    assert_eq!(door.call("GET", "/v1/topics", forwarded, b"").await.status, 200);
}

#[tokio::test]
async fn pages_may_send_and_no_foreign_one_reads_or_makes_topics() {
    let door = open().await;
    let ask = "origin: http://localhost:3000\r\naccess-control-request-headers: content-type, x-write-key\r\naccess-control-request-method: POST\r\n";
    let asked = door.call("OPTIONS", EVENTS, ask, b"").await;
    assert_eq!(asked.status, 200);
    for header in [
        "access-control-allow-origin: http://localhost:3000",
        "access-control-allow-credentials: true",
        "access-control-allow-headers: content-type, x-write-key",
        "access-control-max-age: 3600",
        "vary: origin",
    ] {
        assert!(asked.has(header), "{header} is not in {}", asked.head);
    }
    let sent = door.post("origin: null\r\ncontent-type: text/plain\r\n", b"{}").await;
    assert!(sent.status == 200 && sent.has("access-control-allow-origin: null"));
    let foreign = "origin: https://evil.example\r\n";
    assert_eq!(door.call("POST", "/v1/topics/new/events", foreign, b"{}").await.status, 404);
    assert!(!door.call("OPTIONS", EVENTS, foreign, b"").await.has("access-control-allow-origin"));
    assert_eq!(door.call("GET", EVENTS, foreign, b"").await.status, 403);
    assert_eq!(door.call("DELETE", "/v1/topics/t", foreign, b"").await.status, 403);
}

#[tokio::test]
async fn methods_and_paths_that_are_none_say_what_is_there() {
    let door = open().await;
    door.post("", b"{}").await;
    let wrong = door.call("PUT", EVENTS, "", b"").await;
    assert!(wrong.status == 405 && wrong.has("allow: get, head, post, options"), "{}", wrong.head);
    assert_eq!(door.call("POST", "/v1/topics/t/tail", "", b"").await.status, 405);
    let mut stream = door.connect().await;
    stream
        .write_all(format!("HEAD {EVENTS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    for none in ["/", "/v1/topics/t/other", "/v1/topics/t/events/x", "/v1/topic"] {
        assert_eq!(door.call("GET", none, "", b"").await.status, 404, "{none}");
    }
    assert_eq!(door.call("POST", "/v1/topics/a%2Fb/events", "", b"{}").await.status, 400);
}

#[tokio::test]
async fn pages_of_records_are_bounded_and_lead_on() {
    let door = open().await;
    let lines: String = (0..250).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    door.post("", lines.as_bytes()).await;
    let first = door.get(EVENTS).await;
    assert_eq!(
        (first["events"].as_array().unwrap().len(), &first["next"], &first["tail"]),
        (100, &json!(100), &json!(250))
    );
    let last = door.get(&format!("{EVENTS}?from=240&limit=100")).await;
    assert_eq!((last["events"].as_array().unwrap().len(), &last["next"]), (10, &json!(250)));
    assert_eq!(door.get(&format!("{EVENTS}?from=end")).await["events"], json!([]));
    let by_time = door.get(&format!("{EVENTS}?from=time:1700000000000&limit=1")).await;
    assert_eq!(by_time["events"][0]["offset"], 0);
    for (query, status) in
        [("limit=10001", 400), ("limit=-1", 400), ("from=x", 400), ("from=251", 416), ("partition=1", 404)]
    {
        assert_eq!(door.call("GET", &format!("{EVENTS}?{query}"), "", b"").await.status, status, "{query}");
    }
    // A page ends where it is large enough, whatever the limit.
    let large = format!("{{\"text\":\"{}\"}}\n", "x".repeat(900 << 10));
    for _ in 0..6 {
        assert_eq!(door.post("", large.as_bytes()).await.status, 200);
    }
    let page = door.get(&format!("{EVENTS}?from=250&limit=10000")).await;
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next"]), (5, &json!(255)));
}

/// A live tail: reads events until a line holds `until`.
async fn tail_until(stream: &mut TcpStream, until: &str) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(until) {
        let size = stream.read(&mut piece).await.unwrap();
        assert!(size > 0, "the tail ended: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..size]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn tail(door: &Open, query: &str, headers: &str) -> TcpStream {
    let mut stream = door.connect().await;
    let head = format!("GET /v1/topics/t/tail{query} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_tail_goes_on_where_it_was_and_tells_of_gaps() {
    let door = open_with(limited(|limits| limits.silence_max = Duration::from_millis(20)), 64 << 20).await;
    door.post("", b"{\"n\":0}\n{\"n\":1}\n{\"n\":2}").await;
    let mut live = tail(&door, "", "").await;
    // A comment in the silence: by then the tail has begun at the end.
    tail_until(&mut live, ": still here").await;
    door.post("", b"{\n\"n\":3}").await;
    let text = tail_until(&mut live, "\"offset\":3").await;
    assert!(!text.contains("\"offset\":2"), "{text}");
    let text = tail_until(&mut tail(&door, "?from=start", "last-event-id: 1\r\n").await, "\"n\":3").await;
    assert!(text.contains("id: 2\ndata: {\"offset\":2,") && !text.contains("\"offset\":1,"), "{text}");
    assert!(text.contains("\"value\":{ \"n\":3}"), "a line break within a value: {text}");
    // Records that retention took away, and an offset of a topic that was longer once.
    let partition = door.store.topic("t").unwrap().partitions()[0].clone();
    partition.delete_below(Offset(2)).await.unwrap();
    let text = tail_until(&mut tail(&door, "?from=0", "").await, "\"n\":3").await;
    assert!(text.contains("event: gap\ndata: {\"from\":0,\"to\":2}\n\n"), "{text}");
    let text = tail_until(&mut tail(&door, "", "last-event-id: 99\r\n").await, "\"n\":3").await;
    assert!(text.contains("event: gap\ndata: {\"from\":100,\"to\":2}"), "{text}");
    assert_eq!(door.call("GET", "/v1/topics/none/tail", "", b"").await.status, 404);
}

#[tokio::test]
async fn a_tail_whose_reader_leaves_gives_its_place_back_at_once() {
    let long = Duration::from_secs(3_600);
    let door = open_with(limited(|limits| (limits.tails_max, limits.silence_max) = (1, long)), 64 << 20).await;
    door.post("", b"{\"n\":0}").await;
    let began = std::time::Instant::now();
    for _ in 0..3 {
        let mut live = tail(&door, "?from=start", "").await;
        // The door may not have seen yet that the last one left.
        while tail_until(&mut live, "\r\n\r\n").await.starts_with("HTTP/1.1 429") {
            assert!(began.elapsed() < Duration::from_secs(60), "the place did not come back");
            tokio::time::sleep(Duration::from_millis(5)).await;
            live = tail(&door, "?from=start", "").await;
        }
        drop(live);
    }
}

#[tokio::test]
async fn a_tail_follows_all_partitions_and_goes_on_in_each() {
    let door = open().await;
    let name = TopicName::new("t").unwrap();
    door.store.create_topic(NewTopic { name, partitions: 3, config: vec![] }).await.unwrap();
    // One request a partition: the batcher takes them in turn.
    for n in 0..3 {
        door.post("", format!("{{\"n\":{n}}}").as_bytes()).await;
    }
    let mut live = tail(&door, "?from=start", "").await;
    let mut seen = String::new();
    for n in 0..3 {
        let wanted = format!("\"n\":{n}");
        if !seen.contains(&wanted) {
            seen += &tail_until(&mut live, &wanted).await;
        }
    }
    for partition in 0..3 {
        assert!(seen.contains(&format!("{{\"partition\":{partition},\"offset\":0,")), "{seen}");
    }
    let last = seen.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap();
    assert_eq!(last, "0:1,1:1,2:1");
    door.post("", b"{\"n\":3}").await;
    let again = tail_until(&mut tail(&door, "", &format!("last-event-id: {last}\r\n")).await, "\"n\":3").await;
    assert!(!again.contains("\"n\":0") && again.contains("\"offset\":1,"), "{again}");
    let one = tail_until(&mut tail(&door, "?partition=1&from=start", "").await, "\"offset\":0,").await;
    assert!(one.contains("id: 0\ndata: {\"offset\":0,"), "{one}");
}

#[tokio::test]
async fn a_tail_whose_reader_sleeps_is_cut_and_gives_its_place_back() {
    let door = open_with(limited(|limits| (limits.tails_max, limits.answer_stall_max) = (1, SOON)), 64 << 20).await;
    let text = "x".repeat(900 << 10);
    for _ in 0..24 {
        door.post("", format!("\"{text}\"").as_bytes()).await;
    }
    let asleep = tail(&door, "?from=start", "").await;
    // It has a place as long as it lasts; the next one gets it when the sleeper is cut.
    loop {
        let mut next = tail(&door, "?from=end", "").await;
        let mut status = [0; 12];
        next.read_exact(&mut status).await.unwrap();
        if &status == b"HTTP/1.1 200" {
            break;
        }
        assert_eq!(&status, b"HTTP/1.1 429");
    }
    drop(asleep);
}

#[tokio::test]
async fn growing_a_topic_grows_its_dead_letters() {
    let door = open().await;
    door.post("", b"1\n{broken").await;
    assert_eq!(door.call("PATCH", "/v1/topics/t", "", b"{\"partitions\":3}").await.status, 200);
    let count = |name: &str| door.store.topic(name).unwrap().partition_count();
    assert_eq!((count("t"), count("t-dlt")), (3, 3));
}

#[tokio::test]
async fn a_compacted_topic_takes_lines_with_a_key_and_lists_the_others() {
    let door = open().await;
    door.topic(&[("inrush.http.key", "/user"), ("cleanup.policy", "compact"), ("compression.type", "gzip")]).await;
    let answer = door.post("", b"{\"user\":\"a\"}\n{\"n\":1}\n{\"user\":\"b\"}\n{\"user\":null}").await;
    let told = answer.json();
    assert_eq!((answer.status, &told["taken"], &told["quarantined"]), (200, &json!(2), &json!(2)), "{told}");
    let lines: Vec<_> = told["bad"].as_array().unwrap().iter().map(|bad| bad["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 4]);
    assert!(told["bad"][0]["reason"].as_str().unwrap().contains("inrush.http.key"), "{told}");
    // And where none has one, nothing is taken.
    let answer = door.post("", b"{\"n\":1}").await;
    assert_eq!((answer.status, &answer.json()["bad"][0]["line"]), (400, &json!(1)));
    let partition = door.store.topic("t").unwrap().partitions()[0].clone();
    assert_eq!(partition.tail(), Offset(2));
    let codec = partition.read(Offset(0), 1).await.unwrap().batches[0].header().codec;
    assert_eq!(codec, crate::record::Codec::Gzip, "what HTTP brings is stored as the topic says");
}
