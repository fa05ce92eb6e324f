//! A table that is a compacted topic: of each record key the last JSON object; a tombstone takes the row away.

use super::file::within;
use super::{Asked, LookUp, TableFrom, Wrong};
use crate::record::{DECODED_SIZE_MAX, Offset, PartitionId, Record};
use crate::store::{Partition, ReadError, Store};
use crate::stream::fault::Fault;
use crate::stream::format::Format;
use crate::stream::kinds;
use crate::stream::rows::Decoder;
use crate::stream::spec::{Column, Enrich, From};
use arrow::array::Array;
use arrow::datatypes::Schema;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use uuid::Uuid;

/// Bytes of log that are read at a time.
const READ_SIZE: usize = 4 << 20;

/// How far a topic was read into the table.
#[derive(Default)]
pub(super) struct Follow {
    topic: Option<Uuid>,
    next: BTreeMap<i32, i64>,
    /// Records that are no rows, since somebody asked, and the last of them.
    bad: u64,
    last_bad: Option<String>,
}

/// The columns that are looked up; records have no schema, so the file says their types.
///
/// # Errors
/// A column without a type, or no column.
pub(super) fn columns(step: &Enrich) -> Result<Vec<Asked>, Wrong> {
    let asked = |name: &str, kind: &_| Asked { name: name.to_owned(), kind: Clone::clone(kind), is_inferred: false };
    let Some(columns) = &step.columns else {
        return Ok(step.types.iter().map(|(named, kind)| asked(&named.name, kind)).collect());
    };
    let typed = |(named, _): &(_, _)| {
        let named: &crate::stream::spec::Named = named;
        match step.types.iter().find(|(known, _)| known.name == named.name) {
            Some((_, kind)) => Ok(asked(&named.name, kind)),
            None => Err((named.clone(), format!("say its type: types = {{ {} = \"string\" }}", named.name))),
        }
    };
    columns.iter().map(typed).collect()
}

impl LookUp {
    /// The topic that the table is, if it is one.
    pub(in crate::stream) fn topic(&self) -> Option<&str> {
        if let TableFrom::Topic(topic) = &self.from { Some(topic.as_str()) } else { None }
    }

    /// Begins with an empty table: the topic is read from its start.
    pub(in crate::stream) fn forget(&self) {
        if self.topic().is_some() {
            *self.follow_state() = Follow::default();
            *self.contents_mut() = Default::default();
        }
    }

    /// Reads the topic to the end that it has now; `beat` is called now and then.
    ///
    /// # Errors
    /// The topic does not exist or cannot be read; the table takes more memory than it may.
    pub(super) fn follow(&self, store: &Store, beat: &dyn Fn()) -> Result<(), String> {
        let Some(name) = self.topic() else { return Ok(()) };
        let topic = store.topic(name).ok_or_else(|| format!("enrich: topic {name} does not exist"))?;
        if self.follow_state().topic != Some(topic.id) {
            self.forget();
            self.follow_state().topic = Some(topic.id);
        }
        for id in 0..topic.partition_count() {
            if let Some(partition) = topic.partition(PartitionId(id)) {
                self.follow_partition(&partition, beat)?;
            }
        }
        within(self.contents().size(), self.size_max).map_err(|reason| format!("enrich: {}: {reason}", self.from))
    }

    fn follow_partition(&self, partition: &Partition, beat: &dyn Fn()) -> Result<(), String> {
        let id = partition.id().0;
        let tail = partition.tail();
        loop {
            // Not held while it is read: another run of the pipeline may be stuck there.
            let next = self.follow_state().next.get(&id).map_or(partition.start(), |next| Offset(*next));
            if next >= tail {
                return Ok(());
            }
            let (batches, goes_on) = match partition.read_blocking(next, READ_SIZE) {
                Ok(slice) if slice.batches.is_empty() => return Ok(()),
                Ok(slice) => {
                    let end = slice.batches[slice.batches.len() - 1].next_offset();
                    (slice.batches, end)
                }
                Err(ReadError::OutOfRange { start, tail, .. }) => (Vec::new(), if next < start { start } else { tail }),
                Err(error) => return Err(format!("enrich: cannot read {}: {error}", self.from)),
            };
            let mut records = Vec::new();
            for batch in &batches {
                let found = batch.records(DECODED_SIZE_MAX);
                let found = found.map_err(|error| format!("enrich: cannot read {}: {error}", self.from))?;
                records.extend(found.into_iter().filter(|record| record.offset >= next));
            }
            let mut follow = self.follow_state();
            if follow.next.get(&id).map_or(partition.start(), |next| Offset(*next)) == next {
                self.put(&mut follow, id, &records);
                follow.next.insert(id, goes_on.0);
            }
            drop(follow);
            beat();
            within(self.contents().size(), self.size_max)
                .map_err(|reason| format!("enrich: {}: {reason}", self.from))?;
        }
    }

