//! The only wiring: opens the log, starts batcher, pipelines and doors bottom-up, tells systemd, stops them top-down.
//!
//! Stopping, in this order, each step with a deadline and a log line: doors close and their requests end; pipelines cut their outputs;
//! the batcher writes what is queued; the log syncs, cuts its files and writes a clean checkpoint.

mod options;
mod signals;

pub use options::{Options, host_and_port};

use crate::access::Quotas;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::control::Control;
use crate::disk::connections_max;
use crate::ingest::Ingest;
use crate::pulse::Pulse;
use crate::server::admin::Admin;
use crate::server::http::{self, HttpDoor, Origins};
use crate::server::kafka::KafkaDoor;
use crate::store::{self, Store};
use crate::{metrics as names, server};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use signals::{Signals, Watchdog};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Connections that wait to be accepted, at a door; the system may allow fewer (net.core.somaxconn). std asks for 128, which a crowd that
/// comes back at once fills: whose SYN finds no room is back after a second.
const ACCEPT_QUEUE: i32 = 4_096;

/// Of so many tasks that a door's thread runs, one comes from the queue that all share, while it has more of its own. The log's answers come
/// over that one; tokio looks at it once in 40 tasks or so, which makes them wait for seconds while thousands of sockets have something to
/// say.
const TURNS_FOR_OWN_MAX: u32 = 4;
/// Sockets that a door's thread hears of at a time: as many as it runs before it looks again (61). tokio's 1,024 do not fit into the thread's
/// queue of 256, and what overflows goes to the one that all share.
const EVENTS_A_LOOK: usize = 64;

/// Why the daemon cannot start or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for {door} on {address}: {source}; is another daemon running there?")]
    Listen { door: &'static str, address: SocketAddr, source: io::Error },
    #[error(
        "the {door} door on {address} is open to the network, and anybody may use it; {way_out}, or insecure = true if that is meant"
    )]
    Open { door: &'static str, address: SocketAddr, way_out: &'static str },
    #[error("cannot use the data folder {}: {source}", path.display())]
    Data { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("cannot start {what}: {source}")]
    Start { what: &'static str, source: io::Error },
}

/// A daemon that runs in this process.
pub struct Running {
    pub http: SocketAddr,
    pub kafka: SocketAddr,
    pub admin: SocketAddr,
    pub store: Store,
    pub control: Control,
    ingest: Ingest,
    pipelines: crate::stream::Running,
    doors: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    stop_groups: watch::Sender<bool>,
    runtime: Runtime,
    /// Loops that the watchdog listens to.
    pulses: Vec<Pulse>,
    deadline: Duration,
}

