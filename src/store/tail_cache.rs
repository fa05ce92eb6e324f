//! The last batches of all partitions in one memory budget: what a live consumer reads without touching the disk.

use super::partition::Shared;
use crate::record::{Batch, Offset};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, Weak};

/// First in, first out over all partitions.
pub(super) struct TailCache {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    size: usize,
    /// Whose oldest batch leaves next, with its size.
    order: VecDeque<(Weak<Shared>, usize)>,
}

impl TailCache {
    pub(super) fn new(limit: usize) -> TailCache {
        TailCache { limit, kept: Mutex::default() }
    }

    /// Lets the batches of `partition` go that begin below `end`: the log has others there now.
    pub(super) fn forget(&self, partition: &std::sync::Arc<Shared>, end: Offset) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = {
            let mut recent = partition.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let count = recent.partition_point(|batch| batch.base_offset() < end);
            recent.drain(..count).count()
        };
        let mut size = 0;
        kept.order.retain(|(owner, batch_size)| {
            let is_gone = left > 0 && std::ptr::eq(owner.as_ptr(), std::sync::Arc::as_ptr(partition));
            if is_gone {
                left -= 1;
                size += batch_size;
            }
            !is_gone
        });
        kept.size -= size;
    }

    /// Keeps batches that were just appended to `partition`, in order, and lets the oldest of all go.
    pub(super) fn keep(&self, partition: &std::sync::Arc<Shared>, batches: impl Iterator<Item = Batch>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut recent = partition.recent.lock().unwrap_or_else(PoisonError::into_inner);
            for batch in batches {
                kept.size += batch.size();
                kept.order.push_back((std::sync::Arc::downgrade(partition), batch.size()));
                recent.push_back(batch);
            }
        }
        while kept.size > self.limit {
            let Some((owner, size)) = kept.order.pop_front() else { break };
            kept.size -= size;
            if let Some(owner) = owner.upgrade() {
                owner.recent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            }
        }
    }
}
