//! The admin door: `/metrics`, `/healthz`, `/readyz` and what the commands ask of pipelines (`/api/…`).
//!
//! Its own listener, loopback by default: nothing here may be reached through the doors that take events. It knows the store's
//! health and the pipelines' board; it moves no event.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | Prometheus text |
//! | `GET /healthz` | 200 while the process is alive and its log takes writes or reads; 503 `{"status":"poisoned"…}` once the data folder is dead |
//! | `GET /readyz` | 200 or 503, with one line a reason |
//! | `GET /api/pipelines` | the board, a list of [`crate::control::PipelineStatus`] |
//! | `POST /api/pipelines/reload[?pipeline=NAME]` | what was done for each pipeline |
//! | `POST /api/dead-letters/…` | see [`dead_letters`] |
//! | `POST /api/pipelines/reset?pipeline=NAME&to=start\|end\|MILLIS\|offset:N[&partition=N]` | the same |
//! | `POST /api/pipelines/pause?pipeline=NAME`, `…/resume?pipeline=NAME` | the same |
//! | `GET /api/pipelines/tap?pipeline=NAME[&after=STEP\|columns\|routes][&output=NAME][&where=SQL][&rate=N][&limit=N][&bad=true]` | rows as they pass, line by line: [`crate::control::Tap`] |

mod dead_letters;
mod ready;
mod scrape;
mod tap;

pub use ready::{Readiness, readiness};

use super::host::{is_ours, name_of};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::control::{Command, Control, ResetTo};
use crate::group::Groups;
use crate::pulse::Pulse;
use crate::store::Store;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tap::Lines;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

/// Connections at a time; a scraper and a few commands need no more.
const CONNECTIONS_MAX: usize = 64;
/// Of these those that tap a pipeline, which may last for days: the others are for probes and scrapers.
const TAPS_MAX: usize = 32;
/// How long a client may take to send its request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long running requests may take once the door closes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What the admin door shows.
pub struct Admin {
    pub store: Store,
    pub control: Control,
    pub groups: Groups,
    pub metrics: PrometheusHandle,
    pub clock: Clock,
    /// Bytes of requests in flight.
    pub budget: Budget,
    /// Loops that must beat for `/readyz` to be green.
    pub pulses: Vec<Pulse>,
    /// This door's own; beats while its accept loop turns.
    pub pulse: Pulse,
    /// Host names, besides IP addresses and `localhost`, that requests may be addressed to.
    pub host_names: Vec<String>,
}

/// Serves until `stop` turns true; running requests get [`CLOSE_PATIENCE`] to end.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let taps = Arc::new(Semaphore::new(TAPS_MAX));
    let mut beat = tokio::time::interval(crate::pulse::BEAT_INTERVAL);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            _ = beat.tick() => {
                admin.pulse.beat();
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors or memory: others may give some back; spinning on accept would not help them.
                warn!(%error, "admin door cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (admin, taps) = (admin.clone(), taps.clone());
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let stops = stop.clone();
            let service = service_fn(move |request| {
                let (admin, taps, stop) = (admin.clone(), taps.clone(), stops.clone());
                async move { Ok::<_, Infallible>(answer(&admin, request, &taps, stop).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    tokio::time::timeout(CLOSE_PATIENCE, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = ended {
                debug!(%error, "admin connection ended");
            }
        });
    }
}

/// Returns once the door is to close (or who would say so is gone).
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard that `wait_for` answers with must not live across an await.
    let _ = stop.wait_for(|stopped| *stopped).await.map(drop);
}

/// Whole, or lines as they come.
type Reply = Response<Either<Full<Bytes>, Lines>>;

async fn answer(
    admin: &Admin,
    request: Request<Incoming>,
    taps: &Arc<Semaphore>,
    stop: watch::Receiver<bool>,
) -> Reply {
    if request.method() == Method::GET && request.uri().path() == "/api/pipelines/tap" {
        let refused = check_addressee(request.headers(), &admin.host_names);
        let refused = refused.map_err(|reason| json(StatusCode::FORBIDDEN, &serde_json::json!({ "error": reason })));
        let tapped = match refused {
            Ok(()) => tap::tap(admin, request.uri().query(), taps, stop).await,
            Err(refused) => Err(refused),
        };
        return match tapped {
            Ok(lines) => lines.map(Either::Right),
            Err(refused) => refused.map(Either::Left),
        };
    }
    whole(admin, request).await.map(Either::Left)
}

async fn whole(admin: &Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if let Err(reason) = check_addressee(request.headers(), &admin.host_names) {
        return json(StatusCode::FORBIDDEN, &serde_json::json!({ "error": reason }));
    }
    if request.uri().path().starts_with(dead_letters::PATH) {
        return dead_letters::answer(admin, request).await;
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let is_ready = ready(admin).is_ready;
            text(StatusCode::OK, admin.metrics.render() + &scrape::text(admin, is_ready))
        }
        (&Method::GET, "/healthz") => match admin.store.health().poisoned {
            None => json(StatusCode::OK, &serde_json::json!({ "status": "ok" })),
            Some(cause) => {
                json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "status": "poisoned", "reason": cause }))
            }
        },
        (&Method::GET, "/readyz") => {
            let found = ready(admin);
            let status = if found.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(
                status,
                &serde_json::json!({ "ready": found.is_ready, "reasons": found.reasons, "warnings": found.warnings }),
            )
        }
        (&Method::GET, "/api/pipelines") => json(StatusCode::OK, &serde_json::json!(admin.control.statuses())),
        (&Method::POST, "/api/pipelines/reload") => {
            let query = request.uri().query();
            let pipeline = parameter(query, "pipeline");
            match parameter(query, "state").as_deref() {
                None => command(admin, Command::Reload { pipeline, drop_state: false }).await,
                Some("drop") if pipeline.is_some() => {
                    command(admin, Command::Reload { pipeline, drop_state: true }).await
                }
                Some(_) => {
                    let error = "state is \"drop\", and names one pipeline: ?pipeline=NAME&state=drop";
                    json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error }))
                }
            }
        }
        (&Method::POST, "/api/pipelines/reset") => match reset(request.uri().query()) {
            Ok(asked) => command(admin, asked).await,
            Err(reason) => json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": reason })),
        },
        (&Method::POST, "/api/pipelines/pause" | "/api/pipelines/resume") => {
            match parameter(request.uri().query(), "pipeline") {
                Some(pipeline) if request.uri().path().ends_with("pause") => {
                    command(admin, Command::Pause { pipeline }).await
                }
                Some(pipeline) => command(admin, Command::Resume { pipeline }).await,
                None => {
                    json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": "name the pipeline: ?pipeline=NAME" }))
                }
            }
        }
        (_, path) => json(
            StatusCode::NOT_FOUND,
            &serde_json::json!({ "error": format!("nothing answers {} {path} here; the admin door has GET /metrics, /healthz, /readyz, /api/pipelines, /api/pipelines/tap and POST /api/pipelines/reload, /api/pipelines/reset, /api/pipelines/pause, /api/pipelines/resume, /api/dead-letters/…", request.method()) }),
        ),
    }
}

