//! Connections: who is let in, how long each may take for what, and how they end. Each begins on the [`fast_path`] and goes on with hyper.
//!
//! hyper has a timer for a request's head, but it starts when the last answer is sent: a kept connection would be cut after five seconds
//! of silence. So each connection notes what it is doing since when ([`Activity`]), and one sweep looks at all of them.

use super::limits::Limits;
use super::{HttpDoor, fast_path};
use crate::budget::Budget;
use crate::server::callers::{AtWork, Gate};
use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

/// How often connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How often a few of those end that take too long, and how many that is, at least.
const CUT_INTERVAL: Duration = Duration::from_millis(5);
const CUTS_A_TURN: usize = 16;
/// One address holds at most this part of the bytes in flight; loopback and trusted proxies are exempt.
const ADDRESS_SHARE: usize = 2;
/// The largest head of a request.
pub(super) const HEAD_SIZE_MAX: usize = 32 << 10;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Between two requests.
    Idle = 0,
    /// The head of a request is coming in.
    Head = 1,
    /// A request is being answered; it has limits of its own.
    Busy = 2,
    /// The answer is on its way out.
    Answer = 3,
}

/// What a connection is doing since when: the phase in the two lowest bits, above them milliseconds since the door opened.
#[derive(Debug)]
struct Activity {
    state: AtomicU64,
    now_ms: Arc<AtomicU64>,
}

impl Activity {
    fn set(&self, phase: Phase) {
        // Relaxed: a number for the sweep, nothing is published with it.
        self.state.store(self.now_ms.load(Ordering::Relaxed) << 2 | phase as u64, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        match self.state.load(Ordering::Relaxed) & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Answer,
        }
    }

    /// How long it has been doing that, as of the last look.
    fn age(&self) -> Duration {
        let since_ms = self.state.load(Ordering::Relaxed) >> 2;
        Duration::from_millis(self.now_ms.load(Ordering::Relaxed).saturating_sub(since_ms))
    }
}

/// Who is at the other end of a connection, and what may be held for it.
pub(super) struct Caller {
    peer: SocketAddr,
    /// Canonical.
    pub(super) address: IpAddr,
    /// It is believed when it says for whom it speaks.
    pub(super) is_proxy: bool,
    pub(super) budget: Budget,
    activity: Activity,
    at_work: AtWork,
    /// A request was answered.
    is_known: AtomicBool,
    /// Milliseconds that it is not listened to after this answer.
    muted_ms: AtomicU64,
}

impl Caller {
    /// Notes what its connection is doing from now on.
    pub(super) fn set(&self, phase: Phase) {
        self.activity.set(phase);
        if phase == Phase::Answer && self.is_known.swap(true, Ordering::Relaxed) {
            self.at_work.note();
        }
    }

    /// It takes longer for what it does than it may.
    fn is_late(&self, limits: &Limits) -> bool {
        let limit = match self.activity.phase() {
            Phase::Idle => limits.idle_max,
            Phase::Head => limits.head_patience,
            Phase::Busy => return false,
            Phase::Answer => limits.answer_stall_max,
        };
        self.activity.age() > limit
    }

    /// Nothing was answered on its connection yet.
    pub(super) fn is_new(&self) -> bool {
        !self.is_known.load(Ordering::Relaxed)
    }

