//! A pipeline's thread as its supervisor sees it: signs of life, the order to stop, and the right to write the checkpoint.
//!
//! A thread that hangs in a call to the disk cannot be ended. It is given up: another one takes its seat, and should the first wake, it
//! may not write the checkpoint any more, so nothing it did since the last cut counts.

use super::checkpoint::Checkpoint;
use super::cpu::Taken;
use super::tap::Taps;
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The place of a pipeline that one thread at a time has.
#[derive(Default)]
pub(super) struct Seat {
    number: AtomicU64,
    /// Who looks at its rows; they stay when another thread takes the seat.
    pub(super) taps: Arc<Taps>,
    /// Why the last run was given up, if it hung.
    hung: Mutex<Option<String>>,
    /// CPU time, over all runs.
    pub(super) taken: Arc<Taken>,
    /// Held while a checkpoint is written.
    writing: Mutex<()>,
}

/// What was last heard of a thread.
pub(super) struct Heard {
    beats: u64,
    /// When the beats were last seen to change.
    beat_at: Instant,
    /// CPU time that was taken for the pipeline by then.
    cpu: Duration,
    /// When it was last seen to do anything: to beat, or to work.
    sign_at: Instant,
}

/// So much CPU time is work, and not what a thread takes that wakes up now and then to find nothing.
const WORK_MIN: Duration = Duration::from_millis(100);

impl Heard {
    /// It begins now.
    pub(super) fn now() -> Heard {
        Heard { beats: 0, beat_at: Instant::now(), cpu: Duration::ZERO, sign_at: Instant::now() }
    }

    /// Listens once more.
    pub(super) fn listen(&mut self, life: &Life) {
        let (beats, cpu, now) = (life.beats(), life.taken().by_now(), Instant::now());
        if beats != self.beats {
            *self = Heard { beats, beat_at: now, cpu, sign_at: now };
        } else if cpu.saturating_sub(self.cpu) >= WORK_MIN {
            (self.cpu, self.sign_at) = (cpu, now);
        }
    }

    /// For how long it has told nothing.
    pub(super) fn quiet(&self) -> Duration {
        self.beat_at.elapsed()
    }

    /// For how long it has done nothing either.
    pub(super) fn silence(&self) -> Duration {
        self.sign_at.elapsed()
    }
}

/// One thread's life.
pub(super) struct Life {
    seat: Arc<Seat>,
    number: u64,
    stop: AtomicBool,
    beats: AtomicU64,
    note: Mutex<Option<String>>,
    /// For whom the thread waits, and since when.
    waits_for: Mutex<Option<(String, Instant)>>,
    /// A write of the checkpoint failed, before its rename or behind it: nobody knows which one the disk has.
    is_unsure: AtomicBool,
}

impl Life {
    /// Takes the seat; `None` while who has it is writing a checkpoint.
    pub(super) fn begin(seat: &Arc<Seat>) -> Option<Arc<Life>> {
        let _writing = match seat.writing.try_lock() {
            Ok(writing) => writing,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        // SeqCst: pairs with the load in `has_seat`; it happens once a start.
        let number = seat.number.fetch_add(1, Ordering::SeqCst) + 1;
        Some(Arc::new(Life {
            seat: seat.clone(),
            number,
            stop: AtomicBool::new(false),
            beats: AtomicU64::new(0),
            note: Mutex::default(),
            waits_for: Mutex::default(),
            is_unsure: AtomicBool::new(false),
        }))
    }

    pub(super) fn taps(&self) -> &Arc<Taps> {
        &self.seat.taps
    }

    pub(super) fn taken(&self) -> &Arc<Taken> {
        &self.seat.taken
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) || !self.has_seat()
    }

    /// Whether no other thread was started in this one's place.
    pub(super) fn has_seat(&self) -> bool {
        self.seat.number.load(Ordering::SeqCst) == self.number
    }

    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// What the supervisor wants to be said beside the status: that the file on disk is broken.
    pub(super) fn set_note(&self, note: Option<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }

    pub(super) fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calling thread is the one of this life: for whom it waits is told.
    pub(super) fn is_of_this_thread(self: &Arc<Self>) {
        OWN.set(Arc::downgrade(self));
    }

    /// It is given up for hanging; who takes its seat is told why.
    pub(super) fn give_up(&self, why: String) {
        *self.seat.hung.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.stop();
    }

    /// Why the run before hung, if it did; asked once.
    pub(super) fn hung_before(&self) -> Option<String> {
        self.seat.hung.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// For whom its thread waits, and since when.
    pub(super) fn waits_for(&self) -> Option<(String, Instant)> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns for whom it waited before.
    fn wait_for(&self, whom: Option<(String, Instant)>) -> Option<(String, Instant)> {
        std::mem::replace(&mut *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner), whom)
    }

