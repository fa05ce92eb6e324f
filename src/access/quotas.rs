//! [`Quotas`]: the table as it is now, everybody's buckets, and the questions of a door.

use super::bucket::{Bucket, Buckets, Place, burst};
use super::entity::{Entity, Filter, Key};
use super::table::{Limit, Table};
use crate::clock::{Clock, Millis};
use crate::metrics as names;
use crate::store::{QuotaChange, QuotaSnapshot, Store, TopicError};
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// A connection too many is kept for at most this long before it is closed: Kafka's window.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(1);

/// Nothing is read for who may not be sent this much, or what comes within a second.
const SENT_SIZE_LEAST: f64 = 65_536.0;

/// The quotas of a data folder; clones share them.
#[derive(Clone)]
pub struct Quotas {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Clock,
    /// Keys that any entry has, as bits: all that is looked at while there are no quotas.
    keys: AtomicU8,
    table: ArcSwap<Table>,
    /// Of the table: changes that are answered at the same time may come here in any order.
    revision: Mutex<u64>,
    changed: watch::Sender<()>,
    buckets: Mutex<Buckets>,
    meters: Meters,
}

struct Meters {
    received: Throttled,
    sent: Throttled,
    buckets: metrics::Gauge,
}

/// Requests of one direction that were throttled.
struct Throttled {
    requests: metrics::Counter,
    milliseconds: metrics::Counter,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its user, and its id as the request names it, empty if it does not. `None` where clients have neither: only quotas of addresses hold.
    pub client: Option<(&'a str, &'a str)>,
    /// Canonical.
    pub address: IpAddr,
}

impl<'a> Caller<'a> {
    /// What holds for its user and id.
    fn client(&self, table: &'a Table, key: Key) -> Option<Limit<'a>> {
        self.client.and_then(|(user, client_id)| table.of_client(user, client_id, key))
    }
}

/// What a client is held to, to be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates([[Option<f64>; 2]; 2]);

/// What becomes of an answer that carries records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent; then the client waits for so long.
    Send(Duration),
    /// It is sent without its records; they may be asked for again after so long.
    Withhold(Duration),
}

/// A change of one entity's quotas that was checked.
#[derive(Clone, Debug)]
pub struct Alteration {
    pub entity: Entity,
    /// `None` takes the quota away.
    pub values: Vec<(String, Option<f64>)>,
}

/// Two rates that hold for a request: of the client and of its address; where their buckets are.
type Held = [Option<(f64, Share)>; 2];

/// Whose bucket, and which one it shares if there are too many.
#[derive(Clone, Copy)]
struct Share {
    own: Place,
    shared: Place,
}

impl Quotas {
    /// The quotas that the store's catalog keeps.
    pub fn load(store: Store, clock: Clock) -> Quotas {
        let snapshot = store.quotas();
        let inner = Inner {
            store,
            clock,
            keys: AtomicU8::new(0),
            table: ArcSwap::from_pointee(Table::default()),
            revision: Mutex::new(snapshot.revision),
            changed: watch::Sender::new(()),
            buckets: Mutex::new(Buckets::new()),
            meters: Meters::new(),
        };
        inner.take(&snapshot);
        Quotas { inner: Arc::new(inner) }
    }

    /// The byte rates that hold for a client now; `None` if none does.
    pub fn rates(&self, caller: &Caller<'_>) -> Option<Rates> {
        if !self.limits(Key::ProducerByteRate) && !self.limits(Key::ConsumerByteRate) {
            return None;
        }
        let table = self.inner.table.load();
        let of = |key| {
            let of_client = caller.client(&table, key).map(|limit| limit.rate);
            [of_client, table.of_address(caller.address, key).map(|(rate, _)| rate)]
        };
        let rates = [of(Key::ProducerByteRate), of(Key::ConsumerByteRate)];
        rates.iter().flatten().any(Option::is_some).then_some(Rates(rates))
    }

    /// Told each time the table has changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    /// Counts a Produce request of `size` bytes; how long its client is not listened to after the answer.
    pub fn received(&self, caller: &Caller<'_>, size: usize) -> Duration {
        if !self.limits(Key::ProducerByteRate) {
            return Duration::ZERO;
        }
        let now = self.inner.clock.steady_ms();
        let wait = self.inner.with_buckets(caller, Key::ProducerByteRate, |buckets, held| {
            let spend =
                |(rate, share): &(f64, Share)| buckets.at(share.own, share.shared, now).spend(*rate, size as f64, now);
            held.iter().flatten().map(spend).max().unwrap_or(0)
        });
        self.inner.meters.received.by(wait)
    }