fn ready(admin: &Admin) -> Readiness {
    let now_ms = admin.clock.now_ms();
    readiness(&admin.store.health(), admin.groups.trouble(), &admin.pulses, &admin.control.statuses(), now_ms)
}

async fn command(admin: &Admin, command: Command) -> Response<Full<Bytes>> {
    match admin.control.ask(command).await {
        Ok(done) => {
            let all_well = done.iter().all(|(_, result)| result.is_ok());
            let lines: Vec<_> = done
                .into_iter()
                .map(|(pipeline, result)| match result {
                    Ok(said) => serde_json::json!({ "pipeline": pipeline, "ok": true, "message": said }),
                    Err(said) => serde_json::json!({ "pipeline": pipeline, "ok": false, "message": said }),
                })
                .collect();
            json(if all_well { StatusCode::OK } else { StatusCode::CONFLICT }, &serde_json::json!(lines))
        }
        Err(busy) => json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "error": busy.to_string() })),
    }
}

fn reset(query: Option<&str>) -> Result<Command, String> {
    let pipeline = parameter(query, "pipeline").ok_or("name the pipeline: ?pipeline=NAME&to=start|end|MILLISECONDS")?;
    let to = match parameter(query, "to").as_deref() {
        Some("start") => ResetTo::Start,
        Some("end") => ResetTo::End,
        Some(text) if text.starts_with("offset:") => ResetTo::Offset(
            text.trim_start_matches("offset:").parse().map_err(|_| format!("to={text}: an offset is a number"))?,
        ),
        Some(text) => ResetTo::Time(
            text.parse()
                .map_err(|_| format!("to={text} is neither start, end, offset:N nor milliseconds since 1970"))?,
        ),
        None => return Err("say where to: to=start|end|MILLISECONDS".to_owned()),
    };
    let partition = match parameter(query, "partition") {
        Some(text) => Some(text.parse().map_err(|_| format!("partition={text} is no number"))?),
        None => None,
    };
    Ok(Command::Reset { pipeline, partition, to })
}

/// The value of a query parameter. Names of pipelines and numbers need no percent-decoding; what does is refused as unknown later.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, v)| v.to_owned())
}

/// Refuses what a web page could send through somebody's browser: a foreign `Origin`, or a `Host` that is a name we do not go by (DNS rebinding).
fn check_addressee(headers: &HeaderMap, host_names: &[String]) -> Result<(), String> {
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        return Err(format!("the admin door answers no web page (Origin: {origin})"));
    }
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let host = String::from_utf8_lossy(host.as_bytes());
    if is_ours(&host, host_names) {
        return Ok(());
    }
    Err(format!("the admin door does not go by the name \"{}\"; use its IP address", name_of(&host)))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; version=0.0.4; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    #[test]
    fn a_web_page_and_a_rebound_name_are_refused() {
        let ours = vec!["events.example".to_owned()];
        for host in ["127.0.0.1:9600", "[::1]:9600", "localhost", "events.example:9600", "::1"] {
            assert_eq!(check_addressee(&headers(host, None), &ours), Ok(()), "{host}");
        }
        assert!(check_addressee(&headers("evil.example:9600", None), &ours).is_err());
        assert!(check_addressee(&headers("127.0.0.1:9600", Some("http://evil.example")), &ours).is_err());
    }

    #[test]
    fn a_reset_says_which_pipeline_and_where_to() {
        assert!(matches!(
            reset(Some("pipeline=clicks&to=1700000000000")),
            Ok(Command::Reset { to: ResetTo::Time(1_700_000_000_000), .. })
        ));
        assert!(reset(Some("pipeline=clicks")).is_err());
        assert!(reset(Some("pipeline=clicks&to=yesterday")).is_err());
        assert!(reset(None).is_err());
    }
}
