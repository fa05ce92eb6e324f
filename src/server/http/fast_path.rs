//! The fast path: a request that is whole when it is first read and only brings events, as nearly all do, is answered here.
//!
//! hyper makes a buffer, a channel and several turns of a task of each request, so that bodies may stream; for a small event that is as
//! much work as all the rest. So each connection begins here, and the first request that is anything else (longer, chunked, split, another
//! method, any doubt) goes to hyper with the bytes that were read, and its connection with it. This side may pass on what it likes; it
//! must never read a request otherwise than hyper would.

use super::HttpDoor;
use super::connection::{Caller, HEAD_SIZE_MAX, Phase, stopped};
use super::post;
use super::reply::Reply;
use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use std::cell::RefCell;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The largest request that is whole at once.
const READ_SIZE: usize = 64 << 10;
const HEADERS_MAX: usize = 32;

thread_local! {
    /// What sockets are read into: idle connections hold no buffer, and what stays of a request is copied to its size.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
    /// The Date header of a second.
    static DATE: RefCell<(i64, String)> = const { RefCell::new((0, String::new())) };
}

/// A request for events, read to its end.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) topic: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

enum Next {
    /// A request, and what came behind it.
    Events(Request, Bytes),
    /// Bytes that are not for this path.
    Other(Bytes),
    Closed,
}

/// Answers requests until one is not for this path: what was read of it is returned. None, if the connection is at its end.
pub(super) async fn serve(
    stream: &mut TcpStream,
    door: &HttpDoor,
    caller: &Caller,
    stop: &watch::Receiver<bool>,
) -> Option<Bytes> {
    let (mut waiting, flag) = (stop.clone(), stop.clone());
    let mut stopping = std::pin::pin!(stopped(&mut waiting));
    let mut is_registered = false;
    let mut rest = Bytes::new();
    loop {
        let next = if rest.is_empty() {
            std::future::poll_fn(|context| {
                if let Poll::Ready(next) = poll_next(stream, context) {
                    return Poll::Ready(next);
                }
                // Once the task's waker is known there it need not be told again with each request.
                let is_over = if is_registered {
                    !matches!(flag.has_changed(), Ok(false))
                } else {
                    is_registered = true;
                    stopping.as_mut().poll(context).is_ready()
                };
                if is_over { Poll::Ready(Next::Closed) } else { Poll::Pending }
            })
            .await
        } else {
            next_of(&rest, |at| rest.slice(at..))
        };
        let request = match next {
            Next::Events(request, behind) => {
                rest = behind;
                request
            }
            Next::Other(read) => return Some(read),
            Next::Closed => return None,
        };
        caller.set(Phase::Busy);
        let reply = post::whole(door, caller, request).await;
        caller.set(Phase::Answer);
        let is_last = *flag.borrow() || reply.headers().get(CONNECTION).is_some_and(|value| value == "close");
        let answer = encode(reply, door.clock.now_ms(), is_last);
        stream.write_all(&answer).await.ok()?;
        if is_last {
            let _ = stream.shutdown().await;
            return None;
        }
        caller.set(Phase::Idle);
    }
}

fn poll_next(stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<Next> {
    READ.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        Pin::new(stream).poll_read(context, &mut read).map(|done| match (done, read.filled()) {
            (Ok(()), read) if !read.is_empty() => next_of(read, |at| Bytes::copy_from_slice(&read[at..])),
            _ => Next::Closed,
        })
    })
}

/// What `bytes` begin with; `from` keeps what of them is left.
fn next_of(bytes: &[u8], from: impl Fn(usize) -> Bytes) -> Next {
    match parse(bytes) {
        Some((request, size)) => Next::Events(request, from(size)),
        None => Next::Other(from(0)),
    }
}

/// The request that `bytes` begin with and its size, if it is whole and plain.
fn parse(bytes: &[u8]) -> Option<(Request, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_size) = head.parse(bytes).ok()? else { return None };
    if head.method != Some("POST") || head.version != Some(1) || head_size > HEAD_SIZE_MAX {
        return None;
    }
    let target = head.path?;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let topic = path.strip_prefix("/v1/topics/")?.strip_suffix("/events")?;
    let is_plain = |text: &str, also: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b));
    if !is_plain(topic, b"._-") || topic.is_empty() || !is_plain(query.unwrap_or_default(), b"._-~%&=+:,") {
        return None;
    }
    let mut size = None;
    let mut map = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        match name.as_str() {
            "content-length" if size.is_none() => size = Some(content_length(header.value)?),
            "connection" if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            "content-length" | "connection" | "transfer-encoding" | "expect" | "upgrade" | "te" | "trailer" => {
                return None;
            }
            _ => {}
        }
        map.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let end = head_size + size?;
    let body = Bytes::copy_from_slice(bytes.get(head_size..end)?);
    Some((Request { topic: topic.to_owned(), query: query.map(str::to_owned), headers: map, body }, end))
}

