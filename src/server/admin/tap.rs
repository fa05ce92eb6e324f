//! `GET /api/pipelines/tap`: a pipeline's rows as they pass, until the reader goes, the pipeline ends, or the door closes.

use super::{Admin, json, stopped};
use crate::control::{After, Command, PIECES_MAX, RATE, RATE_MAX, Tap};
use crate::server::http::query::parameter;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Response, StatusCode};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Lines of a tap; they end when the door is to close.
pub(super) struct Lines {
    pieces: mpsc::Receiver<Bytes>,
    stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Among the taps of this door.
    _place: OwnedSemaphorePermit,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(stop) = &mut self.stop else { return Poll::Ready(None) };
        if stop.as_mut().poll(context).is_ready() {
            self.stop = None;
            self.pieces.close();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{\"end\":\"the daemon stops\"}\n")))));
        }
        let piece = ready!(self.pieces.poll_recv(context));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Asks the pipeline for its rows.
pub(super) async fn tap(
    admin: &Admin,
    query: Option<&str>,
    taps: &Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) -> Result<Response<Lines>, Response<Full<Bytes>>> {
    let refuse = |status, reason: String| json(status, &serde_json::json!({ "error": reason }));
    let (lines, pieces) = mpsc::channel(PIECES_MAX);
    let (pipeline, tap) = asked(query, lines).map_err(|reason| refuse(StatusCode::BAD_REQUEST, reason))?;
    let place = place(taps).map_err(|reason| refuse(StatusCode::SERVICE_UNAVAILABLE, reason))?;
    let answered = admin.control.ask(Command::Tap { pipeline, tap }).await;
    let answer = answered.map_err(|busy| refuse(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()))?;
    if let Some((_, Err(reason))) = answer.into_iter().find(|(_, result)| result.is_err()) {
        return Err(refuse(StatusCode::CONFLICT, reason));
    }
    let stop: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move { stopped(&mut stop).await });
    let mut response = Response::new(Lines { pieces, stop: Some(stop), _place: place });
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-ndjson"));
    response.headers_mut().insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn place(taps: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, String> {
    let full = |_| format!("{} taps are open on this daemon, and no more can be: end one of them", super::TAPS_MAX);
    taps.clone().try_acquire_owned().map_err(full)
}

fn asked(query: Option<&str>, lines: mpsc::Sender<Bytes>) -> Result<(String, Tap), String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let Some(text) = parameter(query, name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name}={text} is no number"))
    };
    let pipeline = parameter(query, "pipeline").ok_or("name the pipeline: ?pipeline=NAME")?;
    let rate = number("rate")?.unwrap_or(u64::from(RATE));
    if rate == 0 || rate > u64::from(RATE_MAX) {
        return Err(format!("rate={rate}: it is 1 to {RATE_MAX} rows a second"));
    }
    let bad = match parameter(query, "bad").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(format!("bad={other} is neither true nor false")),
    };
    let tap = Tap {
        after: After::of(parameter(query, "after").as_deref()),
        output: parameter(query, "output"),
        filter: parameter(query, "where"),
        rate: rate as u32,
        limit: number("limit")?,
        bad,
        lines,
    };
    Ok((pipeline, tap))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap_of(query: &str) -> Result<Tap, String> {
        asked(Some(query), mpsc::channel(1).0).map(|(_, tap)| tap)
    }

    #[test]
    fn what_is_asked_is_read_from_the_query() {
        let tap = tap_of("pipeline=p&after=2&where=n+%3E+1&limit=5&bad=true").unwrap();
        assert_eq!((tap.after, tap.filter.as_deref()), (After::Step("2".to_owned()), Some("n > 1")));
        assert_eq!((tap.limit, tap.rate, tap.bad), (Some(5), RATE, true));
        assert_eq!(tap_of("pipeline=p").unwrap().after, After::Routes);
        assert!(tap_of("after=1").unwrap_err().contains("?pipeline=NAME"));
        assert!(tap_of("pipeline=p&rate=0").unwrap_err().contains("1 to 100000"));
        assert!(tap_of("pipeline=p&limit=x").unwrap_err().contains("limit=x"));
    }

    #[tokio::test]
    async fn lines_end_when_the_door_closes() {
        use http_body_util::BodyExt;
        let (stop, mut stops) = watch::channel(false);
        let (lines, pieces) = mpsc::channel(1);
        let taps = Arc::new(Semaphore::new(1));
        let stopped = Box::pin(async move { stopped(&mut stops).await });
        let mut body = Lines { pieces, stop: Some(stopped), _place: place(&taps).unwrap() };
        assert!(place(&taps).unwrap_err().contains("end one of them"));
        lines.send(Bytes::from_static(b"{}\n")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{}\n");
        stop.send(true).unwrap();
        assert!(body.frame().await.unwrap().unwrap().into_data().unwrap().starts_with(b"{\"end\""));
        assert!(body.frame().await.is_none() && lines.is_closed());
        drop(body);
        assert!(place(&taps).is_ok(), "a tap that ended has given its place back");
    }
}
