//! What an answer says of the rows that were sent.

use super::super::super::web::Answer;
use hyper::header::{HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// Longer than this nobody is waited for on his word alone.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Of an answer's body, in the message that a person reads.
const SHOWN_CHARS_MAX: usize = 200;

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The rows are there.
    Done,
    /// Some row among them is not taken.
    Refused(String),
    /// The other side is busy and says when to come again.
    Later { wait: Duration, why: String },
    /// Nothing is wrong with the rows: the same again later.
    Down(String),
    /// The same at another place of the same host.
    Elsewhere(String),
}

impl Verdict {
    /// `now_s` is the clock's, for a `Retry-After` that names a moment.
    pub(super) fn of(answer: &Answer, now_s: i64) -> Verdict {
        let told = || told(answer);
        match answer.status.as_u16() {
            200..=299 => Verdict::Done,
            307 | 308 => match answer.headers.get("location").and_then(|location| location.to_str().ok()) {
                Some(location) => Verdict::Elsewhere(location.to_owned()),
                None => Verdict::Down(format!("{}, without a place to go", told())),
            },
            300..=399 => Verdict::Down(format!("{}: it wants to be asked elsewhere; name that address", told())),
            429 | 503 => match retry_after(&answer.headers, now_s) {
                Some(wait) => Verdict::Later { wait, why: told() },
                None => Verdict::Down(told()),
            },
            401 | 403 | 407 => Verdict::Down(format!("{}: look at the headers, and at the key in sign", told())),
            404 | 405 | 410 | 421 => Verdict::Down(format!("{}: look at the address", told())),
            406 | 415 => Verdict::Down(format!("{}: look at body and compression", told())),
            431 => Verdict::Down(format!("{}: fewer or shorter headers", told())),
            408 | 425 => Verdict::Down(told()),
            400..=499 => Verdict::Refused(told()),
            _ => Verdict::Down(told()),
        }
    }
}

/// The status with the first words of the body.
fn told(answer: &Answer) -> String {
    let status = answer.status;
    let reason = status.canonical_reason().map_or(String::new(), |reason| format!(" {reason}"));
    let text = String::from_utf8_lossy(&answer.body);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
    match shown.is_empty() {
        true => format!("it answers {}{reason}", status.as_u16()),
        false => format!("it answers {}{reason}: {shown}", status.as_u16()),
    }
}

/// Seconds, or an HTTP date (RFC 9110 10.2.3); one that lies back is now, and none counts for longer than [`RETRY_AFTER_MAX`].
fn retry_after(headers: &HeaderMap, now_s: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp().saturating_sub(now_s).max(0) as u64,
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::StatusCode;

    fn answer(status: u16, header: Option<(&'static str, &str)>, body: &'static str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers, body: Bytes::from(body), cut_off: None }
    }

    /// The class of each status, by its first letter.
    fn class(status: u16) -> char {
        match Verdict::of(&answer(status, None, ""), 0) {
            Verdict::Done => 'd',
            Verdict::Refused(_) => 'r',
            Verdict::Later { .. } => 'l',
            Verdict::Down(_) => 'w',
            Verdict::Elsewhere(_) => 'e',
        }
    }

    #[test]
    fn every_status_has_its_class() {
        assert!((200..300).all(|status| class(status) == 'd'));
        assert!((500..600).all(|status| class(status) == 'w'));
        assert!((300..400).all(|status| class(status) == 'w'));
        let waits: Vec<u16> = (400..500).filter(|status| class(*status) == 'w').collect();
        assert_eq!(waits, [401, 403, 404, 405, 406, 407, 408, 410, 415, 421, 425, 429, 431]);
        assert!((400..500).filter(|status| !waits.contains(status)).all(|status| class(status) == 'r'));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_is_not_believed_for_ever() {
        let wait = |status, text: &str| match Verdict::of(&answer(status, Some(("retry-after", text)), ""), 784_111_777)
        {
            Verdict::Later { wait, .. } => Some(wait.as_secs()),
            _ => None,
        };
        assert_eq!((wait(429, "7"), wait(503, "0")), (Some(7), Some(0)));
        // 784111777 is the moment of RFC 9110's example.
        assert_eq!(wait(429, "Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(wait(429, "Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(wait(503, "86400"), Some(300));
        assert_eq!((wait(429, "soon"), wait(500, "7")), (None, None));
    }

    #[test]
    fn a_message_has_the_status_and_the_first_words() {
        let Verdict::Refused(told) = Verdict::of(&answer(422, None, "{\n \"error\": \"no user\"\n}"), 0) else {
            panic!()
        };
        assert_eq!(told, "it answers 422 Unprocessable Entity: { \"error\": \"no user\" }");
        let to = Verdict::of(&answer(308, Some(("location", "/b")), ""), 0);
        assert_eq!(to, Verdict::Elsewhere("/b".to_owned()));
        let Verdict::Down(why) = Verdict::of(&answer(401, None, ""), 0) else { panic!() };
        assert!(why.contains("key in sign"), "{why}");
    }
}