    /// Its connection is not listened to for so long, from the answer on.
    pub(super) fn mute(&self, wait: Duration) {
        // Relaxed: one task asks and answers.
        self.muted_ms.store(wait.as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn is_muted(&self) -> bool {
        self.muted_ms.load(Ordering::Relaxed) > 0
    }

    /// For how long it is not to be listened to; told once.
    pub(super) fn take_muted(&self) -> Duration {
        Duration::from_millis(self.muted_ms.swap(0, Ordering::Relaxed))
    }
}

/// All connections.
struct Callers {
    began: Instant,
    now_ms: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_address: HashMap<IpAddr, Address>,
    by_number: HashMap<u64, (Arc<Caller>, Option<AbortHandle>)>,
    next_number: u64,
}

struct Address {
    connections: usize,
    budget: Budget,
}

/// One connection's place; given back when it ends.
struct Place {
    callers: Arc<Callers>,
    caller: Arc<Caller>,
    number: u64,
    counted: Option<IpAddr>,
}

impl Callers {
    fn new() -> Callers {
        Callers { began: Instant::now(), now_ms: Arc::default(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection, if there is one for it.
    fn admit(self: &Arc<Self>, peer: SocketAddr, door: &HttpDoor) -> Option<Place> {
        let mut state = self.state();
        if state.by_number.len() >= door.limits.connections_max {
            return None;
        }
        let address = peer.ip().to_canonical();
        let is_proxy = door.proxies.contains(address);
        let counted = (!address.is_loopback() && !is_proxy).then(|| household(address));
        let budget = match counted {
            None => door.budget.clone(),
            Some(household) => {
                let share =
                    || Address { connections: 0, budget: door.budget.share(door.budget.limit() / ADDRESS_SHARE) };
                let own = state.by_address.entry(household).or_insert_with(share);
                if own.connections >= door.limits.connections_per_address_max {
                    return None;
                }
                own.connections += 1;
                own.budget.clone()
            }
        };
        let number = state.next_number;
        state.next_number += 1;
        let activity = Activity { state: AtomicU64::new(0), now_ms: self.now_ms.clone() };
        activity.set(Phase::Idle);
        let (at_work, is_known) = (door.at_work.clone(), AtomicBool::new(false));
        let muted_ms = AtomicU64::new(0);
        let caller = Arc::new(Caller { peer, address, is_proxy, budget, activity, at_work, is_known, muted_ms });
        state.by_number.insert(number, (caller.clone(), None));
        Some(Place { callers: self.clone(), caller, number, counted })
    }

    /// Notes how a connection is cut; it may have ended already.
    fn started(&self, number: u64, task: AbortHandle) {
        if let Some((_, abort)) = self.state().by_number.get_mut(&number) {
            *abort = Some(task);
        }
    }

    /// Who takes too long, to be cut.
    fn sweep(&self, limits: &Limits) -> Vec<Late> {
        self.now_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
        let state = self.state();
        let late = state.by_number.values().filter(|(caller, _)| caller.is_late(limits));
        late.filter_map(|(caller, abort)| Some(Late { caller: caller.clone(), abort: abort.clone()? })).collect()
    }
}

/// A connection that took too long when it was looked at.
struct Late {
    caller: Arc<Caller>,
    abort: AbortHandle,
}

/// Ends connections, a few at a time and until about the next look: thousands that came together are late together, and their ends, and
/// their coming again, would keep others from their turns. Who has done meanwhile what it was late with goes on.
async fn cut(late: Vec<Late>, limits: Limits) {
    let turns = (SWEEP_INTERVAL.as_millis() / CUT_INTERVAL.as_millis()) as usize;
    for few in late.chunks(late.len().div_ceil(turns).max(CUTS_A_TURN)) {
        for Late { caller, abort } in few.iter().filter(|late| late.caller.is_late(&limits)) {
            debug!(peer = %caller.peer, phase = ?caller.activity.phase(), "HTTP connection took too long");
            abort.abort();
        }
        tokio::time::sleep(CUT_INTERVAL).await;
    }
}

/// What counts as one address: of IPv6 the network that one customer has.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.callers.state();
        state.by_number.remove(&self.number);
        if let Some(address) = self.counted
            && let Some(own) = state.by_address.get_mut(&address)
        {
            own.connections -= 1;
            if own.connections == 0 {
                state.by_address.remove(&address);
            }
        }
    }
}

/// Serves until `stop` turns true; then no connection is accepted, and running requests get `close_patience` to end.
pub async fn serve(listener: TcpListener, door: Arc<HttpDoor>, mut stop: watch::Receiver<bool>) {
    let callers = Arc::new(Callers::new());
    let mut gate = Gate::new(door.at_work.clone());
    let mut connections = tokio::task::JoinSet::new();
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = gate.accept(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
            _ = sweeps.tick() => {
                door.pulse.beat();
                let late = callers.sweep(&door.limits);
                if !late.is_empty() {
                    tokio::spawn(cut(late, door.limits.clone()));
                }
                continue;
            }
            () = stopped(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: others may give some back.
                warn!(%error, "the HTTP door cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        gate.pass().await;
        let Some(place) = callers.admit(peer, &door) else {
            metrics::counter!(crate::metrics::HTTP_REFUSALS.name, "status" => "connection", "reason" => "connections")
                .increment(1);
            continue;
        };
        // Answers are small and whole: waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let number = place.number;
        let task = connections.spawn(connection(stream, door.clone(), stop.clone(), place));
        callers.started(number, task);
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(door.limits.close_patience, drained).await.is_err() {
        warn!("HTTP connections did not end in time and are cut");
    }
}

async fn connection(mut stream: TcpStream, door: Arc<HttpDoor>, stop: watch::Receiver<bool>, place: Place) {
    let caller = place.caller.clone();
    if let Some(read) = fast_path::serve(&mut stream, &door, &caller, &stop).await {
        // Boxed: most connections never come here.
        Box::pin(connection_of_hyper(stream, read, door, caller, stop)).await;
    }
}

async fn connection_of_hyper(
    stream: TcpStream,
    read: Bytes,
    door: Arc<HttpDoor>,
    caller: Arc<Caller>,
    mut stop: watch::Receiver<bool>,
) {
    let stopping = stop.clone();
    let socket = Socket(Arc::new(stream));
    let watched = Watched { socket: socket.clone(), read, caller: caller.clone() };
    let shared = Arc::new((door, caller.clone(), stopping, socket));
    let service = service_fn(move |mut request: hyper::Request<_>| {
        let shared = shared.clone();
        async move {
            let (door, caller, stop, socket) = &*shared;
            request.extensions_mut().insert(socket.clone());
            caller.set(Phase::Busy);
            if caller.is_muted() {
                Box::pin(door.muted(caller, &socket.0, stop)).await;
            }
            let reply = super::answer(door, caller, request, stop).await;
            caller.set(Phase::Answer);
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_header_size(HEAD_SIZE_MAX)
        .pipeline_flush(true)
        // Who closes its sending side still gets its answer; a live tail looks for the end itself.
        .half_close(true)
        .serve_connection(TokioIo::new(watched), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, peer = %caller.peer, "HTTP connection ended");
    }
}

/// Returns once the door is to close (or who would say so is gone).
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await.map(drop);
}

/// The socket of a connection, which a request finds in its extensions.
#[derive(Clone)]
pub(super) struct Socket(Arc<TcpStream>);

impl Socket {
    /// Returns once the client sends nothing more: it left, or closed its sending side.
    pub(super) async fn ended(&self) {
        ended(&self.0).await;
    }
}

/// Returns once nothing more comes.
pub(super) async fn ended(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        // Another request stands there, and hides the end.
        std::future::pending().await
    }
}

/// A socket that notes what it is doing.
struct Watched {
    socket: Socket,
    /// What was read before and comes first.
    read: Bytes,
    caller: Arc<Caller>,
}

impl Watched {
    /// Bytes went out: an answer is under way and its reader alive. During a request it is "100 Continue".
    fn wrote(&self, done: &Poll<io::Result<usize>>) {
        let is_stalled = self.caller.activity.phase() == Phase::Answer && done.is_pending();
        if self.caller.activity.phase() != Phase::Busy && !is_stalled {
            self.caller.activity.set(Phase::Answer);
        }
    }

    /// Writes as soon as the socket takes something.
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = &*self.socket.0;
        let done = loop {
            match stream.poll_write_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
            match send(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => break Poll::Ready(done),
            }
        };
        self.wrote(&done);
        done
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = if self.read.is_empty() {
            let stream = &*self.socket.0;
            loop {
                ready!(stream.poll_read_ready(context))?;
                match stream.try_read_buf(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => break done?,
                }
            }
        } else {
            let size = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(size));
            size
        };
        if size > 0 && self.caller.activity.phase() == Phase::Idle {
            self.caller.activity.set(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket when its own buffer is empty: the answer is out.
        if self.caller.activity.phase() == Phase::Answer {
            self.caller.activity.set(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.socket.0).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinHandle;

    /// So many connections that sent half a head an hour ago.
    fn crowd(count: usize) -> (Vec<JoinHandle<()>>, Vec<Late>) {
        let now_ms = Arc::new(AtomicU64::new(0));
        let one = |_| {
            let task = tokio::spawn(std::future::pending::<()>());
            let activity = Activity { state: AtomicU64::new(0), now_ms: now_ms.clone() };
            activity.set(Phase::Head);
            let caller = Caller {
                peer: ([127, 0, 0, 1], 1).into(),
                address: [127, 0, 0, 1].into(),
                is_proxy: false,
                budget: Budget::new(1),
                activity,
                at_work: AtWork::default(),
                is_known: AtomicBool::new(false),
                muted_ms: AtomicU64::new(0),
            };
            let late = Late { caller: Arc::new(caller), abort: task.abort_handle() };
            (task, late)
        };
        let crowd = (0..count).map(one).unzip();
        now_ms.store(3_600_000, Ordering::Relaxed);
        crowd
    }

    #[tokio::test]
    async fn who_is_late_together_is_cut_in_no_more_turns_than_there_are_until_the_next_look() {
        for (count, a_turn) in [(4 * CUTS_A_TURN, CUTS_A_TURN), (10_000, 200)] {
            let (tasks, late) = crowd(count);
            let mut cutting = Box::pin(cut(late, Limits::default()));
            let is_over = tokio::select! { biased; () = &mut cutting => true, () = std::future::ready(()) => false };
            assert!(!is_over);
            for _ in 0..count {
                tokio::task::yield_now().await;
            }
            assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), a_turn);
            cutting.await;
            for task in tasks {
                assert!(task.await.unwrap_err().is_cancelled());
            }
        }
    }

    #[tokio::test]
    async fn who_was_late_and_goes_on_in_time_is_not_cut() {
        let (tasks, late) = crowd(3 * CUTS_A_TURN);
        let (busy, answered) = (late[2 * CUTS_A_TURN].caller.clone(), late[2 * CUTS_A_TURN + 1].caller.clone());
        let cutting = tokio::spawn(cut(late, Limits::default()));
        tokio::task::yield_now().await;
        busy.set(Phase::Busy);
        answered.set(Phase::Idle);
        cutting.await.unwrap();
        let left: Vec<_> = (0..tasks.len()).filter(|at| !tasks[*at].is_finished()).collect();
        assert_eq!(left, [2 * CUTS_A_TURN, 2 * CUTS_A_TURN + 1]);
    }

    #[test]
    fn a_customer_of_ipv6_is_one_address() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
