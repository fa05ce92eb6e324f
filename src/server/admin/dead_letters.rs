//! `/api/dead-letters/…`: what the command `inrush dlt` asks. Each takes a JSON object, so that names and times need no escaping:
//!
//! | request | asks | answer |
//! |---|---|---|
//! | `POST …/list` | `{"name": TOPIC or PIPELINE}`, or `{}` | groups of letters that are alike |
//! | `POST …/show` | `{"topic", "filter", "limit", "place"}` | a page: letters, and the place of the next |
//! | `POST …/drop` | `{"topic", "filter", "dry", "ends"}` | how many go, and how; and the ends up to which that is so |
//! | `POST …/send` | `{"topic", "filter", "to", "again", "dry"}` | how many were sent, and how many rows of windows were not |
//! | `POST …/replay` | `{"pipeline", "filter", "again", "dry"}` | a line, as for the other commands |
//! | `POST …/backfill` | `{"pipeline", "from", "until", "outputs", "sure"}`, times in ms | the same: feeds it a range of its source |
//! | `POST …/stop` | `{"pipeline", "sure"}` | the same: ends what is fed to it |

use super::{Admin, command, json};
use crate::control::{Command, PipelineStatus, Replay};
use crate::letters::{Ends, Error, Filter, Letters, Place};
use crate::store::Topic;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
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
    /// Of an earlier answer to the same question.
    ends: Option<Ends>,
}

/// What the pipelines' statuses say.
#[derive(Default)]
struct Others {
    /// Topics that their dead letters go to.
    topics: Vec<String>,
    /// By name, the one of its dead letters, if it says so.
    pipelines: BTreeMap<String, Option<String>>,
}

