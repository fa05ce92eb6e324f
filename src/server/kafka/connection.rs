//! One connection: requests are read on one side and answered on the other, in their order.
//!
//! Produce requests follow each other into the log's queue while earlier ones wait for their sync: a client that pipelines shares rounds
//! with itself. Everything else is answered before the next request is looked at, as Kafka does: a client that asks after it produced
//! sees what it produced.

use super::answer::{self, Answer, Client};
use super::frames::{Closed, Frame, Frames};
use super::produce::{self, Accepted};
use super::{Service, stopped};
use crate::budget::{Budget, Lease};
use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
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
    Produce { accepted: Accepted, _lease: Lease, _own: Lease },
    /// The rest is done when its turn comes.
    Request { frame: Frame, done: oneshot::Sender<()> },
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
    let (local, client) = (stream.local_addr()?, Client::new(stream.peer_addr()?));
    let (read, write) = stream.into_split();
    let (queue, turns) = mpsc::channel(PIPELINE_MAX);
    let (gone, is_gone) = watch::channel(false);
    let ends = Ends { stop: stop.clone(), gone: is_gone };
    let mut answers = pin!(answer_all(write, service, local, client, turns, ends));
    let read_all = async {
        let read = read_all(Frames::new(read), service, queue, &gone, &mut stop).await;
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
    queue: mpsc::Sender<Turn>,
    gone: &watch::Sender<bool>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), Closed> {
    let pipeline = Budget::new(PIPELINE_BYTES_MAX);
    while let Some(frame) = frames.next(service, stop).await? {
        service.meters.request(frame.api);
        if frame.api == ApiKey::Produce {
            let own = pipeline.take(frame.bytes.len().min(PIPELINE_BYTES_MAX), PIPELINE_PATIENCE).await?;
            let accepted = produce::accept(service, &frame).await?;
            if queue.send(Turn::Produce { accepted, _lease: frame.lease, _own: own }).await.is_err() {
                return Ok(());
            }
            continue;
        }
        let (done, mut answered) = oneshot::channel();
        if queue.send(Turn::Request { frame, done }).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            _ = &mut answered => continue,
            () = frames.hang_up() => {}
        }
        let _ = gone.send(true);
        let _ = answered.await;
    }
    Ok(())
}

async fn answer_all<S: AsyncWrite + Unpin>(
    mut stream: S,
    service: &Arc<Service>,
    local: SocketAddr,
    mut client: Client,
    mut turns: mpsc::Receiver<Turn>,
    mut ends: Ends,
) -> Result<(), Closed> {
    while let Some(turn) = turns.recv().await {
        match turn {
            Turn::Produce { accepted, _lease, _own } => {
                if let Some(answer) = accepted.answered(service).await? {
                    send(&mut stream, answer, service.door.patience.answer).await?;
                }
            }
            Turn::Request { frame, done } => {
                let answer = answer::answer(service, &mut client, local, frame, &mut ends).await?;
                send(&mut stream, answer, service.door.patience.answer).await?;
                let _ = done.send(());
            }
        }
    }
    Ok(())
}

/// Writes an answer's pieces without joining them.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, answer: Answer, patience: Duration) -> Result<(), Closed> {
    let mut pieces: VecDeque<Bytes> = answer.pieces.into();
    let mut window = (Instant::now(), 0);
    let mut sent = 0;
    while !pieces.is_empty() {
        let slices: Vec<IoSlice<'_>> = pieces.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece)).collect();
        if sent - window.1 >= WINDOW_SIZE_MIN {
            window = (Instant::now(), sent);
        }
        let written = timeout_at(window.0 + patience, stream.write_vectored(&slices)).await;
        let mut written = written.map_err(|_| Closed::Slow("taking its answer"))??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        sent += written;
        while let Some(first) = pieces.front_mut() {
            if first.len() > written {
                first.advance(written);
                break;
            }
            written -= first.len();
            pieces.pop_front();
        }
    }
    drop(answer.leases);
    Ok(())
}