/// Opens everything; events are taken when it returns.
///
/// # Errors
/// [`Error`]; nothing runs then.
pub fn start(options: Options) -> Result<Running, Error> {
    let began = Instant::now();
    options.check_exposure()?;
    let metrics = recorder();
    names::describe();
    // Sockets first: a taken port is the commonest mistake, and it should not cost a recovery.
    let http = listen("HTTP", options.http)?;
    let kafka = listen("Kafka", options.kafka)?;
    let admin = listen("admin", options.admin)?;
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| Error::Data { path, source }
    };
    std::fs::create_dir_all(&options.data).map_err(failed(&options.data))?;
    let disk = crate::disk::open(&options.data, options.engine, options.direct_io).map_err(failed(&options.data))?;
    let clock = Clock::System;
    let log = store::Options {
        data: options.data.clone(),
        writers: 1,
        reader_threads: 2,
        tail_cache_bytes: options.tail_cache_bytes,
        low_disk_bytes: options.low_disk_bytes,
        checkpoint_interval: Duration::from_secs(1),
    };
    let store = Store::open(log, disk, clock.clone())?;
    let starting = |what| move |source| Error::Start { what, source };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(8))
        .global_queue_interval(TURNS_FOR_OWN_MAX)
        .max_io_events_per_tick(EVENTS_A_LOOK)
        .thread_name("inrush-door")
        .enable_all()
        .build()
        .map_err(starting("the doors' threads"))?;
    let ingest = Ingest::start(runtime.handle().clone()).map_err(starting("the batcher"))?;
    let (control, requests) = Control::new();
    if !options.pipelines.is_dir() {
        info!(folder = %options.pipelines.display(), "there is no such folder: no pipeline runs, until it is there and they are reloaded");
    }
    let pipelines = crate::stream::start(
        crate::stream::Options {
            store: store.clone(),
            control: control.clone(),
            clock: clock.clone(),
            folder: options.pipelines.clone(),
            out: options.out.clone(),
            data: options.data.clone(),
            runtime: runtime.handle().clone(),
        },
        requests,
    )
    .map_err(starting("the pipelines"))?;
    let (stop, stopping) = watch::channel(false);
    let budget = Budget::new(options.ingest_bytes);
    let quotas = Quotas::load(store.clone(), clock.clone());
    let doors_pulses = [Pulse::new("the HTTP door"), Pulse::new("the Kafka door"), Pulse::new("the admin door")];
    let [http_pulse, kafka_pulse, admin_pulse] = doors_pulses.clone();
    let pulses: Vec<Pulse> = doors_pulses.into_iter().chain([ingest.pulse()]).collect();
    let at_work = server::AtWork::default();
    let http_options = http::Options {
        origins: Origins { allowed: options.cors_origins.clone(), host_names: options.host_names.clone() },
        write_keys: options.write_keys.clone(),
        proxies: options.trusted_proxies.clone(),
        auto_create: options.http.ip().is_loopback(),
        is_open: options.insecure,
        limits: http::Limits { connections_max: connections_max(CONNECTIONS_MAX), ..http::Limits::default() },
        at_work: at_work.clone(),
    };
    let http_door = HttpDoor::new(
        store.clone(),
        ingest.clone(),
        clock.clone(),
        budget.clone(),
        quotas.clone(),
        http_options,
        http_pulse,
    );
    let http_door = Arc::new(http_door.map_err(starting("the HTTP door"))?);
    let (stop_groups, groups_stopping) = watch::channel(false);
    let groups = {
        let _entered = runtime.enter();
        crate::group::start(store.clone(), clock.clone(), options.groups.clone(), groups_stopping)
    };
    let kafka_door = Arc::new(KafkaDoor {
        store: store.clone(),
        groups: groups.clone(),
        control: control.clone(),
        clock: clock.clone(),
        quotas,
        budget: budget.clone(),
        answers: Budget::new(KAFKA_ANSWERS_BYTES),
        pool: Arc::new(crate::work::Pool::start(threads.min(4), "kafka").map_err(starting("the Kafka door's pool"))?),
        advertised: options.advertise.clone().unwrap_or_default(),
        auto_create: options.kafka.ip().is_loopback(),
        partitions: 4,
        connections_max: connections_max(CONNECTIONS_MAX),
        connections_per_address_max: 256,
        patience: server::kafka::Patience::default(),
        pulse: kafka_pulse,
        at_work,
    });
    let admin_door = Arc::new(Admin {
        store: store.clone(),
        control: control.clone(),
        groups,
        metrics: metrics.clone(),
        clock,
        budget,
        pulses: pulses.clone(),
        pulse: admin_pulse,
        host_names: options.host_names.clone(),
    });
    let addresses =
        (address_of(&http, options.http), address_of(&kafka, options.kafka), address_of(&admin, options.admin));
    let doors = {
        let _entered = runtime.enter();
        let http = tokio::net::TcpListener::from_std(http).map_err(starting("the HTTP door"))?;
        let kafka = tokio::net::TcpListener::from_std(kafka).map_err(starting("the Kafka door"))?;
        let admin = tokio::net::TcpListener::from_std(admin).map_err(starting("the admin door"))?;
        vec![
            runtime.spawn(server::http::serve(http, http_door, stopping.clone())),
            runtime.spawn(server::kafka::serve(kafka, kafka_door, stopping.clone())),
            runtime.spawn(server::admin::serve(admin, admin_door, stopping.clone())),
            runtime.spawn(keep_metrics(metrics, stopping)),
        ]
    };
    metrics::gauge!(names::DAEMON_START_SECONDS.name).set(began.elapsed().as_secs_f64());
    info!(
        http = %addresses.0, kafka = %addresses.1, admin = %addresses.2, data = %options.data.display(),
        memory_max_mib = options.memory_max() >> 20,
        seconds = began.elapsed().as_secs_f64(), "inrush is ready"
    );
    Ok(Running {
        http: addresses.0,
        kafka: addresses.1,
        admin: addresses.2,
        store,
        control,
        ingest,
        pipelines,
        doors,
        stop,
        stop_groups,
        runtime,
        pulses,
        deadline: options.stop_deadline,
    })
}