impl Others {
    /// The topic of letters that is meant by its own name, by its source's, or by that of the only pipeline that is meant, which the filter
    /// then names too.
    fn named(&self, letters: &Letters, name: &str, filter: &mut Filter) -> Result<Arc<Topic>, Refused> {
        let known = letters.topic(name);
        let own = self.pipelines.get(name).and_then(Option::as_deref);
        match (known, own) {
            (Err(Error::NoTopic(_)), Some(own)) => {
                filter.pipeline.get_or_insert_with(|| name.to_owned());
                Ok(letters.topic(own)?)
            }
            (known, _) => Ok(known?),
        }
    }
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
            return command(admin, Command::StopReplay { pipeline: pipeline.clone(), is_sure: asked.sure }).await;
        }
        _ => {}
    }
    let letters = Letters::new(admin.store.clone(), admin.store.folder().to_owned());
    let statuses = admin.control.statuses();
    let topic_of = |status: &PipelineStatus| {
        status.outputs.iter().find_map(|output| output.strip_prefix(DEAD_LETTERS)).map(str::to_owned)
    };
    let others = Others {
        topics: statuses.iter().filter_map(topic_of).collect(),
        pipelines: statuses.iter().map(|status| (status.name.clone(), topic_of(status))).collect(),
    };
    let now_ms = admin.clock.now_ms();
    let runtime = tokio::runtime::Handle::current();
    // Reading and decoding whole topics has no place among sockets.
    let answered = tokio::task::spawn_blocking(move || look(&letters, &what, asked, &others, now_ms, &runtime)).await;
    match answered {
        Ok(Ok(answer)) => json(StatusCode::OK, &answer),
        Ok(Err(Refused::Asked(error))) => refuse(error),
        Ok(Err(Refused::Letters(error))) => {
            let status = match error {
                Error::NoTopic(_) | Error::NoTarget(_) | Error::Unknown { .. } => StatusCode::NOT_FOUND,
                Error::TooScattered { .. } => StatusCode::BAD_REQUEST,
                Error::Busy(_) => StatusCode::CONFLICT,
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

/// A topic, if it holds letters and no records: all others would be handed on or dropped as if they were.
fn of_letters(topic: Arc<Topic>, others: &[String], done: &str) -> Result<Arc<Topic>, Refused> {
    match topic.name.is_dead_letters() || others.iter().any(|other| other == topic.name.as_str()) {
        true => Ok(topic),
        false => Err(Refused::Asked(format!("{} is no dead letter topic, nothing of it is {done}", topic.name))),
    }
}

fn look(
    letters: &Letters,
    what: &str,
    mut asked: Asked,
    others: &Others,
    now_ms: i64,
    runtime: &tokio::runtime::Handle,
) -> Result<Value, Refused> {
    let mut named = || {
        let name = asked.topic.as_deref().ok_or_else(|| Refused::Asked("name the topic".to_owned()))?;
        others.named(letters, name, &mut asked.filter)
    };
    Ok(match what {
        "list" => match letters.list(asked.name.as_deref(), &others.topics, now_ms) {
            // Nothing of it has failed.
            Err(Error::Unknown { name, .. }) if others.pipelines.contains_key(&name) => json!([]),
            listed => json!(listed?),
        },
        "show" => json!(letters.page(&*named()?, &asked.filter, asked.place, asked.limit.unwrap_or(usize::MAX))?),
        "drop" => {
            let topic = of_letters(named()?, &others.topics, "dropped")?;
            let ends = asked.ends.unwrap_or_else(|| letters.ends(&topic));
            let dropped = runtime.block_on(letters.drop_letters(&topic, &asked.filter, &ends, asked.dry))?;
            json!({ "deleted": dropped.deleted, "hidden": dropped.hidden, "handled": dropped.handled, "replayed": dropped.replayed, "ends": ends })
        }
        "send" => {
            let topic = of_letters(named()?, &others.topics, "sent")?;
            let to = asked.to.as_deref().ok_or_else(|| Refused::Asked("name the topic to send to".to_owned()))?;
            let to = letters.target(to)?;
            if to.id == topic.id {
                return Err(Refused::Asked(format!("the letters are in {} already", topic.name)));
            }
            let _turn = letters.turn(&topic)?;
            let mut of_windows = 0_u64;
            // Neither a batch that could not be decoded nor a row of a window is a record of the source.
            let chosen = letters.choose(&topic, &asked.filter, asked.again, |letter| {
                of_windows += u64::from(letter.is_of_window());
                !letter.is_batch() && !letter.is_of_window()
            })?;
            let count = match asked.dry {
                true => chosen.count,
                false => letters.send_to(&topic, &chosen, &to)?.letters,
            };
            json!({ "letters": count, "of_windows": of_windows, "replayed": chosen.replayed })
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

    use crate::letters::tests::bench::Bench;
    use crate::record::{NewRecord, PartitionId};

    impl Bench {
        /// A topic with one record for each partition that its records say they first stood in.
        fn filled(&self, name: &str, origins: &[i32]) -> Arc<Topic> {
            let topic = self.topic(name, 1);
            for origin in origins {
                let origin = origin.to_be_bytes();
                let headers: [(&[u8], Option<&[u8]>); 2] =
                    [(b"kafka_dlt-original-topic", Some(b"in")), (b"kafka_dlt-original-partition", Some(&origin))];
                self.append(&topic, 0, NewRecord { timestamp: 0, key: None, value: Some(b"1"), headers: &headers });
            }
            topic
        }

        fn ask(&self, topic: &str, others: &[String]) -> Result<Value, String> {
            let asked = Asked { topic: Some(topic.to_owned()), to: Some("mended".to_owned()), ..Asked::default() };
            let others = Others { topics: others.to_vec(), ..Others::default() };
            match look(&self.letters, "send", asked, &others, 0, self.runtime.handle()) {
                Ok(answer) => Ok(answer),
                Err(Refused::Asked(error)) => Err(error),
                Err(Refused::Letters(error)) => Err(error.to_string()),
            }
        }
    }

    #[test]
    fn records_of_a_topic_that_holds_no_letters_are_not_sent() {
        let bench = Bench::new();
        bench.filled("orders", &[0, 0]);
        let mended = bench.filled("mended", &[]);
        assert!(bench.ask("orders", &[]).unwrap_err().contains("no dead letter topic"));
        assert_eq!(mended.partition(PartitionId(0)).unwrap().tail().0, 0);
        // A pipeline says that its letters are there.
        assert_eq!(bench.ask("orders", &["orders".to_owned()]).unwrap()["letters"], 2);
    }

    #[test]
    fn rows_of_windows_are_no_records_and_stay() {
        let bench = Bench::new();
        bench.filled("in-dlt", &[0, -1, 3, -1]);
        let mended = bench.filled("mended", &[]);
        assert_eq!(bench.ask("in-dlt", &[]).unwrap(), json!({ "letters": 2, "of_windows": 2, "replayed": 0 }));
        assert_eq!(mended.partition(PartitionId(0)).unwrap().tail().0, 2);
    }

    #[test]
    fn letters_are_shown_and_dropped_by_the_name_of_their_pipeline() {
        let bench = Bench::new();
        let topic = bench.topic("in-dlt", 1);
        for pipeline in ["one", "two", "one"] {
            let headers: [(&[u8], Option<&[u8]>); 1] = [(b"inrush-dlt-pipeline", Some(pipeline.as_bytes()))];
            bench.append(&topic, 0, NewRecord { timestamp: 0, key: None, value: Some(b"1"), headers: &headers });
        }
        let pipelines = BTreeMap::from([("one".to_owned(), Some("in-dlt".to_owned())), ("new".to_owned(), None)]);
        let others = Others { pipelines, ..Others::default() };
        let ask = |what: &str, name: &str| {
            let asked = Asked { topic: Some(name.to_owned()), dry: true, ..Asked::default() };
            match look(&bench.letters, what, asked, &others, 0, bench.runtime.handle()) {
                Ok(answer) => answer,
                Err(Refused::Asked(error)) => json!(error),
                Err(Refused::Letters(error)) => json!(error.to_string()),
            }
        };
        let count = |name: &str| ask("show", name)["letters"].as_array().unwrap().len();
        assert_eq!((count("one"), count("in"), count("in-dlt")), (2, 3, 3));
        assert_eq!(ask("drop", "one")["hidden"], 1);
        assert!(ask("show", "new").as_str().unwrap().contains("no topic new"), "{}", ask("show", "new"));
    }

    #[test]
    fn letters_that_are_being_sent_are_not_sent_by_a_second_question() {
        let bench = Bench::new();
        let topic = bench.filled("in-dlt", &[0]);
        bench.filled("mended", &[]);
        let turn = bench.letters.turn(&topic).unwrap();
        assert!(bench.ask("in-dlt", &[]).unwrap_err().contains("ask again"));
        drop(turn);
        assert_eq!(bench.ask("in-dlt", &[]).unwrap()["letters"], 1);
    }
}