    /// Puts records into the table, as if they came from the topic.
    pub(in crate::stream) fn take(&self, records: &[Record]) {
        self.put(&mut self.follow_state(), 0, records);
    }

    fn put(&self, follow: &mut Follow, partition: i32, records: &[Record]) {
        let mut bad = |record: &Record, reason: &str| {
            follow.bad += 1;
            let offset = record.offset;
            follow.last_bad =
                Some(format!("record {offset} of {}/{partition} is no row of the table: {reason}", self.from));
        };
        let mut keyed = Vec::with_capacity(records.len());
        for record in records {
            match self.key_headers(record) {
                Ok(headers) => keyed.push(Record { key: None, headers, ..record.clone() }),
                Err(reason) => bad(record, &reason),
            }
        }
        let decoded = self.decoder().decode(partition, &keyed);
        let told = |(at, fault): &(u32, Fault)| (keyed[*at as usize].clone(), fault.message.to_string());
        decoded.faults.iter().map(told).for_each(|(record, reason)| bad(&record, &reason));
        let (keys, columns) = decoded.rows.columns().split_at(self.shape.keys.len());
        let Ok(key_rows) = self.shape.key_rows.convert_columns(keys) else { return };
        let schema = Arc::new(Schema::new(self.shape.fields.clone()));
        let Ok(rows) = arrow::record_batch::RecordBatch::try_new(schema, columns.to_vec()) else { return };
        let rows = self.shape.row.rows(&rows);
        let mut contents = self.contents_mut();
        for (row, at) in decoded.sources.iter().enumerate() {
            if keys.iter().any(|key| key.is_null(row)) {
                continue;
            }
            match keyed[*at as usize].value {
                Some(_) => contents.set(key_rows.row(row).as_ref(), rows.row(row).as_ref()),
                None => contents.remove(key_rows.row(row).as_ref()),
            }
        }
    }

    /// A record's key as headers, of which columns are read: its text, or, of several columns, the fields of a JSON object.
    fn key_headers(&self, record: &Record) -> Result<Vec<(Bytes, Option<Bytes>)>, String> {
        let key = record.key.as_ref().ok_or("it has no key")?;
        if let [_] = self.shape.keys.as_slice() {
            return Ok(vec![(header(0).into(), Some(key.clone()))]);
        }
        let names: Vec<&str> = self.shape.keys.iter().map(|key| key.name.as_str()).collect();
        let object: Value = serde_json::from_slice(key)
            .map_err(|_| format!("its key is no JSON object with the fields {}", names.join(", ")))?;
        let field = |(at, name): (usize, &&str)| match object.get(*name) {
            Some(Value::String(text)) => Ok((header(at).into(), Some(Bytes::from(text.clone())))),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                Ok((header(at).into(), Some(value.to_string().into())))
            }
            _ => Err(format!("its key has no field {name}")),
        };
        names.iter().enumerate().map(field).collect()
    }

    fn decoder(&self) -> Decoder {
        let of = |name: String, from: From, asked: &Asked| Column {
            name,
            from,
            kind: asked.kind.clone(),
            required: false,
            coerce: false,
        };
        let keys = self.shape.keys.iter().enumerate();
        let keys = keys.map(|(at, key)| of(header(at), From::Header(header(at)), key));
        let columns = self.shape.columns.iter();
        let columns = columns.map(|asked| of(asked.name.clone(), From::Path(vec![asked.name.clone()]), asked));
        let all: Vec<Column> = keys.chain(columns).collect();
        let schema = Arc::new(Schema::new(all.iter().map(kinds::field).collect::<Vec<_>>()));
        Decoder::new(&Format::Json, all, schema)
    }

    /// Records that were no rows since this was last asked.
    pub(in crate::stream) fn bad_records(&self) -> u64 {
        std::mem::take(&mut self.follow_state().bad)
    }

    /// The last record that was no row, and why.
    pub(in crate::stream) fn last_bad(&self) -> Option<String> {
        self.follow_state().last_bad.clone()
    }

    fn follow_state(&self) -> std::sync::MutexGuard<'_, Follow> {
        self.follow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under which name a part of the key stands while a record is decoded.
fn header(at: usize) -> String {
    format!("key.{at}")
}
