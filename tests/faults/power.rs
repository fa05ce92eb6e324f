//! Power cuts on a real file system: ext4 on a loop device, cut off by its shutdown ioctl without a flush of its journal.
//!
//! `tests/power_cut.sh` makes the device and runs these; they need root.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::kafka::{Connection, STORAGE_ERROR};
use super::load::Load;
use crate::{Daemon, call, json, values, wait_for};
use inrush::record::{BatchBuilder, Codec, NewRecord};

/// EXT4_IOC_SHUTDOWN, `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
/// What is not on the device is gone, the journal's pending part too.
const NO_LOG_FLUSH: u32 = 2;

/// The mounted file system of `tests/power_cut.sh`, with a fresh folder for one test.
pub(super) struct Place {
    mount: PathBuf,
    device: String,
}

impl Place {
    pub(super) fn from_environment() -> Place {
        let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: tests/power_cut.sh"));
        Place { mount: variable("INRUSH_MOUNT").into(), device: variable("INRUSH_DEVICE") }
    }

    /// A new folder, durable.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.mount.join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    fn sync(&self) {
        // SAFETY: syncfs takes an open descriptor, which lives until the call returns.
        assert_eq!(unsafe { libc::syncfs(File::open(&self.mount).unwrap().as_raw_fd()) }, 0);
    }

    /// The power is gone: nothing reaches the device any more, every write and sync fails.
    fn cut(&self) {
        let mount = File::open(&self.mount).unwrap();
        // SAFETY: the ioctl reads one u32, which lives until the call returns.
        let done = unsafe { libc::ioctl(mount.as_raw_fd(), EXT4_IOC_SHUTDOWN, &NO_LOG_FLUSH) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// The power is back: what is mounted is what the device holds.
    fn mount_again(&self) {
        wait_for("umount", || Command::new("umount").arg(&self.mount).output().unwrap().status.success());
        let mounted = Command::new("mount").arg(&self.device).arg(&self.mount).status().unwrap();
        assert!(mounted.success(), "{} cannot be mounted again", self.device);
    }
}

fn cuts() -> usize {
    std::env::var("INRUSH_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(3)
}

fn cut_run(engine: &str) {
    let place = Place::from_environment();
    let folder = place.folder(&format!("cuts-{engine}"));
    let world = Load::prepare(&folder);
    place.sync();
    let mut daemon = Daemon::start(&folder, engine);
    let load = Load::start(&world, &daemon);
    let mut random = fastrand::Rng::new();
    for cut in 0..cuts() {
        let before = world.answered();
        let more = random.usize(50..800);
        wait_for("answers", || world.answered() > before + more);
        // Mostly the daemon lives on for a moment, with a disk that fails; or it dies first, with pages that were never written.
        if cut % 4 == 3 {
            daemon.kill();
            place.cut();
        } else {
            place.cut();
            std::thread::sleep(Duration::from_millis(random.u64(0..50)));
            daemon.kill();
        }
        place.mount_again();
        if random.u8(..3) == 0 {
            // Again while the next start recovers.
            Daemon::start_and_cut(&folder, engine, Duration::from_millis(random.u64(1..200)), || place.cut());
            place.mount_again();
        }
        daemon = Daemon::start(&folder, engine);
        world.moved_to(&daemon);
    }
    load.stop();
    let answered = world.answered();
    world.judge(daemon);
    println!("{engine}: {} power cuts, {answered} events answered, none lost or doubled", cuts());
}

#[test]
#[ignore = "needs root and a loop device: tests/power_cut.sh"]
fn power_cuts_lose_nothing_that_was_answered_with_pwrite() {
    cut_run("std");
}

#[test]
#[ignore = "needs root and a loop device: tests/power_cut.sh"]
fn power_cuts_lose_nothing_that_was_answered_with_the_chosen_engine() {
    cut_run("auto");
}

#[test]
#[ignore = "needs root and a loop device: tests/power_cut.sh"]
fn after_a_failed_sync_nothing_is_answered_and_reads_go_on() {
    for engine in ["std", "auto"] {
        let place = Place::from_environment();
        let folder = place.folder(&format!("failed-sync-{engine}"));
        let daemon = Daemon::start(&folder, engine);
        let taken = json(&daemon.http, "POST", "/v1/topics/t/events", "{\"n\":1}\n{\"n\":2}");
        assert_eq!(taken["taken"], 2);
        place.cut();
        let mut kafka = Connection::open(&daemon.kafka).unwrap();
        for n in 3..6 {
            let body = format!("{{\"n\":{n}}}");
            assert_eq!(call(&daemon.http, "POST", "/v1/topics/t/events", "", body.as_bytes()).unwrap().0, 503);
            kafka.send_produce("t", 0, batch(&body).bytes()).unwrap();
            assert_eq!(kafka.receive_produce().unwrap(), Err(STORAGE_ERROR));
        }
        assert_eq!(call(&daemon.admin, "GET", "/readyz", "", b"").unwrap().0, 503);
        let (_, metrics) = call(&daemon.admin, "GET", "/metrics", "", b"").unwrap();
        assert!(String::from_utf8_lossy(&metrics).contains("inrush_store_poisoned 1"));
        let answered = [serde_json::json!({ "n": 1 }), serde_json::json!({ "n": 2 })];
        assert_eq!(values(&daemon.http, "t"), answered, "reads below the tail go on");
        daemon.kill();
        place.mount_again();
        let daemon = Daemon::start(&folder, engine);
        // What was refused or left open may be there; what was answered must be.
        assert_eq!(values(&daemon.http, "t")[..2], answered);
        assert_eq!(json(&daemon.http, "POST", "/v1/topics/t/events", "{\"n\":9}")["taken"], 1);
        assert!(daemon.terminate());
    }
}

fn batch(value: &str) -> inrush::record::Batch {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { timestamp: 1, key: None, value: Some(value.as_bytes()), headers: &[] });
    builder.build(Codec::None).unwrap()
}

impl Daemon {
    /// Starts the daemon, cuts the power after a while, and takes what is left of it.
    fn start_and_cut(folder: &Path, engine: &str, after: Duration, cut: impl FnOnce()) {
        Daemon::start_and(folder, engine, |child| {
            std::thread::sleep(after);
            cut();
            child.kill().unwrap();
        });
    }
}
