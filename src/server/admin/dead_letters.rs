//! `/api/dead-letters/…`: what the command `inrush dlt` asks. Each takes a JSON object, so that names and times need no escaping:
//!
//! | request | asks | answer |
//! |---|---|---|
//! | `POST …/list` | `{"name": TOPIC or PIPELINE}`, or `{}` | groups of letters that are alike |
//! | `POST …/show` | `{"topic", "filter", "limit", "place"}` | a page: letters, and the place of the next |
//! | `POST …/drop` | `{"topic", "filter", "dry"}` | how many go, and how |
//! | `POST …/send` | `{"topic", "filter", "to", "again", "dry"}` | how many were sent |
//! | `POST …/replay` | `{"pipeline", "filter", "again", "dry"}` | a line, as for the other commands |
//! | `POST …/backfill` | `{"pipeline", "from", "until", "outputs", "sure"}`, times in ms | the same: feeds it a range of its source |
//! | `POST …/stop` | `{"pipeline"}` | the same: ends what is fed to it |

use super::{Admin, command, json};
use crate::control::{Command, Replay};
use crate::letters::{Error, Filter, Letters, Place};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// No question is larger.
const BODY_SIZE_MAX: usize = 64 << 10;
/// How long a client may take to send it: it has one of few connections.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// What stands before the name of a question.
pub(super) const PATH: &str = "/api/dead-letters/";
/// How a pipeline's status names its dead letter topic.
const DEAD_LETTERS: &str = "dead letters ";

/// All that the questions say; each takes what it needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    name: Option<String>,
    topic: Option<String>,
    pipeline: Option<String>,
    filter: Filter,
    limit: Option<usize>,
    place: Option<Place>,
    to: Option<String>,
    again: bool,
    dry: bool,
    from: i64,
    until: i64,
    outputs: Vec<String>,
    sure: bool,
}

/// Why a question has no answer.
enum Refused {
    Asked(String),
    Letters(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Letters(error)
    }
}

pub(super) async fn answer(admin: &Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        let error = "dead letters are asked for by POST, with a JSON object";
        return json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": error }));
    }
    let what = request.uri().path().trim_start_matches(PATH).to_owned();
    let refuse = |error: String| json(StatusCode::BAD_REQUEST, &json!({ "error": error }));
    let body = match read(request.into_body(), BODY_PATIENCE).await {
        Ok(body) => body,
        Err(error) => return refuse(format!("the question cannot be read: {error}")),
    };
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return refuse(format!("the question is not understood: {error}")),
    };
    match (what.as_str(), &asked.pipeline) {
        ("replay", Some(pipeline)) => {
            let how = Replay { again: asked.again, is_dry: asked.dry };
            return command(admin, Command::Replay { pipeline: pipeline.clone(), filter: asked.filter, how }).await;
        }
        ("backfill", Some(pipeline)) => {
            let Asked { from, until, outputs: to, sure: is_sure, .. } = asked;
            let asked = Command::Backfill { pipeline: pipeline.clone(), from, until, to, is_sure };
            return command(admin, asked).await;
        }
        ("stop", Some(pipeline)) => {
            return command(admin, Command::StopReplay { pipeline: pipeline.clone() }).await;
        }
        _ => {}
    }
    let letters = Letters::new(admin.store.clone(), admin.store.folder().to_owned());
    let others: Vec<String> = admin
        .control
        .statuses()
        .iter()
        .flat_map(|status| &status.outputs)
        .filter_map(|output| output.strip_prefix(DEAD_LETTERS).map(str::to_owned))
        .collect();
    let now_ms = admin.clock.now_ms();
    let runtime = tokio::runtime::Handle::current();
    // Reading and decoding whole topics has no place among sockets.
    let answered = tokio::task::spawn_blocking(move || look(&letters, &what, asked, &others, now_ms, &runtime)).await;
    match answered {
        Ok(Ok(answer)) => json(StatusCode::OK, &answer),
        Ok(Err(Refused::Asked(error))) => refuse(error),
        Ok(Err(Refused::Letters(error))) => {
            let status = match error {
                Error::NoTopic(_) | Error::Unknown { .. } => StatusCode::NOT_FOUND,
                Error::TooScattered { .. } => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            json(status, &json!({ "error": error.to_string() }))
        }
        Err(error) => json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error.to_string() })),
    }
}

async fn read<B>(body: B, patience: Duration) -> Result<Bytes, String>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match tokio::time::timeout(patience, Limited::new(body, BODY_SIZE_MAX).collect()).await {
        Ok(read) => read.map(Collected::to_bytes).map_err(|error| error.to_string()),
        Err(_) => Err(format!("its end did not come within {} seconds", patience.as_secs())),
    }
}

fn look(
    letters: &Letters,
    what: &str,
    asked: Asked,
    others: &[String],
    now_ms: i64,
    runtime: &tokio::runtime::Handle,
) -> Result<Value, Refused> {
    let named = || {
        let name = asked.topic.as_deref().ok_or_else(|| Refused::Asked("name the topic".to_owned()))?;
        Ok::<_, Refused>(letters.topic(name)?)
    };
    Ok(match what {
        "list" => json!(letters.list(asked.name.as_deref(), others, now_ms)?),
        "show" => json!(letters.page(&*named()?, &asked.filter, asked.place, asked.limit.unwrap_or(usize::MAX))?),
        "drop" => {
            let topic = named()?;
            let is_others = others.iter().any(|other| other == topic.name.as_str());
            if !topic.name.is_dead_letters() && !is_others {
                return Err(Refused::Asked(format!(
                    "{} is no dead letter topic, nothing is dropped of it",
                    topic.name
                )));
            }
            json!(runtime.block_on(letters.drop_letters(&topic, &asked.filter, asked.dry))?)
        }
        "send" => {
            let topic = named()?;
            let to = asked.to.as_deref().ok_or_else(|| Refused::Asked("name the topic to send to".to_owned()))?;
            let to = letters.target(to)?;
            if to.id == topic.id {
                return Err(Refused::Asked(format!("the letters are in {} already", topic.name)));
            }
            // A batch that could not be decoded is no record, nor is a row of a window.
            let mut window_rows = 0_u64;
            let chosen = letters.choose(&topic, &asked.filter, asked.again, |letter| {
                window_rows += u64::from(letter.is_row_of_window());
                !letter.is_batch() && !letter.is_row_of_window()
            })?;
            let sent = if asked.dry { chosen.count } else { letters.send_to(&topic, &chosen, &to)?.letters };
            json!({ "letters": sent, "window_rows": window_rows })
        }
        _ => {
            let known = "list, show, drop, send; replay, backfill and stop with a pipeline";
            return Err(Refused::Asked(format!("nothing answers {PATH}{what}; there are {known}")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_question_that_does_not_end_is_refused() {
        let refused = read(Endless, Duration::from_millis(1)).await.unwrap_err();
        assert!(refused.contains("did not come"), "{refused}");
        assert_eq!(read(Full::new(Bytes::from_static(b"{}")), BODY_PATIENCE).await.unwrap(), "{}");
    }
}
