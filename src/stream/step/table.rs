//! What a keyed step remembers of one partition: an entry for each key until its time has come. Times are stream time in ms.

use super::window::canonical;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What an entry takes beside its key and its row, about.
const ENTRY_SIZE: usize = 160;

/// The columns that make a key, and how they become bytes. Cheap to share.
#[derive(Clone)]
pub(in crate::stream) struct Keys {
    places: Vec<usize>,
    fields: Vec<Field>,
    converter: Arc<RowConverter>,
}

/// What is remembered of one key; a step uses of it what it needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::stream) struct Entry {
    /// When it leaves.
    pub(in crate::stream) due: i64,
    pub(in crate::stream) start: i64,
    pub(in crate::stream) count: i64,
    /// Where it began: an offset, and which of the record's rows.
    pub(in crate::stream) offset: i64,
    pub(in crate::stream) ordinal: i64,
    /// A row of the step's input.
    pub(in crate::stream) row: Option<Box<[u8]>>,
}

/// Entries by key, and in the order in which they leave.
#[derive(Default)]
pub(in crate::stream) struct Table {
    entries: HashMap<Arc<[u8]>, Entry>,
    due: BTreeSet<(i64, Arc<[u8]>)>,
    size: usize,
}

impl Keys {
    /// Of the columns at these places.
    ///
    /// # Errors
    /// A type that does not come back from bytes as it was.
    pub(in crate::stream) fn new(schema: &Schema, places: Vec<usize>) -> Result<Keys, ArrowError> {
        let fields: Vec<Field> = places.iter().map(|at| schema.field(*at).clone()).collect();
        Ok(Keys { places, converter: converter(&fields)?, fields })
    }

    /// By row its key; none where a column of it is null.
    pub(in crate::stream) fn of(&self, rows: &RecordBatch) -> Vec<Option<Arc<[u8]>>> {
        let columns: Vec<ArrayRef> = self.places.iter().map(|at| canonical(rows.column(*at))).collect();
        let keys = self.converter.convert_columns(&columns).expect("the converter was made for these columns");
        let key =
            |row: usize| columns.iter().all(|column| column.is_valid(row)).then(|| Arc::from(keys.row(row).as_ref()));
        (0..rows.num_rows()).map(key).collect()
    }

    /// As part of the name that a step's state goes by: column names and types.
    pub(in crate::stream) fn identity(&self) -> String {
        let columns = self.fields.iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        columns.collect::<Vec<_>>().join(", ")
    }
}

impl Table {
    pub(in crate::stream) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(in crate::stream) fn set(&mut self, key: &Arc<[u8]>, entry: Entry) {
        self.remove(key);
        self.size += size_of(key, &entry);
        self.due.insert((entry.due, key.clone()));
        self.entries.insert(key.clone(), entry);
    }

    pub(in crate::stream) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.size -= size_of(&key, &entry);
        self.due.remove(&(entry.due, key));
        Some(entry)
    }

    /// Takes the entry that leaves next, if its time has come.
    pub(in crate::stream) fn pop_due(&mut self, time: i64) -> Option<Entry> {
        let (due, _) = self.due.first()?;
        if *due <= time { self.pop() } else { None }
    }

    /// Takes the entry that leaves next, before its time, while there is more than `size_max`.
    pub(in crate::stream) fn pop_excess(&mut self, size_max: usize) -> Option<Entry> {
        if self.size > size_max { self.pop() } else { None }
    }

    fn pop(&mut self) -> Option<Entry> {
        let (_, key) = self.due.first()?.clone();
        self.remove(&key)
    }

    pub(in crate::stream) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(in crate::stream) fn last_due(&self) -> Option<i64> {
        self.due.last().map(|(due, _)| *due)
    }

    /// Bytes in memory, about.
    pub(in crate::stream) fn size(&self) -> usize {
        self.size
    }

    /// All entries as rows: the key's columns, the numbers, and the columns of `row`, if the step keeps rows.
    pub(in crate::stream) fn save(&self, keys: &Keys, row: Option<&RowShape>) -> Result<RecordBatch, ArrowError> {
        let mut entries: Vec<(&Arc<[u8]>, &Entry)> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        let parser = keys.converter.parser();
        let mut columns = keys.converter.convert_rows(entries.iter().map(|(key, _)| parser.parse(key)))?;
        let number = |of: fn(&Entry) -> i64| -> ArrayRef {
            Arc::new(entries.iter().map(|(_, entry)| Some(of(entry))).collect::<Int64Array>())
        };
        columns.extend([
            number(|entry| entry.due),
            number(|entry| entry.start),
            number(|entry| entry.count),
            number(|entry| entry.offset),
            number(|entry| entry.ordinal),
        ]);
        if let Some(row) = row {
            columns.extend(row.columns(entries.iter().filter_map(|(_, entry)| entry.row.as_deref()))?);
        }
        RecordBatch::try_new(saved_schema(keys, row), columns)
    }

    /// From what [`Table::save`] made.
    ///
    /// # Errors
    /// Other columns than these keys and rows have.
    pub(in crate::stream) fn load(
        saved: &RecordBatch,
        keys: &Keys,
        row: Option<&RowShape>,
    ) -> Result<Table, ArrowError> {
        if saved.schema().fields() != saved_schema(keys, row).fields() {
            return Err(ArrowError::SchemaError("it has other columns than the step".to_owned()));
        }
        let of_key = keys.fields.len();
        let all = keys.converter.convert_columns(&saved.columns()[..of_key])?;
        let number = |at: usize, of: usize| saved.column(of_key + at).as_primitive::<Int64Type>().value(of);
        let rows =
            row.map(|row| row.converter.convert_columns(&saved.columns()[of_key + NUMBERS.len()..])).transpose()?;
        let mut table = Table::default();
        for at in 0..saved.num_rows() {
            let entry = Entry {
                due: number(0, at),
                start: number(1, at),
                count: number(2, at),
                offset: number(3, at),
                ordinal: number(4, at),
                row: rows.as_ref().map(|rows| rows.row(at).as_ref().into()),
            };
            table.set(&Arc::from(all.row(at).as_ref()), entry);
        }
        Ok(table)
    }
}

