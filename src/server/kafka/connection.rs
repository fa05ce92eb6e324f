//! One connection: requests are read on one side and answered on the other, in their order.
//!
//! Produce requests follow each other into the log's queue while earlier ones wait for their sync: a client that pipelines shares rounds
//! with itself. Everything else is answered before the next request is looked at, as Kafka does: a client that asks after it produced
//! sees what it produced.
//!
//! Who has used up a quota is answered at once and then not listened to for a while (KIP-219): what it sends waits in its socket.

use super::answer::{self, Answer, Client};
use super::frames::{Closed, Frame, Frames};
use super::produce::{self, Accepted};
use super::{Service, quotas, stopped};
use crate::budget::{Budget, Lease};
use crate::wire::fetch::Piece;
use bytes::Buf;
use kafka_protocol::messages::ApiKey;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

/// Requests of one connection that wait for their answers.
const PIPELINE_MAX: usize = 32;
/// Their bytes; a larger request waits until it is alone.
const PIPELINE_BYTES_MAX: usize = 16 << 20;
/// The answers before always come, or the connection ends: this only bounds a mistake of ours.
const PIPELINE_PATIENCE: Duration = Duration::from_secs(3_600);
/// What must be taken within the door's patience, or the rest of the answer: 8 KiB a second.
const WINDOW_SIZE_MIN: usize = 256 << 10;
/// Pieces of one call to the system.
const PIECES_MAX: usize = 64;

/// One request in its turn.
enum Turn {
    /// Its batches are in the log's queue.
    Produce { accepted: Accepted, throttled: Option<Throttled>, _lease: Lease, _own: Lease },
    /// The rest is done when its turn comes; then it is told how long the client is not listened to.
    Request { frame: Frame, done: oneshot::Sender<Duration> },
}

/// A request whose client waits after the answer.
struct Throttled {
    throttle: Duration,
    done: oneshot::Sender<Duration>,
}

/// What ends a wait before its time.
pub(super) struct Ends {
    /// The door closes.
    stop: watch::Receiver<bool>,
    /// The client has hung up.
    gone: watch::Receiver<bool>,
}

impl Ends {
    pub(super) fn is_over(&self) -> bool {
        *self.stop.borrow() || *self.gone.borrow()
    }

    pub(super) async fn over(&mut self) {
        tokio::select! {
            () = stopped(&mut self.stop) => {}
            () = stopped(&mut self.gone) => {}
        }
    }
}

/// Serves a connection until the client leaves, errs or is too slow, or the door closes.
pub(super) async fn run(
    stream: TcpStream,
    service: &Arc<Service>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Closed> {
    service.meters.connections.increment(1.0);
    let _counted = Counted(service);
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let address = stream.peer_addr()?.ip();
    let (read, write) = stream.into_split();
    let (queue, turns) = mpsc::channel(PIPELINE_MAX);
    let (gone, is_gone) = watch::channel(false);
    let ends = Ends { stop: stop.clone(), gone: is_gone };
    let mut answers = pin!(answer_all(write, service, local, Client::new(address), turns, ends));
    let read_all = async {
        let read = read_all(Frames::new(read), service, &Client::new(address), queue, &gone, &mut stop).await;
        // What was read before is answered; nobody need wait for more records.
        let _ = gone.send(true);
        read
    };
    tokio::select! {
        ended = &mut answers => ended,
        read = read_all => answers.await.and(read),
    }
}

struct Counted<'a>(&'a Service);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.meters.connections.decrement(1.0);
    }
}