    /// Whether anybody is held to a rate of what it sends.
    pub fn limits_received(&self) -> bool {
        self.limits(Key::ProducerByteRate)
    }

    /// How long until a client that has sent more than it may is listened to again; for those that could not be made to wait.
    pub fn owed(&self, caller: &Caller<'_>) -> Duration {
        let now = self.inner.clock.steady_ms();
        let wait = self.inner.with_buckets(caller, Key::ProducerByteRate, |buckets, held| {
            let owed =
                |(rate, share): &(f64, Share)| buckets.at(share.own, share.shared, now).wait_for(*rate, 0.0, now);
            held.iter().flatten().map(owed).max().unwrap_or(0)
        });
        self.inner.meters.received.by(wait)
    }

    /// The largest answer that a Fetch may ever have at once.
    pub fn sent_size_max(&self, caller: &Caller<'_>) -> usize {
        if !self.limits(Key::ConsumerByteRate) {
            return usize::MAX;
        }
        let table = self.inner.table.load();
        let of_client = caller.client(&table, Key::ConsumerByteRate).map(|limit| limit.rate);
        let of_address = table.of_address(caller.address, Key::ConsumerByteRate).map(|(rate, _)| rate);
        let sizes = [of_client, of_address].into_iter().flatten().map(|rate| burst(rate) as usize);
        sizes.min().unwrap_or(usize::MAX)
    }

    /// Before a Fetch is read: `Some` if hardly anything could be sent now, and how long to wait.
    pub fn withheld(&self, caller: &Caller<'_>) -> Option<Duration> {
        if !self.limits(Key::ConsumerByteRate) {
            return None;
        }
        let now = self.inner.clock.steady_ms();
        let wait = self.inner.with_buckets(caller, Key::ConsumerByteRate, |buckets, held| {
            let one = |(rate, share): &(f64, Share)| {
                let (bucket, least) = (buckets.at(share.own, share.shared, now), rate.min(SENT_SIZE_LEAST));
                if bucket.wait_for(*rate, least, now) > 0 { bucket.queue(*rate, least, now) } else { 0 }
            };
            held.iter().flatten().map(one).max().unwrap_or(0)
        });
        (wait > 0).then(|| self.inner.meters.sent.by(wait))
    }

    /// Judges a Fetch answer of `size` bytes, and counts it if it may be sent.
    pub fn sent(&self, caller: &Caller<'_>, size: usize) -> Verdict {
        if !self.limits(Key::ConsumerByteRate) {
            return Verdict::Send(Duration::ZERO);
        }
        let now = self.inner.clock.steady_ms();
        let size = size as f64;
        let (is_sent, wait) = self.inner.with_buckets(caller, Key::ConsumerByteRate, |buckets, held| {
            let mut longest = |f: fn(&mut Bucket, f64, f64, Millis) -> Millis| {
                let one = |(rate, share): &(f64, Share)| f(buckets.at(share.own, share.shared, now), *rate, size, now);
                held.iter().flatten().map(one).max().unwrap_or(0)
            };
            match longest(|bucket, rate, size, now| bucket.wait_for(rate, size, now)) {
                0 => (true, longest(|bucket, rate, size, now| bucket.spend(rate, size, now))),
                _ => (false, longest(|bucket, rate, size, now| bucket.queue(rate, size, now))),
            }
        });
        let wait = self.inner.meters.sent.by(wait);
        if is_sent { Verdict::Send(wait) } else { Verdict::Withhold(wait) }
    }

    /// Counts a new connection. `Some`: it is one too many, and is closed after so long.
    pub fn connected(&self, address: IpAddr) -> Option<Duration> {
        if !self.limits(Key::ConnectionCreationRate) {
            return None;
        }
        let now = self.inner.clock.steady_ms();
        let (rate, is_own) = self.inner.table.load().of_address(address, Key::ConnectionCreationRate)?;
        let mut buckets = self.inner.buckets();
        let share = address_share(&buckets, address, Key::ConnectionCreationRate, is_own);
        let bucket = buckets.at(share.own, share.shared, now);
        match bucket.wait_for(rate, 1.0, now) {
            0 => {
                bucket.spend(rate, 1.0, now);
                None
            }
            wait => Some(Duration::from_millis(wait as u64).min(CONNECTION_WAIT_MAX)),
        }
    }