fn content_length(value: &[u8]) -> Option<usize> {
    let is_number = (1..=5).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// An answer as it goes out.
fn encode(reply: Reply, now_ms: i64, is_last: bool) -> Vec<u8> {
    let (head, body) = reply.into_parts();
    let body = body.into_bytes();
    let mut out = Vec::with_capacity(256 + body.len());
    // Writing to memory cannot fail.
    let reason = head.status.canonical_reason().unwrap_or_default();
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\ncontent-length: {}\r\ndate: ", head.status.as_str(), body.len());
    put_date(&mut out, now_ms / 1000);
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != CONNECTION) {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(if is_last { b"\r\nconnection: close\r\n\r\n" } else { b"\r\n\r\n" });
    out.extend_from_slice(&body);
    out
}

fn put_date(out: &mut Vec<u8>, seconds: i64) {
    DATE.with_borrow_mut(|(of, text)| {
        if *of != seconds || text.is_empty() {
            let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
            (*of, *text) = (seconds, time.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
        out.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::reply::{json, refuse};
    use hyper::StatusCode;

    const PLAIN: &str = "POST /v1/topics/clicks/events?key=a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\nX-A: 1\r\nx-a: 2\r\n\r\n{}";

    #[test]
    fn a_plain_request_is_read_to_its_end() {
        let behind = format!("{PLAIN}POST");
        let (request, size) = parse(behind.as_bytes()).unwrap();
        assert_eq!((request.topic.as_str(), request.query.as_deref()), ("clicks", Some("key=a%20b")));
        assert_eq!((request.body.as_ref(), size), (b"{}".as_slice(), PLAIN.len()));
        assert_eq!(request.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn whatever_may_mean_something_else_is_left_to_hyper() {
        let changed = |from: &str, to: &str| {
            let text = PLAIN.replacen(from, to, 1);
            assert_ne!(text, PLAIN);
            text
        };
        for text in [
            changed("POST", "GET"),
            changed("HTTP/1.1", "HTTP/1.0"),
            changed("/events", "/tail"),
            changed("clicks", "cl%69cks"),
            changed("clicks", "a/b"),
            changed("clicks", ""),
            changed("key=a%20b", "key=a#b"),
            changed("/v1", "http://x/v1"),
            changed("Content-Length: 2", "Content-Length: 3"),
            changed("Content-Length: 2", "Content-Length: +2"),
            changed("Content-Length: 2", "Content-Length: 2, 2"),
            changed("Content-Length: 2", "Content-Length: 2\r\nContent-Length: 2"),
            changed("Content-Length: 2", "Content-Length: 000002"),
            changed("Content-Length: 2\r\n", ""),
            changed("X-A: 1", "Transfer-Encoding: chunked"),
            changed("X-A: 1", "Expect: 100-continue"),
            changed("Keep-Alive", "close"),
            changed("X-A: 1", "X-A : 1"),
            changed("Host: x", " Host: x"),
            changed("{}", "{"),
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(parse(changed("X-A: 1", &format!("X-A: {}", "1".repeat(HEAD_SIZE_MAX))).as_bytes()).is_none());
        for cut in 0..PLAIN.len() {
            assert!(parse(&PLAIN.as_bytes()[..cut]).is_none());
        }
    }

    #[test]
    fn answers_are_whole() {
        let answer = encode(json(StatusCode::OK, &1), 784_111_777_000, false);
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-type: application/json\r\n\r\n1\n";
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
        let refused = encode(refuse(StatusCode::TOO_MANY_REQUESTS, "later"), 0, true);
        let refused = String::from_utf8(refused).unwrap();
        assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && refused.contains("retry-after: 1\r\n"));
        assert_eq!(refused.matches("connection: close").count(), 1);
    }
}
