//! What to expect on this machine: kernel, io_uring, limits, the disk under a folder, what runs on the ports.
//!
//! Everything is found out by doing it: a ring is made, a block is written past the cache, syncs are timed, a few hundred MiB are written.

use super::measure::{sync_times, write_speed};
use crate::disk::{self, DirectIo, EngineChoice};
use serde::Serialize;
use std::ffi::CString;
use std::fs::read_to_string;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Fewer open files than this will be felt: each connection and each open segment is one.
const FILES_WANTED: u64 = 65_536;
const FILES_MIN: u64 = 4_096;
/// A ring locks memory on kernels before 5.12.
const LOCKED_MEMORY_WANTED: u64 = 8 << 20;
/// What the daemon takes with its default budgets and one pipeline.
const MEMORY_WANTED: u64 = 512 << 20;
const MEMORY_MIN: u64 = 256 << 20;
/// A slower sync makes each answer slow.
const SYNC_GOOD_MS: f64 = 5.0;
const SYNC_BAD_MS: f64 = 50.0;
const WRITE_GOOD_MB: f64 = 100.0;
const WRITE_BAD_MB: f64 = 20.0;
/// The doors' default ports.
const PORTS: [(&str, u16); 3] = [("HTTP", 8080), ("Kafka", 9092), ("admin", 9600)];

/// How a finding is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// It works, and could be better.
    Warn,
    /// Do something before relying on this machine.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub found: String,
    pub verdict: Verdict,
    /// What it means here, or what to do.
    pub advice: String,
}

/// Looks at the machine and at `folder`, which must exist. Takes a second or two, most of it writing.
///
/// # Errors
/// The folder cannot be written.
pub fn examine(folder: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = vec![kernel(), cores(), memory(), clock_source()];
    findings.extend(limits());
    findings.extend(engine(folder));
    findings.extend(space(folder)?);
    findings.extend(speed(folder)?);
    findings.extend(PORTS.map(|(door, port)| port_finding(door, port)));
    Ok(findings)
}

fn finding(what: &'static str, found: impl Into<String>, verdict: Verdict, advice: impl Into<String>) -> Finding {
    Finding { what, found: found.into(), verdict, advice: advice.into() }
}

fn kernel() -> Finding {
    let release = release();
    match version(&release) {
        Some(version) if version >= (5, 10) => {
            finding("kernel", release, Verdict::Ok, "5.10 or later is what is tested")
        }
        Some(version) if version >= (5, 4) => {
            finding("kernel", release, Verdict::Warn, "it works; 5.10 or later is what is tested")
        }
        Some(_) => finding("kernel", release, Verdict::Bad, "too old: Linux 5.10 or later"),
        None => finding("kernel", "unknown", Verdict::Warn, "Linux 5.10 or later is what is tested"),
    }
}

/// The kernel's release, as it says itself: a unit may hide `/proc/sys`.
fn release() -> String {
    // SAFETY: zeros are a utsname, which is arrays of characters.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is there to be filled and outlives the call.
    match unsafe { libc::uname(&mut name) } {
        0 => name.release.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte as u8)).collect(),
        _ => String::new(),
    }
}

