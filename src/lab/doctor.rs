//! What to expect on this machine: kernel, io_uring, O_DIRECT, limits, the disk's sync.

use crate::disk;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Syncs that are timed.
const SYNCS: usize = 50;
/// Fewer open files than this will be felt.
const FILES_WANTED: u64 = 65_536;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub found: String,
    /// Nothing to do.
    pub good: bool,
    /// What it means, or what to do.
    pub advice: String,
}

/// Looks at the machine and at `folder`, which must exist.
///
/// # Errors
/// The folder cannot be written.
pub fn examine(folder: &Path) -> std::io::Result<Vec<Finding>> {
    let probe = disk::probe(folder);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![finding("kernel", kernel.trim(), true, "Linux 5.10 or later is what is tested")];
    findings.push(match &probe.uring {
        Ok(()) => finding("io_uring", "allowed", true, "the log is written through it"),
        Err(error) => finding("io_uring", error, false, "the log is written with pwrite; allow it by sysctl kernel.io_uring_disabled=0 or the container's seccomp profile"),
    });
    findings.push(match &probe.direct {
        Ok(()) => finding("O_DIRECT", "taken by the file system", true, "the log goes past the page cache"),
        Err(error) => finding("O_DIRECT", error, true, "the log goes through the page cache"),
    });
    let (median, worst) = time_syncs(folder)?;
    let is_quick = median < 0.005;
    let advice = if is_quick {
        "one commit takes about this long"
    } else {
        "commits wait for this disk; a disk with a write cache that survives power cuts is faster"
    };
    findings.push(finding(
        "fdatasync of 4 KiB",
        &format!("median {:.2} ms, worst {:.2} ms", median * 1e3, worst * 1e3),
        is_quick,
        advice,
    ));
    let files = open_files_max();
    let advice =
        if files >= FILES_WANTED { "enough" } else { "raise it: ulimit -n 1048576, or LimitNOFILE in the unit" };
    findings.push(finding("open files", &files.to_string(), files >= FILES_WANTED, advice));
    let space = disk::open(folder, disk::EngineChoice::Std, disk::DirectIo::Off)?.space(folder)?;
    let low = (space.total / 20).clamp(64 << 20, 2 << 30);
    let is_roomy = space.free > 2 * low;
    let advice = format!("writes are refused below {} MiB", low >> 20);
    findings.push(finding(
        "free space",
        &format!("{} of {} MiB", space.free >> 20, space.total >> 20),
        is_roomy,
        &advice,
    ));
    Ok(findings)
}

fn finding(what: &'static str, found: &str, good: bool, advice: &str) -> Finding {
    Finding { what, found: found.to_owned(), good, advice: advice.to_owned() }
}

fn time_syncs(folder: &Path) -> std::io::Result<(f64, f64)> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let mut file = std::fs::File::create(&path)?;
    let mut seconds = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    std::fs::remove_file(&path)?;
    seconds.sort_by(f64::total_cmp);
    Ok((seconds[SYNCS / 2], seconds[SYNCS - 1]))
}

fn open_files_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a rlimit to be filled and outlives the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => 0,
    }
}
