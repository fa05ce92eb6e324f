//! The fast path: a request that only brings events, as nearly all do, is answered here, and at once if it is whole when it is first read.
//!
//! hyper makes a buffer, a channel and several turns of a task of each request, so that bodies may stream; for a small event that is as
//! much work as all the rest. So each connection begins here, and the first request that is anything else (a head that is split or long,
//! a chunked body, another method, any doubt) goes to hyper with the bytes that were read, and its connection with it. This side may pass
//! on what it likes; it must never read a request otherwise than hyper would.

use super::HttpDoor;
use super::connection::{Caller, HEAD_SIZE_MAX, Phase, stopped};
use super::headers::Headers;
use super::post::{self, Asked, First};
use super::reply::{Answer, ONE};
use super::sniff::BODY_SIZE_MAX;
use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderMap};
use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What is read at once: a small request is whole then, and of a large one the rest is read to where it stays.
const READ_SIZE: usize = 16 << 10;
const HEADERS_MAX: usize = 32;
/// Headers that change where a request ends or what its connection does, unless they say the usual.
const LEFT_TO_HYPER: [&str; 7] =
    ["content-length", "connection", "transfer-encoding", "expect", "upgrade", "te", "trailer"];

/// What [`encode`] would write of a [`Answer::One`] before its date.
const ONE_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 48\r\ncontent-type: application/json\r\nvary: origin\r\n";

thread_local! {
    /// What sockets are read into: idle connections hold no buffer, and what stays of a request is copied to its size.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
    /// What an answer is built in.
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The Date header of a second.
    static DATE: RefCell<(i64, String)> = const { RefCell::new((0, String::new())) };
}

/// A request for events that has something to wait for, the rest of its body for instance.
pub(super) struct Request {
    pub(super) topic: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    /// What came of the body.
    pub(super) body: Vec<u8>,
    /// Of the whole body.
    pub(super) size: usize,
}

enum Next {
    /// A request, as far as it came while it was read, and what came behind it.
    Events(First, Bytes),
    /// Bytes that are not for this path.
    Other(Bytes),
    Closed,
}

impl Request {
    /// `came` of a body of `size` bytes is there.
    pub(super) fn of(asked: &Asked<'_>, came: &[u8], size: usize) -> Request {
        Request {
            topic: asked.topic.to_owned(),
            query: asked.query.map(str::to_owned),
            headers: asked.headers.to_map(),
            body: came.to_vec(),
            size,
        }
    }
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
                if let Poll::Ready(next) = poll_next(stream, door, caller, context) {
                    return Poll::Ready(next);
                }
                // Once the task's waker is known there it need not be told again with each request.
                let is_over = if is_registered {
                    !matches!(flag.has_changed(), Ok(false))
                } else {
                    // Without a budget the task is polled again anyway, and its waker stays unknown until then.
                    is_registered = tokio::task::coop::has_budget_remaining();
                    stopping.as_mut().poll(context).is_ready()
                };
                if is_over { Poll::Ready(Next::Closed) } else { Poll::Pending }
            })
            .await
        } else {
            next_of(&rest, door, caller, |at| rest.slice(at..))
        };
        let first = match next {
            Next::Events(first, behind) => {
                rest = behind;
                first
            }
            Next::Other(read) => return Some(read),
            Next::Closed => return None,
        };
        let mut is_read = true;
        let answer = match first {
            First::Sent(sent) => sent.stored(door).await,
            First::Answered(reply) => Answer::Reply(reply),
            First::Wait(request) => {
                let reply;
                // Boxed: seldom and large.
                (reply, is_read) = Box::pin(post::patiently(door, caller, *request, stream)).await;
                Answer::Reply(Box::new(reply))
            }
        };
        caller.set(Phase::Answer);
        let is_last = !is_read || *flag.borrow() || asks_to_close(&answer);
        if let Some(unsent) = send(stream, answer, door.clock.now_ms(), is_last).ok()? {
            stream.write_all(&unsent).await.ok()?;
        }
        if is_last {
            let _ = stream.shutdown().await;
            return None;
        }
        // A request that was read with the one before is answered also to who has closed its sending side. Boxed: seldom, and every
        // connection has room for what is not.
        if caller.is_muted() && !Box::pin(door.muted(caller, stream, &flag)).await && rest.is_empty() {
            return None;
        }
        caller.set(Phase::Idle);
    }
}

fn poll_next(stream: &mut TcpStream, door: &HttpDoor, caller: &Caller, context: &mut Context<'_>) -> Poll<Next> {
    READ.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        Pin::new(stream).poll_read(context, &mut read).map(|done| match (done, read.filled()) {
            (Ok(()), read) if !read.is_empty() => next_of(read, door, caller, |at| Bytes::copy_from_slice(&read[at..])),
            _ => Next::Closed,
        })
    })
}

/// Does what can be done at once with what `bytes` begin with; `from` keeps what of them is left.
fn next_of(bytes: &[u8], door: &HttpDoor, caller: &Caller, from: impl Fn(usize) -> Bytes) -> Next {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let Some((asked, body)) = parse(bytes, &mut headers) else { return Next::Other(from(0)) };
    caller.set(Phase::Busy);
    let end = body.end.min(bytes.len());
    let came = &bytes[body.start..end];
    let first = if came.len() == body.len() {
        post::at_once(door, caller, &asked, came)
    } else {
        First::Wait(Box::new(Request::of(&asked, came, body.len())))
    };
    Next::Events(first, from(end))
}

