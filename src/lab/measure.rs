//! Short measurements of the disk under a folder, by the engine and the calls that the log uses.

use crate::disk::{self, Allocate, Buffer, DirectIo, EngineChoice, Write};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Syncs that are timed.
const SYNCS: usize = 200;
/// Slow disks are timed for this long at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// Size of a write, and of all writes together.
const WRITE_SIZE: usize = 1 << 20;
const WRITTEN_MAX: usize = 256 << 20;

/// How long small commits take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syncs {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// A file that is removed again, whatever happens.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(folder: &Path) -> Scratch {
        Scratch { path: folder.join(format!(".doctor-{}-{}", std::process::id(), fastrand::u32(..))) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Times commits of one block into zeroed space, one after the other: what the log does at a low rate.
///
/// # Errors
/// The system's.
pub(super) fn sync_times(folder: &Path) -> io::Result<Syncs> {
    let disk = disk::open(folder, EngineChoice::Auto, DirectIo::Auto)?;
    let scratch = Scratch::new(folder);
    let file = disk.create(&scratch.path)?;
    let mut engine = disk.engine()?;
    file.allocate(0, (SYNCS * disk::ALIGNMENT) as u64, Allocate::Zeroed)?;
    let mut times = Vec::with_capacity(SYNCS);
    let mut bytes = block(disk::ALIGNMENT);
    let began = Instant::now();
    while times.len() < SYNCS && began.elapsed() < PATIENCE {
        let position = (times.len() * disk::ALIGNMENT) as u64;
        let commit = Instant::now();
        bytes = write(engine.as_mut(), Write { file: file.clone(), position, bytes })?;
        engine.sync_round(std::slice::from_ref(&file)).into_iter().collect::<io::Result<()>>()?;
        times.push(commit.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Syncs { p50_ms: times[times.len() / 2], p99_ms: times[(times.len() - 1) * 99 / 100] })
}

/// MB/s of writing up to 256 MiB in writes of 1 MiB, one sync at the end.
///
/// # Errors
/// The system's.
pub(super) fn write_speed(folder: &Path) -> io::Result<f64> {
    let disk = disk::open(folder, EngineChoice::Auto, DirectIo::Auto)?;
    let scratch = Scratch::new(folder);
    let file = disk.create(&scratch.path)?;
    let mut engine = disk.engine()?;
    file.allocate(0, WRITTEN_MAX as u64, Allocate::Unwritten)?;
    let mut bytes = block(WRITE_SIZE);
    let mut written = 0;
    let began = Instant::now();
    while written < WRITTEN_MAX && began.elapsed() < PATIENCE {
        bytes = write(engine.as_mut(), Write { file: file.clone(), position: written as u64, bytes })?;
        written += WRITE_SIZE;
    }
    engine.sync_round(&[file]).into_iter().collect::<io::Result<()>>()?;
    Ok(written as f64 / began.elapsed().as_secs_f64() / 1e6)
}

/// Bytes that no disk can shrink.
fn block(size: usize) -> Buffer {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    let mut block = Buffer::with_capacity(size);
    block.extend(&bytes);
    block
}

fn write(engine: &mut dyn disk::Engine, write: Write) -> io::Result<Buffer> {
    match engine.write_round(vec![write]).pop() {
        Some((result, bytes)) => result.map(|()| bytes),
        None => Err(io::Error::other("the engine gave no result for a write")),
    }
}
