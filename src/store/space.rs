//! Space ahead of the writers: one thread that reserves it in the files that are being written, so that no round waits for it.

use super::core::Core;
use crate::disk::passes;
use std::io;
use std::sync::Arc;
use tracing::debug;

/// Runs until the store closes.
pub(super) fn run(core: &Arc<Core>) {
    while !core.is_closing() {
        let Some(order) = core.space_orders.pop() else {
            std::thread::park();
            continue;
        };
        if core.poisoned().is_some() {
            continue;
        }
        match order.fill(core.disk.as_ref()) {
            Ok(()) => {}
            // The round that needs the space meets the same and refuses its batches.
            Err(error) if passes(&error) => debug!(%error, "no space could be reserved ahead"),
            // Its topic was deleted meanwhile. Should the file be gone for another reason, the round that needs the space meets that too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => debug!(%error, "no space is reserved any more"),
            Err(error) => core.poison(format!("space could not be reserved in the log: {error}")),
        }
    }
}