    /// Does something that no other thread may do meanwhile; `None` if another has the seat.
    pub(super) fn seated<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let _writing = self.seat.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_seat().then(act)
    }

    /// Replaces the checkpoint, unless another thread has the seat.
    ///
    /// # Errors
    /// The system's; `PermissionDenied` without the seat.
    pub(super) fn save(&self, checkpoint: &Checkpoint, path: &Path) -> io::Result<()> {
        let lost = || io::Error::new(io::ErrorKind::PermissionDenied, "another run of this pipeline has begun");
        let saved = self.seated(|| {
            // Relaxed: the thread whose life it is asks for it.
            self.is_unsure.store(true, Ordering::Relaxed);
            checkpoint.save(path)?;
            self.is_unsure.store(false, Ordering::Relaxed);
            Ok(())
        });
        saved.unwrap_or_else(|| Err(lost()))
    }

    /// As [`Life::save`], unless the disk has it already: it says what `known` says, which was the last that was written.
    ///
    /// # Errors
    /// As [`Life::save`].
    pub(super) fn keep(&self, checkpoint: &Checkpoint, known: &Checkpoint, path: &Path) -> io::Result<()> {
        let is_on_disk = checkpoint == known && !self.is_unsure.load(Ordering::Relaxed) && path.exists();
        if is_on_disk { Ok(()) } else { self.save(checkpoint, path) }
    }
}

thread_local! {
    /// Whose thread this is, if it is one of a pipeline's.
    static OWN: RefCell<Weak<Life>> = RefCell::default();
}

/// Does something that waits for somebody else; on a pipeline's own thread it can be told for whom, as long as that takes.
pub(super) fn waiting_for<T>(whom: impl FnOnce() -> String, act: impl FnOnce() -> T) -> T {
    let Some(life) = OWN.with_borrow(Weak::upgrade) else { return act() };
    let before = life.wait_for(Some((whom(), Instant::now())));
    let done = act();
    life.wait_for(before);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_the_seat_of_one_that_hung_is_told_why_once() {
        let seat = Arc::default();
        let first = Life::begin(&seat).unwrap();
        first.give_up("output stdout hung for 60 s".to_owned());
        let second = Life::begin(&seat).unwrap();
        assert!(first.is_stopping() && !second.is_stopping());
        assert_eq!(second.hung_before().as_deref(), Some("output stdout hung for 60 s"));
        assert_eq!(second.hung_before(), None);
    }

    #[test]
    fn for_whom_a_thread_waits_is_known_as_long_as_it_does() {
        let life = Life::begin(&Arc::default()).unwrap();
        assert_eq!(waiting_for(|| panic!("this is no pipeline's thread"), || 7), 7);
        let own = life.clone();
        let whom = move || {
            own.is_of_this_thread();
            let told = waiting_for(
                || "output p".to_owned(),
                || {
                    let inner = waiting_for(|| "s3://lake".to_owned(), || own.waits_for().map(|(whom, _)| whom));
                    assert_eq!(own.waits_for().map(|(whom, _)| whom).as_deref(), Some("output p"));
                    inner
                },
            );
            (told, own.waits_for().is_none())
        };
        assert_eq!(std::thread::spawn(whom).join().unwrap(), (Some("s3://lake".to_owned()), true));
    }

    #[test]
    fn who_lost_its_seat_writes_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let seat = Arc::new(Seat::default());
        let first = Life::begin(&seat).unwrap();
        first.save(&Checkpoint::new("first"), &path).unwrap();
        let second = Life::begin(&seat).unwrap();
        assert!(first.is_stopping() && !second.is_stopping());
        assert!(first.save(&Checkpoint::new("late"), &path).is_err());
        second.save(&Checkpoint::new("second"), &path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().unwrap().text, "second");
    }

    #[test]
    fn behind_a_failed_write_the_checkpoint_is_written_also_if_it_says_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let life = Life::begin(&Arc::default()).unwrap();
        let (old, new) = (Checkpoint::new("old"), Checkpoint::new("new"));
        life.save(&old, &path).unwrap();
        assert!(life.save(&new, &folder.path().join("gone/checkpoint")).is_err());
        // As where the rename was done and the sync behind it failed.
        new.save(&path).unwrap();
        life.keep(&old, &old, &path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().unwrap().text, "old");
        new.save(&path).unwrap();
        life.keep(&old, &old, &path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().unwrap().text, "new", "it was written without need");
    }
}