impl Running {
    /// Waits for SIGTERM or SIGINT; reloads pipelines on SIGHUP; feeds systemd's watchdog while the loops are alive. After it, a second
    /// signal ends the process at once.
    ///
    /// # Errors
    /// The system takes no signal handlers.
    pub fn wait(&self) -> io::Result<()> {
        let mut watchdog = Watchdog::new(self.pulses.clone(), self.store.clone());
        self.runtime.block_on(async {
            let mut signals = Signals::new()?;
            signals::until_stop(&mut signals, &mut watchdog, &self.control).await;
            tokio::spawn(signals::while_stopping(signals, self.deadline, watchdog.interval()));
            Ok(())
        })
    }

    /// Stops top-down; what was answered is durable whether or not this succeeds.
    ///
    /// # Errors
    /// [`Error::Store`] if the log could not be closed cleanly: the next start recovers.
    pub fn stop(self) -> Result<(), Error> {
        let began = Instant::now();
        // What is left of the deadline; a step that finds none gets a moment all the same.
        let left = || self.deadline.saturating_sub(began.elapsed()).max(STEP_MIN);
        info!("stopping: the doors close; a second SIGTERM ends at once");
        self.ingest.hurry();
        let _ = self.stop.send(true);
        let doors = async {
            for door in self.doors {
                let _ = door.await;
            }
        };
        if self.runtime.block_on(async { tokio::time::timeout(left(), doors).await }).is_err() {
            warn!("the doors did not close in time");
        }
        let _ = self.stop_groups.send(true);
        info!("stopping: pipelines cut their outputs");
        self.pipelines.stop(left());
        info!("stopping: the batcher writes what is queued");
        if self.runtime.block_on(async { tokio::time::timeout(left(), self.ingest.close()).await }).is_err() {
            warn!("the batcher did not come to its end in time: the disk does not answer");
        }
        info!("stopping: the log syncs");
        let closed = self.runtime.block_on(self.store.close(left()));
        self.runtime.shutdown_timeout(STEP_MIN);
        info!(seconds = began.elapsed().as_secs_f64(), "stopped");
        Ok(closed?)
    }
}

/// Each step of a stop gets at least this.
const STEP_MIN: Duration = Duration::from_secs(2);
/// How long histograms' samples are kept apart.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of Fetch answers that are being read or sent.
const KAFKA_ANSWERS_BYTES: usize = 64 << 20;
/// Of each door.
const CONNECTIONS_MAX: usize = 10_000;

fn listen(door: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).map_err(|source| Error::Listen { door, address, source })?;
    listener.set_nonblocking(true).map_err(|source| Error::Listen { door, address, source })?;
    socket2::SockRef::from(&listener).listen(ACCEPT_QUEUE).map_err(|source| Error::Listen { door, address, source })?;
    Ok(listener)
}

fn address_of(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Folds histograms' samples together every now and then: the recorder keeps each one until then, or until somebody scrapes.
async fn keep_metrics(metrics: &PrometheusHandle, mut stopping: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(METRICS_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => metrics.run_upkeep(),
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// The process's one metrics recorder; several daemons in one process (tests) share it.
fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let seconds =
            [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let bytes = [1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 16e6, 64e6];
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &seconds)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &bytes))
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            warn!("another metrics recorder is installed: /metrics stays empty");
        }
        handle
    })
}
