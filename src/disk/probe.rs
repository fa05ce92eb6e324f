//! What the disk under a folder can do, found out by doing it: a ring, a direct write, a sync.

use super::machine::{Machine, Syncs, whole_file_system};
use super::{Buffer, DirectIo, Disk, EngineChoice, OpenFiles, Tuning, Write};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};

/// What was found: `Err` says why not.
pub struct Probe {
    pub uring: Result<(), String>,
    pub direct: Result<(), String>,
}

/// Tries io_uring and O_DIRECT in `folder`, each on its own, by a write and a sync of one block in a file that is removed again.
pub fn probe(folder: &Path) -> Probe {
    let machine = |is_uring, is_direct| Machine::new(is_uring, is_direct, String::new());
    Probe {
        uring: try_block(&machine(true, false), folder).map_err(|error| error.to_string()),
        direct: try_block(&machine(false, true), folder).map_err(|error| error.to_string()),
    }
}

/// The disk under `folder`, which must exist; logs what was chosen and why.
///
/// # Errors
/// With `Uring` or `On`: that this folder cannot have it, and what to do.
pub fn open(folder: &Path, engine: EngineChoice, direct: DirectIo) -> io::Result<Arc<dyn Disk>> {
    open_tuned(folder, engine, direct, Tuning::default())
}

/// As [`open`], for who measures.
///
/// # Errors
/// As there.
pub fn open_tuned(folder: &Path, engine: EngineChoice, direct: DirectIo, tuning: Tuning) -> io::Result<Arc<dyn Disk>> {
    let found = probe(folder);
    let (is_uring, why_engine) = match (engine, &found.uring) {
        (EngineChoice::Std, _) => (false, "asked for".to_owned()),
        (_, Ok(())) => (true, "the kernel allows it".to_owned()),
        (EngineChoice::Auto, Err(error)) => {
            warn!(%error, "io_uring cannot be used, writing with pwrite and fdatasync");
            (false, format!("io_uring: {error}"))
        }
        (EngineChoice::Uring, Err(error)) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "io_uring cannot be used here ({error}); allow it (sysctl kernel.io_uring_disabled=0, the container's seccomp profile, the unit's SystemCallFilter) or set engine = \"auto\""
                ),
            ));
        }
    };
    let (is_direct, why_direct) = match (direct, &found.direct) {
        (DirectIo::Off, _) => (false, "asked for".to_owned()),
        (_, Ok(())) => (true, "the file system takes it".to_owned()),
        (DirectIo::Auto, Err(error)) => {
            info!(%error, "O_DIRECT cannot be used, writing through the page cache");
            (false, format!("O_DIRECT: {error}"))
        }
        (DirectIo::On, Err(error)) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("O_DIRECT cannot be used in {} ({error}); set direct-io = \"auto\"", folder.display()),
            ));
        }
    };
    let name = if is_uring { "uring" } else { "std" };
    let whole = Some(tuning.files_synced_singly_max).filter(|files| *files > 0);
    let whole = whole.and_then(|files| Some((Arc::new(whole_file_system(folder)?), files)));
    let many = match &whole {
        Some((_, files)) => format!("one syncfs above {files} files"),
        None => "each file by itself".to_owned(),
    };
    let reason = format!("engine {name} ({why_engine}), direct I/O {is_direct} ({why_direct}), synced {many}");
    info!(engine = name, direct = is_direct, folder = %folder.display(), why = %reason, "disk opened");
    let syncs = Syncs { by_ring: tuning.syncs_by_ring, whole };
    Ok(Arc::new(Machine { is_uring, is_direct, reason, syncs, space: tuning.space, open_files: OpenFiles::by_limit() }))
}

/// The machine's disk as it comes, without trying anything: for commands that look at files.
pub fn plain() -> Arc<dyn Disk> {
    Arc::new(Machine::new(false, false, "engine std, through the page cache".to_owned()))
}

fn try_block(machine: &Machine, folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".probe-{}-{}", std::process::id(), fastrand::u32(..)));
    let file = machine.create(&path)?;
    let tried = (|| {
        let mut engine = machine.engine()?;
        let mut bytes = Buffer::with_capacity(super::ALIGNMENT);
        bytes.extend(b"probe");
        bytes.pad();
        for (result, _) in engine.write_round(vec![Write { file: file.clone(), position: 0, bytes }]) {
            result?;
        }
        engine.sync_round(&[file]).into_iter().collect()
    })();
    machine.remove_file(&path)?;
    tried
}