/// The request that `bytes` begin with and where its body stands, if its head is whole and plain.
fn parse<'b>(bytes: &'b [u8], headers: &'b mut [httparse::Header<'b>]) -> Option<(Asked<'b>, Range<usize>)> {
    let mut head = httparse::Request::new(headers);
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
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let is_usual = is("connection") && header.value.eq_ignore_ascii_case(b"keep-alive");
        if is("content-length") && size.is_none() {
            size = Some(content_length(header.value)?);
        } else if !is_usual && LEFT_TO_HYPER.into_iter().any(is) {
            return None;
        }
    }
    Some((Asked::new(topic, query, Headers::Slices(head.headers)), head_size..head_size + size?))
}

fn content_length(value: &[u8]) -> Option<usize> {
    let is_number = (1..=7).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let size = std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()?;
    (size <= BODY_SIZE_MAX).then_some(size)
}

fn asks_to_close(answer: &Answer) -> bool {
    matches!(answer, Answer::Reply(reply) if reply.headers().get(CONNECTION).is_some_and(|value| value == "close"))
}

/// Sends an answer; what the socket does not take at once is returned.
fn send(stream: &TcpStream, answer: Answer, now_ms: i64, is_last: bool) -> std::io::Result<Option<Vec<u8>>> {
    ANSWER.with_borrow_mut(|out| {
        out.clear();
        encode(out, answer, now_ms / 1000, is_last);
        let sent = match stream.try_write(out) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        Ok((sent < out.len()).then(|| out[sent..].to_vec()))
    })
}

/// An answer as it goes out.
fn encode(out: &mut Vec<u8>, answer: Answer, seconds: i64, is_last: bool) {
    let put = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
        [name.as_bytes(), b": ", value, b"\r\n"].iter().for_each(|piece| out.extend_from_slice(piece));
    };
    let body = match answer {
        Answer::One => {
            out.extend_from_slice(ONE_HEAD.as_bytes());
            Bytes::from_static(ONE.as_bytes())
        }
        Answer::Reply(reply) => {
            let (head, body) = reply.into_parts();
            let body = body.into_bytes();
            let reason = head.status.canonical_reason().unwrap_or_default();
            // Writing to memory cannot fail.
            let _ = write!(out, "HTTP/1.1 {} {reason}\r\ncontent-length: {}\r\n", head.status.as_str(), body.len());
            for (name, value) in head.headers.iter().filter(|(name, _)| *name != CONNECTION) {
                put(out, name.as_str(), value.as_bytes());
            }
            body
        }
    };
    DATE.with_borrow_mut(|(of, text)| {
        if *of != seconds || text.is_empty() {
            let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
            (*of, *text) = (seconds, time.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
        put(out, "date", text.as_bytes());
    });
    if is_last {
        put(out, "connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::origin::Origins;
    use crate::server::http::reply::{Taken, json, refuse};
    use hyper::StatusCode;

    const PLAIN: &str = "POST /v1/topics/clicks/events?key=a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\nX-A: 1\r\nx-a: 2\r\n\r\n{}";

    #[test]
    fn a_plain_request_is_read_to_its_end() {
        let behind = format!("{PLAIN}POST");
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let (asked, body) = parse(behind.as_bytes(), &mut headers).unwrap();
        assert_eq!((asked.topic, asked.query), ("clicks", Some("key=a%20b")));
        assert_eq!(body, PLAIN.len() - 2..PLAIN.len());
        assert_eq!(asked.headers.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        let kept = Request::of(&asked, b"{}", 2);
        assert_eq!(kept.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    fn is_read(text: &str) -> bool {
        parse(text.as_bytes(), &mut [httparse::EMPTY_HEADER; HEADERS_MAX]).is_some()
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
            changed("Content-Length: 2", "Content-Length: +2"),
            changed("Content-Length: 2", "Content-Length: 2, 2"),
            changed("Content-Length: 2", "Content-Length: 2\r\nContent-Length: 2"),
            changed("Content-Length: 2", "Content-Length: 00000002"),
            changed("Content-Length: 2", "Content-Length: 8388609"),
            changed("Content-Length: 2\r\n", ""),
            changed("X-A: 1", "Transfer-Encoding: chunked"),
            changed("X-A: 1", "Expect: 100-continue"),
            changed("Keep-Alive", "close"),
            changed("X-A: 1", "X-A : 1"),
            changed("Host: x", " Host: x"),
        ] {
            assert!(!is_read(&text), "{text}");
        }
        assert!(!is_read(&changed("X-A: 1", &format!("X-A: {}", "1".repeat(HEAD_SIZE_MAX)))));
        for cut in 0..PLAIN.len() - 2 {
            assert!(!is_read(&PLAIN[..cut]));
        }
    }

    fn encoded(answer: Answer, seconds: i64, is_last: bool) -> String {
        let mut out = Vec::new();
        encode(&mut out, answer, seconds, is_last);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers_are_whole() {
        let answer = |reply| Answer::Reply(Box::new(reply));
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n1\n";
        assert_eq!(encoded(answer(json(StatusCode::OK, &1)), 784_111_777, false), expected);
        let refused = refuse(StatusCode::TOO_MANY_REQUESTS, "later");
        let refused = answer(refused);
        assert!(asks_to_close(&refused));
        let refused = encoded(refused, 0, true);
        assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n") && refused.contains("retry-after: 1\r\n"));
        assert_eq!(refused.matches("connection: close").count(), 1);
    }

    #[test]
    fn the_answer_kept_ready_is_the_one_that_would_be_built() {
        let mut reply = Taken { taken: 1, ..Taken::default() }.answer(StatusCode::OK);
        Origins::grant(None, reply.headers_mut());
        assert_eq!(encoded(Answer::One, 5, false), encoded(Answer::Reply(Box::new(reply)), 5, false));
    }
}