    /// The entities that a filter finds, with their quotas, in order.
    pub fn describe(&self, filter: &Filter) -> Vec<(Entity, Vec<(Key, f64)>)> {
        let table = self.inner.table.load();
        let found = table.entities().filter(|(entity, _)| filter.finds(entity));
        found.map(|(entity, values)| (entity.clone(), values.list())).collect()
    }

    /// Changes quotas, all or none. Durable, and held to, when it returns.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] if too many entities would have quotas, else the disk's.
    pub async fn alter(&self, alterations: Vec<Alteration>) -> Result<(), TopicError> {
        let change =
            |alteration: Alteration| QuotaChange { entity: alteration.entity.parts(), values: alteration.values };
        let snapshot = self.inner.store.alter_quotas(alterations.into_iter().map(change).collect()).await?;
        self.inner.take(&snapshot);
        Ok(())
    }

    /// Whether any entry limits this.
    fn limits(&self, key: Key) -> bool {
        // Relaxed: it only says whether the table is worth a look, and pairs with the store in `take`.
        self.inner.keys.load(Ordering::Relaxed) & (1 << key as u8) != 0
    }
}

impl Inner {
    /// Makes the table of what the catalog holds, unless a newer one is there.
    fn take(&self, snapshot: &QuotaSnapshot) {
        let mut revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot.revision < *revision {
            return;
        }
        *revision = snapshot.revision;
        let table = Table::new(&snapshot.records, |record| {
            warn!(entity = ?record.entity, values = ?record.values, "this version does not hold anybody to all of these quotas");
        });
        let keys = table.keys();
        self.table.store(Arc::new(table));
        self.keys.store(keys, Ordering::Relaxed);
        self.changed.send_replace(());
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the buckets over with the rates that hold for `caller`.
    fn with_buckets<T>(&self, caller: &Caller<'_>, key: Key, with: impl FnOnce(&mut Buckets, &Held) -> T) -> T {
        let table = self.table.load();
        let mut buckets = self.buckets();
        let of_client = caller.client(&table, key).map(|limit| {
            let own = buckets.place((key as u8, limit.user, limit.client_id));
            // The names that the entry itself has: 1, 2 and 3 name the user, 1, 4 and 7 the client id.
            let user = limit.user.filter(|_| limit.level < 3);
            let client_id = limit.client_id.filter(|_| limit.level.is_multiple_of(3));
            (limit.rate, Share { own, shared: buckets.place((key as u8, limit.level, user, client_id)) })
        });
        let of_address = table
            .of_address(caller.address, key)
            .map(|(rate, is_own)| (rate, address_share(&buckets, caller.address, key, is_own)));
        let done = with(&mut buckets, &[of_client, of_address]);
        self.meters.buckets.set(buckets.count() as f64);
        done
    }
}

fn address_share(buckets: &Buckets, address: IpAddr, key: Key, is_own: bool) -> Share {
    Share {
        own: buckets.place((key as u8, address)),
        shared: buckets.place((key as u8, "the addresses of an entry", is_own.then_some(address))),
    }
}

impl Meters {
    fn new() -> Meters {
        let throttled = |direction: &'static str| {
            let requests = metrics::counter!(names::ACCESS_THROTTLED_REQUESTS.name, "direction" => direction);
            let milliseconds = metrics::counter!(names::ACCESS_THROTTLED_MILLISECONDS.name, "direction" => direction);
            // A counter that appears with its first event hides that event from `increase`.
            requests.increment(0);
            milliseconds.increment(0);
            Throttled { requests, milliseconds }
        };
        let buckets = metrics::gauge!(names::ACCESS_BUCKETS.name);
        buckets.set(0.0);
        Meters { received: throttled("in"), sent: throttled("out"), buckets }
    }
}

impl Throttled {
    fn by(&self, wait: Millis) -> Duration {
        if wait > 0 {
            self.requests.increment(1);
            self.milliseconds.increment(wait as u64);
        }
        Duration::from_millis(wait as u64)
    }
}