async fn read_all<S: tokio::io::AsyncRead + Unpin>(
    mut frames: Frames<S>,
    service: &Arc<Service>,
    client: &Client,
    queue: mpsc::Sender<Turn>,
    gone: &watch::Sender<bool>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), Closed> {
    let pipeline = Budget::new(PIPELINE_BYTES_MAX);
    let mut changes = service.door.quotas.changes();
    while let Some(frame) = frames.next(service, stop).await? {
        service.meters.request(frame.api);
        // What the request is judged by from here on: a change of it ends the wait that it asks for.
        changes.mark_unchanged();
        let rates = service.door.quotas.rates(&quotas::caller(client, frame.client_id()));
        let rates = rates.map(|rates| (rates, frame.client_id().to_owned()));
        let mut answered = None;
        let mut done = || {
            let (done, is_done) = oneshot::channel();
            answered = Some(is_done);
            done
        };
        let turn = if frame.api == ApiKey::Produce {
            let throttle = service.door.quotas.received(&quotas::caller(client, frame.client_id()), frame.bytes.len());
            let own = pipeline.take(frame.bytes.len().min(PIPELINE_BYTES_MAX), PIPELINE_PATIENCE).await?;
            let accepted = produce::accept(service, &frame).await?;
            let throttled = (!throttle.is_zero()).then(|| Throttled { throttle, done: done() });
            Turn::Produce { accepted, throttled, _lease: frame.lease, _own: own }
        } else {
            Turn::Request { frame, done: done() }
        };
        if queue.send(turn).await.is_err() {
            return Ok(());
        }
        let Some(mut answered) = answered else { continue };
        let throttle = tokio::select! {
            throttle = &mut answered => throttle,
            () = frames.hang_up() => {
                let _ = gone.send(true);
                answered.await
            }
        };
        // An answer that failed ends the connection on the other side.
        let throttle = throttle.unwrap_or_default();
        if throttle.is_zero() {
            continue;
        }
        let is_judged_anew = async {
            while changes.changed().await.is_ok() {
                let now = |id: &str| service.door.quotas.rates(&quotas::caller(client, id));
                if rates.as_ref().is_none_or(|(rates, id)| now(id) != Some(*rates)) {
                    return;
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(throttle) => {}
            () = frames.left() => {}
            () = is_judged_anew => {}
            () = stopped(stop) => return Ok(()),
        }
    }
    Ok(())
}

async fn answer_all(
    mut stream: OwnedWriteHalf,
    service: &Arc<Service>,
    local: SocketAddr,
    mut client: Client,
    mut turns: mpsc::Receiver<Turn>,
    mut ends: Ends,
) -> Result<(), Closed> {
    let mut is_known = false;
    while let Some(turn) = turns.recv().await {
        if std::mem::replace(&mut is_known, true) {
            service.door.at_work.note();
        }
        match turn {
            Turn::Produce { accepted, throttled, _lease, _own } => {
                let throttle = throttled.as_ref().map_or(Duration::ZERO, |throttled| throttled.throttle);
                if let Some(answer) = accepted.answered(service, throttle).await? {
                    send(&mut stream, answer, service.door.patience.answer).await?;
                }
                if let Some(Throttled { throttle, done }) = throttled {
                    let _ = done.send(throttle);
                }
            }
            Turn::Request { frame, done } => {
                let answer = answer::answer(service, &mut client, local, frame, &mut ends).await?;
                let throttle = answer.throttle;
                send(&mut stream, answer, service.door.patience.answer).await?;
                let _ = done.send(throttle);
            }
        }
    }
    Ok(())
}

/// Writes an answer's pieces without joining them.
async fn send(stream: &mut OwnedWriteHalf, answer: Answer, patience: Duration) -> Result<(), Closed> {
    let mut pieces: VecDeque<Piece> = answer.pieces.into();
    let mut window = (Instant::now(), 0);
    let mut sent = 0;
    while !pieces.is_empty() {
        if sent - window.1 >= WINDOW_SIZE_MIN {
            window = (Instant::now(), sent);
        }
        let written = timeout_at(window.0 + patience, send_some(stream, &pieces)).await;
        let mut written = written.map_err(|_| Closed::Slow("taking its answer"))??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        sent += written;
        while let Some(first) = pieces.front_mut() {
            if first.len() > written {
                match first {
                    Piece::Memory(bytes) => bytes.advance(written),
                    Piece::File(stretch) => stretch.advance(written),
                }
                break;
            }
            written -= first.len();
            pieces.pop_front();
        }
    }
    drop(answer.leases);
    Ok(())
}

/// Sends of the first pieces what one call to the system takes.
async fn send_some(stream: &mut OwnedWriteHalf, pieces: &VecDeque<Piece>) -> io::Result<usize> {
    if let Some(Piece::File(stretch)) = pieces.front() {
        let socket: &TcpStream = stream.as_ref();
        return socket.async_io(Interest::WRITABLE, || stretch.send(socket.as_fd())).await;
    }
    let slices: Vec<IoSlice<'_>> = pieces.iter().take(PIECES_MAX).map_while(in_memory).collect();
    stream.write_vectored(&slices).await
}

fn in_memory(piece: &Piece) -> Option<IoSlice<'_>> {
    match piece {
        Piece::Memory(bytes) => Some(IoSlice::new(bytes)),
        Piece::File(_) => None,
    }
}