/// The machine's memory in bytes.
fn memory_total() -> u64 {
    // SAFETY: zeros are a sysinfo, which is numbers.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is there to be filled and outlives the call.
    match unsafe { libc::sysinfo(&mut info) } {
        0 => info.totalram.saturating_mul(u64::from(info.mem_unit)),
        _ => 0,
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn cores() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    match count {
        1 => finding("cores", "1", Verdict::Warn, "doors, writer and pipelines share it; two or more are better"),
        count => finding("cores", count.to_string(), Verdict::Ok, "doors take up to 8, each pipeline one more"),
    }
}

fn memory() -> Finding {
    let total = memory_total();
    let group = read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let limit = group.unwrap_or(u64::MAX).min(total);
    let found = match group {
        Some(group) if group < total => format!("{} MiB by this group's limit", group >> 20),
        _ => format!("{} MiB", total >> 20),
    };
    match limit {
        limit if limit >= MEMORY_WANTED => {
            finding("memory", found, Verdict::Ok, "ingest takes up to 256 MiB, with a pipeline up to 512 MiB")
        }
        limit if limit >= MEMORY_MIN => {
            finding("memory", found, Verdict::Warn, "lower ingest-memory, tail-cache and pipeline-memory in the config")
        }
        _ => finding("memory", found, Verdict::Bad, "give it at least 256 MiB, better 512"),
    }
}

fn clock_source() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = read_to_string(path).unwrap_or_else(|_| "unknown".to_owned());
    let source = source.trim();
    match source {
        "hpet" | "acpi_pm" | "jiffies" => finding(
            "clock source",
            source,
            Verdict::Warn,
            "reading the time is a slow system call here; tsc or kvm-clock are quick (kernel parameter clocksource=)",
        ),
        _ => finding("clock source", source, Verdict::Ok, "reading the time is cheap"),
    }
}

fn limits() -> [Finding; 2] {
    let files = limit(libc::RLIMIT_NOFILE);
    let verdict = match files {
        files if files >= FILES_WANTED => Verdict::Ok,
        files if files >= FILES_MIN => Verdict::Warn,
        _ => Verdict::Bad,
    };
    let advice = match verdict {
        Verdict::Ok => "enough for 10,000 connections",
        _ => {
            "connections need one each, a quarter of them may be open segments: ulimit -n 1048576, or LimitNOFILE in the unit"
        }
    };
    let locked = limit(libc::RLIMIT_MEMLOCK);
    let is_old = version(&release()) < Some((5, 12));
    let (locked_verdict, locked_advice) = match is_old && locked < LOCKED_MEMORY_WANTED {
        true => (Verdict::Warn, "before Linux 5.12 a ring counts against it: LimitMEMLOCK=64M in the unit"),
        false => (Verdict::Ok, "since Linux 5.12 rings do not count against it"),
    };
    let shown = if locked == u64::MAX { "unlimited".to_owned() } else { format!("{} KiB", locked >> 10) };
    [
        finding("open files", files.to_string(), verdict, advice),
        finding("locked memory", shown, locked_verdict, locked_advice),
    ]
}

fn limit(what: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a rlimit to be filled and outlives the call.
    match unsafe { libc::getrlimit(what, &mut limit) } {
        0 => limit.rlim_cur,
        _ => 0,
    }
}

fn engine(folder: &Path) -> [Finding; 2] {
    let probe = disk::probe(folder);
    let switch = read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let uring = match &probe.uring {
        Ok(()) => finding("io_uring", "allowed", Verdict::Ok, "the log is written through it"),
        Err(error) => {
            let advice = match switch.trim() {
                "1" | "2" => "the log is written with pwrite; allow it: sysctl kernel.io_uring_disabled=0",
                _ => "the log is written with pwrite; a container's seccomp profile or a security module forbids it",
            };
            finding("io_uring", error, Verdict::Warn, advice)
        }
    };
    let direct = match &probe.direct {
        Ok(()) => finding("O_DIRECT", "taken by the file system", Verdict::Ok, "the log goes past the page cache"),
        Err(error) => {
            finding("O_DIRECT", error, Verdict::Warn, "the log goes through the page cache: works, a little slower")
        }
    };
    [uring, direct]
}

