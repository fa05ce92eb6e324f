//! Moving the start of partitions because somebody asked for it (DeleteRecords); retention does so in `keeper`.
//!
//! The start stands in the checkpoint alone, so an answer waits for one: a restart brings no record back that was deleted.

use super::core::Core;
use super::partition::Shared;
use super::{Partition, ReadError, Store, checkpoints, keeper, writer};
use crate::record::Offset;
use tracing::warn;

impl Store {
    /// Deletes the records below an offset in each of these partitions. When it returns, each new start is durable, by one checkpoint for
    /// all, and the segments that lie below it are gone. Gives the starts, in the order asked.
    ///
    /// # Errors
    /// Of each partition: [`ReadError::OutOfRange`] below 0 or beyond the tail, [`ReadError::Deleted`], and that it is read-only: nothing
    /// has changed. [`ReadError::Io`] if no checkpoint could be written: readers see the new start, and a restart may undo it.
    pub async fn delete_below(&self, asked: Vec<(Partition, Offset)>) -> Vec<Result<Offset, ReadError>> {
        let (core, count) = (self.core.clone(), asked.len());
        let moved = self.core.on_reader(move || {
            let moved: Vec<_> =
                asked.iter().map(|(partition, offset)| move_to(&core, &partition.shared, *offset)).collect();
            if moved.iter().all(Result::is_err) {
                return moved;
            }
            match checkpoints::save(&core, false) {
                Ok(()) => moved,
                Err(error) => moved.into_iter().map(|one| one.and(Err(ReadError::Io(error.to_string())))).collect(),
            }
        });
        moved.await.unwrap_or_else(|| vec![Err(ReadError::Io("the readers are gone".to_owned())); count])
    }
}

impl Partition {
    /// As [`Store::delete_below`] for this partition alone.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_below(&self, offset: Offset) -> Result<Offset, ReadError> {
        let store = Store { core: self.core.clone() };
        let moved = store.delete_below(vec![(self.clone(), offset)]).await.pop();
        moved.unwrap_or_else(|| Err(ReadError::Io("the readers are gone".to_owned())))
    }
}

fn move_to(core: &Core, partition: &Shared, offset: Offset) -> Result<Offset, ReadError> {
    let (start, tail) = (partition.start(), partition.tail());
    if partition.is_deleted() {
        return Err(ReadError::Deleted);
    }
    if offset < Offset(0) || offset > tail {
        return Err(ReadError::OutOfRange { offset, start, tail });
    }
    if let Some(reason) = &partition.read_only {
        // Its checkpoint stays as it is, so no start of it could be kept.
        return Err(ReadError::Io(format!("{}/{} is read-only: {reason}", partition.topic, partition.id)));
    }
    leave_segment(core, partition, offset);
    keeper::delete_below(partition, offset);
    Ok(partition.start())
}

/// Where all of a log goes, the segment that is written goes too: who deletes everything wants its room back. (Kafka keeps it until it is
/// full or old.) Best effort: a disk without room for another segment keeps this one.
fn leave_segment(core: &Core, partition: &Shared, offset: Offset) {
    let mut state = partition.log();
    let is_all = offset == state.log.end && state.log.active.position > 0;
    if !is_all || core.poisoned().is_some() || core.is_closing() || partition.is_deleted() {
        return;
    }
    if let Err(error) = writer::begin_segment(core, partition, &mut state) {
        warn!(topic = %partition.topic, partition = partition.id.0, %error, "a segment without records stays until it is full or old");
    }
}
