//! A full disk on a real file system: doors refuse with what clients understand, nothing answered is lost, and all goes on by itself when
//! there is room again. Run by `tests/power_cut.sh`, which makes the small file system.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::kafka::{Connection, STORAGE_ERROR};
use super::load::Load;
use super::power::Place;
use crate::{Daemon, call, wait_for, wait_or};
use inrush::record::{BatchBuilder, Codec, NewRecord};

const TIMES: usize = 3;

fn free(folder: &Path) -> u64 {
    let path = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: statvfs is plain numbers, for which zero is a value; the path ends with a NUL.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers live until the call returns.
    assert_eq!(unsafe { libc::statvfs(path.as_ptr(), &mut found) }, 0);
    found.f_bavail * found.f_frsize
}

/// Takes all room but `left` bytes, in smaller and smaller steps: the load takes room meanwhile.
fn fill(ballast: &Path, left: u64) {
    let file = File::create(ballast).unwrap();
    let mut size = 0;
    for step in [8 << 20, 256 << 10, 4 << 10] {
        while free(ballast.parent().unwrap()) >= left + step {
            // SAFETY: fallocate takes an open descriptor and numbers.
            if unsafe { libc::fallocate(file.as_raw_fd(), 0, size, step as libc::off_t) } != 0 {
                break;
            }
            size += step as libc::off_t;
        }
    }
}

/// `low` is the daemon's own limit; the ballast leaves `left` bytes.
fn full_run(name: &str, low: &str, left: u64) {
    let place = Place::from_environment();
    let folder = place.folder(name);
    let ballast: PathBuf = folder.join("ballast");
    let world = Load::prepare(&folder);
    let daemon = Daemon::start_with(&folder, "auto", &format!("low-disk = \"{low}\""));
    let post = || call(&daemon.http, "POST", "/v1/topics/probe/events", "", &[b'"'; 2]).unwrap().0;
    assert_eq!(post(), 200);
    let load = Load::start(&world, &daemon);
    let mut kafka = Connection::open(&daemon.kafka).unwrap();
    let mut produce = || {
        kafka.send_produce("probe", 0, batch().bytes()).unwrap();
        kafka.receive_produce().unwrap()
    };
    for _ in 0..TIMES {
        let before = world.answered();
        wait_for("answers", || world.answered() > before + 200);
        fill(&ballast, left);
        // The large batch meets the end of the room first, the small event what is left of it.
        wait_for("KAFKA_STORAGE_ERROR", || produce() == Err(STORAGE_ERROR));
        wait_for("507", || post() == 507);
        assert_eq!(call(&daemon.admin, "GET", "/healthz", "", b"").unwrap().0, 200);
        assert_eq!(call(&daemon.http, "GET", "/v1/topics/probe/events", "", b"").unwrap().0, 200, "reads go on");
        std::fs::remove_file(&ballast).unwrap();
        wait_for("room for HTTP", || post() == 200);
        wait_for("room for Kafka", || produce().is_ok());
        let readyz = || call(&daemon.admin, "GET", "/readyz", "", b"").unwrap();
        wait_or("readiness", || readyz().0 == 200, || format!("{:?}", readyz()));
    }
    load.stop();
    let answered = world.answered();
    world.judge(daemon);
    std::fs::remove_dir_all(&folder).unwrap();
    println!("{name}: full {TIMES} times, {answered} events answered, none lost or doubled");
}

fn batch() -> inrush::record::Batch {
    // Noise, or the door's compression would make it small.
    let value: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(60_000).collect();
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
    builder.build(Codec::None).unwrap()
}

#[test]
#[ignore = "needs root and a loop device: tests/power_cut.sh"]
fn a_disk_below_its_limit_refuses_and_goes_on_by_itself() {
    full_run("room-limit", "48MiB", 20 << 20);
}

#[test]
#[ignore = "needs root and a loop device: tests/power_cut.sh"]
fn a_disk_without_a_byte_left_refuses_and_goes_on_by_itself() {
    full_run("room-none", "64KiB", 0);
}
