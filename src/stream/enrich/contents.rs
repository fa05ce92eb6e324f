//! What a table holds: rows by key, both as bytes.

use super::Shape;
use arrow::array::{Array, ArrayRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What an entry takes beside its key and its row, about.
const ENTRY_SIZE: usize = 64;

/// Rows by key.
#[derive(Default)]
pub(in crate::stream) struct Contents {
    rows: HashMap<Box<[u8]>, Placed>,
    size: usize,
}

struct Placed {
    row: Box<[u8]>,
    /// Of a file: which row it is.
    place: u32,
}

impl Contents {
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.rows.get(key).map(|held| &*held.row)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes in memory, about.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Puts a row in the place of the one that has its key.
    pub(super) fn set(&mut self, key: &[u8], row: &[u8]) {
        self.remove(key);
        self.size += size_of(key, row);
        self.rows.insert(key.into(), Placed { row: row.into(), place: 0 });
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some((key, held)) = self.rows.remove_entry(key) {
            self.size -= size_of(&key, &held.row);
        }
    }

    /// Adds rows of a file, whose first is its row `from`; those without a key are left out. Gives two rows that have the same key, if
    /// there are any: the rest is not added then.
    ///
    /// # Errors
    /// None that Arrow knows: the columns are the shape's.
    pub(super) fn add(
        &mut self,
        shape: &Shape,
        keys: &[ArrayRef],
        columns: Vec<ArrayRef>,
        from: usize,
    ) -> Result<Option<(usize, usize)>, ArrowError> {
        let key_rows = shape.key_rows.convert_columns(keys)?;
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(shape.fields.clone()));
        let rows = shape.row.rows(&RecordBatch::try_new(schema, columns)?);
        for at in 0..key_rows.num_rows() {
            if keys.iter().any(|key| key.is_null(at)) {
                continue;
            }
            let (key, row) = (key_rows.row(at), rows.row(at));
            match self.rows.entry(key.as_ref().into()) {
                Entry::Occupied(known) => return Ok(Some((known.get().place as usize, from + at))),
                Entry::Vacant(place) => {
                    self.size += size_of(key.as_ref(), row.as_ref());
                    place.insert(Placed { row: row.as_ref().into(), place: (from + at) as u32 });
                }
            }
        }
        Ok(None)
    }
}

fn size_of(key: &[u8], row: &[u8]) -> usize {
    ENTRY_SIZE + key.len() + row.len()
}
