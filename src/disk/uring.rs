//! The `uring` engine: tokio-uring behind the seam. Each round is one `block_on` that joins all its operations; none is dropped
//! early, since dropping a write's future does not cancel the write.
//!
//! The runtime is made by its builder, because `tokio_uring::start` panics where io_uring is forbidden. Operations are submitted when
//! the runtime parks, so a round of n writes costs one `io_uring_enter`. Not `DEFER_TASKRUN`: this runtime never waits through the ring.

use super::machine::{Syncs, ours};
use super::{Buffer, Engine, File, Write};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// Entries of the submission queue: the most writes of a round that one system call submits.
const RING_ENTRIES: u32 = 256;
/// So many of the files it has seen are kept, a descriptor each; more cost a duplicate and its close for each write.
const FILES_KEPT_MAX: usize = 64;

/// One ring and the files it has seen.
pub(super) struct Uring {
    runtime: tokio_uring::Runtime,
    /// By the address of the log's file; the weak pointer tells a closed file from a new one at the same place.
    files: HashMap<usize, (Weak<dyn File>, Rc<tokio_uring::fs::File>)>,
    syncs: Syncs,
}

impl Uring {
    /// # Errors
    /// EPERM, ENOSYS or ENOMEM where the kernel, a sandbox or a limit forbids io_uring.
    pub(super) fn new(syncs: Syncs) -> io::Result<Uring> {
        let mut builder = tokio_uring::builder();
        builder.entries(RING_ENTRIES);
        Ok(Uring { runtime: tokio_uring::Runtime::new(&builder)?, files: HashMap::new(), syncs })
    }

    /// The ring's own handle on the log's file: a duplicate of its descriptor, so the same open file description.
    fn file(&mut self, file: &Arc<dyn File>) -> io::Result<Rc<tokio_uring::fs::File>> {
        let address = Arc::as_ptr(file).cast::<()>() as usize;
        if let Some((kept, handle)) = self.files.get(&address)
            && kept.strong_count() > 0
        {
            return Ok(handle.clone());
        }
        if self.files.len() >= FILES_KEPT_MAX {
            self.files.retain(|_, (kept, _)| kept.strong_count() > 0);
            if self.files.len() >= FILES_KEPT_MAX {
                // A round in work has its handles in hand.
                self.files.clear();
            }
        }
        let handle = Rc::new(tokio_uring::fs::File::from_std(ours(file).writing().try_clone()?));
        self.files.insert(address, (Arc::downgrade(file), handle.clone()));
        Ok(handle)
    }
}

impl Engine for Uring {
    fn write_round(&mut self, writes: Vec<Write>) -> Vec<(io::Result<()>, Buffer)> {
        let handles: Vec<_> = writes.iter().map(|write| self.file(&write.file)).collect();
        self.runtime.block_on(async {
            // Each write becomes a task of its own, so all are submitted together; every task is then awaited.
            let mut tasks = Vec::with_capacity(writes.len());
            for (write, handle) in writes.into_iter().zip(handles) {
                tasks.push(tokio_uring::spawn(async move {
                    match handle {
                        Ok(file) => file.write_all_at(write.bytes, write.position).await,
                        Err(error) => (Err(error), write.bytes),
                    }
                }));
            }
            let mut results = Vec::with_capacity(tasks.len());
            for task in tasks {
                let lost = |error| (Err(io::Error::other(error)), Buffer::with_capacity(0));
                results.push(task.await.unwrap_or_else(lost));
            }
            results
        })
    }

    fn sync_round(&mut self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        if let Some(synced) = self.syncs.all(files) {
            return synced;
        }
        if !self.syncs.by_ring {
            // The ring hands a sync to a kernel worker and waits for it; the call does the same work without the detour.
            return files.iter().map(|file| file.sync()).collect();
        }
        let handles: Vec<_> = files.iter().map(|file| self.file(file)).collect();
        self.runtime.block_on(async {
            let sync = |handle: io::Result<Rc<tokio_uring::fs::File>>| async move { handle?.sync_data().await };
            let tasks: Vec<_> = handles.into_iter().map(|handle| tokio_uring::spawn(sync(handle))).collect();
            let mut results = Vec::with_capacity(tasks.len());
            for task in tasks {
                results.push(task.await.unwrap_or_else(|error| Err(io::Error::other(error))));
            }
            results
        })
    }
}