/// What makes columns of these types bytes, and of the bytes the same columns.
pub(super) fn converter(fields: &[Field]) -> Result<Arc<RowConverter>, ArrowError> {
    let sort = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(sort)?;
    for (column, field) in converter.convert_rows(std::iter::empty())?.iter().zip(fields) {
        if column.data_type() != field.data_type() {
            let message = format!(
                "{} is {}, which a step cannot remember; cast it to {}",
                field.name(),
                field.data_type(),
                column.data_type()
            );
            return Err(ArrowError::NotYetImplemented(message));
        }
    }
    Ok(Arc::new(converter))
}

const NUMBERS: [&str; 5] = ["due", "start", "count", "offset", "ordinal"];

fn saved_schema(keys: &Keys, row: Option<&RowShape>) -> SchemaRef {
    let plain =
        |prefix: &str, field: &Field| Field::new(format!("{prefix}{}", field.name()), field.data_type().clone(), true);
    let mut fields: Vec<Field> = keys.fields.iter().map(|field| plain("key.", field)).collect();
    fields.extend(NUMBERS.map(|name| Field::new(name, arrow::datatypes::DataType::Int64, true)));
    fields.extend(row.iter().flat_map(|row| row.schema.fields().iter().map(|field| plain("row.", field))));
    Arc::new(Schema::new(fields))
}

/// Rows as bytes and back.
#[derive(Clone)]
pub(in crate::stream) struct RowShape {
    schema: SchemaRef,
    converter: Arc<RowConverter>,
}

impl RowShape {
    /// # Errors
    /// As [`Keys::new`].
    pub(in crate::stream) fn new(schema: SchemaRef) -> Result<RowShape, ArrowError> {
        let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        Ok(RowShape { converter: converter(&fields)?, schema })
    }

    pub(in crate::stream) fn rows(&self, rows: &RecordBatch) -> arrow::row::Rows {
        self.converter.convert_columns(rows.columns()).expect("the converter was made for this schema")
    }

    fn columns<'r>(&self, rows: impl Iterator<Item = &'r [u8]>) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.map(|row| parser.parse(row)))
    }

    /// The rows that these bytes are.
    pub(in crate::stream) fn batch<'r>(&self, rows: impl Iterator<Item = &'r [u8]>) -> RecordBatch {
        let columns = self.columns(rows).expect("the bytes are of this converter");
        RecordBatch::try_new(self.schema.clone(), columns).expect("the columns are the schema's")
    }

    pub(in crate::stream) fn identity(&self) -> String {
        let columns = self.schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        columns.collect::<Vec<_>>().join(", ")
    }
}

fn size_of(key: &[u8], entry: &Entry) -> usize {
    ENTRY_SIZE + key.len() + entry.row.as_ref().map_or(0, |row| row.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use arrow::datatypes::DataType;

    fn rows() -> RecordBatch {
        let fields = vec![Field::new("user", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
        let users = StringArray::from(vec![Some("a"), None, Some("b"), Some("")]);
        let numbers = Int64Array::from(vec![Some(1), Some(2), None, Some(4)]);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(users), Arc::new(numbers)]).unwrap()
    }

    #[test]
    fn zero_is_one_key_whatever_its_sign() {
        let schema = Arc::new(Schema::new(vec![Field::new("f", DataType::Float64, true)]));
        let floats = arrow::array::Float64Array::from(vec![0.0, -0.0, 1.0]);
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(floats)]).unwrap();
        let keys = Keys::new(&schema, vec![0]).unwrap().of(&rows);
        assert!(keys[0] == keys[1] && keys[1] != keys[2]);
    }

    #[test]
    fn entries_leave_in_the_order_of_their_time_and_come_back_from_what_was_saved() {
        let rows = rows();
        let keys = Keys::new(&rows.schema(), vec![0]).unwrap();
        let shape = RowShape::new(rows.schema()).unwrap();
        let of_rows = keys.of(&rows);
        assert_eq!(of_rows.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
        let bytes = shape.rows(&rows);
        let mut table = Table::default();
        for (at, key) in of_rows.iter().enumerate() {
            let Some(key) = key else { continue };
            let row = Some(bytes.row(at).as_ref().into());
            table.set(key, Entry { due: 100 - at as i64, start: 5, count: at as i64, row, ..Entry::default() });
        }
        let saved = table.save(&keys, Some(&shape)).unwrap();
        let mut loaded = Table::load(&saved, &keys, Some(&shape)).unwrap();
        assert_eq!((loaded.size(), loaded.next_due()), (table.size(), Some(97)));
        assert!(table.pop_due(96).is_none());
        while let Some(entry) = table.pop_due(200) {
            assert_eq!(loaded.pop_due(200), Some(entry));
        }
        assert_eq!((table.size(), loaded.next_due()), (0, None));
        let last = shape.batch([bytes.row(2).as_ref()].into_iter());
        assert_eq!(last, rows.slice(2, 1));
        assert!(Table::load(&saved, &keys, None).is_err(), "other columns");
    }
}