fn space(folder: &Path) -> io::Result<[Finding; 2]> {
    let space = disk::open(folder, EngineChoice::Std, DirectIo::Off)?.space(folder)?;
    let low = (space.total / 20).clamp(64 << 20, 2 << 30);
    let verdict = match space.free {
        free if free > 4 * low => Verdict::Ok,
        free if free > low => Verdict::Warn,
        _ => Verdict::Bad,
    };
    let found = format!("{} of {} MiB", space.free >> 20, space.total >> 20);
    let kind = file_system(folder);
    let (kind_verdict, advice) = match kind.as_str() {
        "ext4" | "xfs" => (Verdict::Ok, "what is tested"),
        "tmpfs" | "ramfs" => {
            (Verdict::Bad, "this is memory: nothing is durable here; name a folder on a disk: --data DIR")
        }
        "nfs" | "cifs" | "fuse" | "9p" => {
            (Verdict::Bad, "syncs over a network or through another program are not what the log is made for")
        }
        "btrfs" => {
            (Verdict::Warn, "works; set the folder to no copy-on-write (chattr +C), or commits slow down with time")
        }
        _ => (Verdict::Warn, "not tested here; ext4 and xfs are"),
    };
    Ok([
        finding("free space", found, verdict, format!("writes are refused below {} MiB", low >> 20)),
        finding("file system", kind, kind_verdict, advice),
    ])
}

fn file_system(folder: &Path) -> String {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return "unknown".to_owned() };
    // SAFETY: statfs is plain integers, for which all zeros are a value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with a zero byte and `found` is to be filled; both outlive the call.
    if unsafe { libc::statfs(path.as_ptr(), &mut found) } != 0 {
        return "unknown".to_owned();
    }
    // Magic numbers of statfs(2).
    match found.f_type as i64 & 0xffff_ffff {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        other => return format!("{other:#x}"),
    }
    .to_owned()
}

fn speed(folder: &Path) -> io::Result<[Finding; 2]> {
    let sync = sync_times(folder)?;
    let verdict = match sync.p99_ms {
        ms if ms <= SYNC_GOOD_MS => Verdict::Ok,
        ms if ms <= SYNC_BAD_MS => Verdict::Warn,
        _ => Verdict::Bad,
    };
    let advice = match verdict {
        Verdict::Ok => format!("an answer to a lone event takes about {:.1} ms", sync.p50_ms + 0.5),
        _ => "answers wait for this disk; one whose cache survives power cuts is faster".to_owned(),
    };
    let found = format!("p50 {:.2} ms, p99 {:.2} ms", sync.p50_ms, sync.p99_ms);
    let write = write_speed(folder)?;
    let write_verdict = match write {
        mb if mb >= WRITE_GOOD_MB => Verdict::Ok,
        mb if mb >= WRITE_BAD_MB => Verdict::Warn,
        _ => Verdict::Bad,
    };
    // Clicks shrink to about an eighth with zstd; half of the disk is left to Parquet.
    let events = write * 1e6 / 2.0 / 80.0;
    Ok([
        finding("sync of 4 KiB", found, verdict, advice),
        finding(
            "sequential write",
            format!("{write:.0} MB/s"),
            write_verdict,
            format!("enough for about {:.1} million clicks/s in the log", events / 1e6),
        ),
    ])
}

fn port_finding(door: &str, port: u16) -> Finding {
    let what = match door {
        "HTTP" => "port of HTTP",
        "Kafka" => "port of Kafka",
        _ => "port of admin",
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(address) {
        Ok(_) => finding(what, format!("{address} is free"), Verdict::Ok, "the daemon's default"),
        Err(error) => finding(
            what,
            format!("{address}: {error}"),
            Verdict::Warn,
            format!("a daemon runs already, or choose another: inrush serve --{} ADDR", door.to_lowercase()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_examined_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let findings = examine(folder.path()).unwrap();
        for what in ["kernel", "io_uring", "open files", "sync of 4 KiB", "sequential write", "file system"] {
            assert!(findings.iter().any(|finding| finding.what == what), "{what}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn kernels_and_memory_are_read() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.153.1-microsoft"), Some((5, 15)));
        assert_eq!(version(""), None);
        assert!(version(&release()).is_some() && memory_total() > 64 << 20);
    }

    #[test]
    fn a_taken_port_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = port_finding("HTTP", listener.local_addr().unwrap().port());
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.advice.contains("--http"), "{found:?}");
    }
}
