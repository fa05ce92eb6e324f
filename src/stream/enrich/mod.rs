//! Tables that `enrich` looks rows up in: a CSV or Parquet file, or a compacted topic. Held in memory, by key; a file is loaded aside and
//! swapped whole, a topic is followed.
//!
//! Knows no step: [`super::step`] asks it for the rows of keys. Who runs the pipeline tends it ([`tend`]).

mod contents;
mod csv;
mod file;
mod keep;
mod parse;
mod past;
mod tend;
#[cfg(test)]
mod tests;
mod topic;
mod watch;

pub(super) use keep::{Kept, Loaded, Origin};
pub(super) use parse::{read, test_tables};
pub(super) use past::{Past, Then};

use super::kinds;
use super::spec::{Enrich, Kind, Missing, Named, TableFrom};
use super::step::RowShape;
use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use contents::Contents;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// One table with what is asked of it.
pub(super) struct LookUp {
    from: TableFrom,
    shape: Shape,
    size_max: usize,
    pub(super) missing: Missing,
    contents: RwLock<Contents>,
    watch: Mutex<watch::Watch>,
    follow: Mutex<topic::Follow>,
}

/// What a table's rows are made of.
struct Shape {
    /// The table's columns that make its key, or what stands for them.
    keys: Vec<Asked>,
    /// What is looked up, under the table's names.
    columns: Vec<Asked>,
    key_rows: RowConverter,
    /// What is looked up, under the names that rows have it by.
    row: RowShape,
    fields: Vec<Field>,
    /// Bytes of a row whose columns are all null.
    nothing: Box<[u8]>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    name: String,
    kind: Kind,
    /// The type was found in the file, not said.
    is_inferred: bool,
}

/// What [`super::check`] tells of a table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TableReport {
    /// As it stands in the file.
    pub from: String,
    /// Rows that it has now; `None` of a topic.
    pub rows: Option<usize>,
    /// Columns of the key and their types.
    pub key: Vec<(String, String)>,
    pub columns: Vec<(String, String)>,
    /// Of these the types were found in the file.
    pub inferred: Vec<String>,
}

/// What is wrong with a step, and where.
pub(super) type Wrong = (Named, String);

impl LookUp {
    /// Reads the file, if it is one. `on` are the types of the columns that are looked up by; `pipeline` is the pipeline's file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn new(step: &Enrich, on: &[DataType], pipeline: &Path) -> Result<LookUp, Wrong> {
        let keys = keys(step, on)?;
        let (shape, contents, watch) = match &step.from {
            TableFrom::Topic(_) => {
                let shape = Shape::new(keys, topic::columns(step)?, step)?;
                (shape, Contents::default(), watch::Watch::default())
            }
            TableFrom::Csv { .. } | TableFrom::Parquet(_) => file::first(step, keys, pipeline)?,
        };
        Ok(LookUp {
            from: step.from.within(pipeline),
            shape,
            size_max: step.size_max as usize,
            missing: step.missing,
            contents: RwLock::new(contents),
            watch: Mutex::new(watch),
            follow: Mutex::default(),
        })
    }

    /// What is told of a file that holds nothing: the usual sign of an export that broke.
    pub(super) fn emptiness(&self) -> Option<String> {
        let is_empty = !matches!(self.from, TableFrom::Topic(_)) && self.contents().len() == 0;
        is_empty.then(|| format!("table {} has no rows: nothing is found in it", self.from))
    }

    /// The columns that rows get.
    pub(super) fn fields(&self) -> &[Field] {
        &self.shape.fields
    }

    /// The columns of the table for each row, null where it has no such key, and whether it has. `on` are the columns to look up by.
    ///
    /// # Errors
    /// None that Arrow knows: the columns have the types that the table was made for.
    pub(super) fn columns(&self, on: &[ArrayRef]) -> Result<(Vec<ArrayRef>, Vec<bool>), ArrowError> {
        let kinds = self.shape.keys.iter().map(|key| &key.kind);
        let on = on.iter().zip(kinds).map(|(column, kind)| as_key(column, kind)).collect::<Result<Vec<_>, _>>()?;
        let keys = self.shape.key_rows.convert_columns(&on)?;
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<Option<&[u8]>> = (0..keys.num_rows())
            .map(|row| {
                let is_whole = on.iter().all(|column| column.is_valid(row));
                is_whole.then(|| contents.get(keys.row(row).as_ref())).flatten()
            })
            .collect();
        let rows = found.iter().map(|row| row.unwrap_or(&self.shape.nothing));
        Ok((self.shape.row.batch(rows).columns().to_vec(), found.iter().map(Option::is_some).collect()))
    }

    /// What the table is.
    pub(super) fn report(&self) -> TableReport {
        let shown = |asked: &Asked| (asked.name.clone(), kinds::word(&asked.kind));
        let inferred = self.shape.columns.iter().filter(|column| column.is_inferred);
        let is_topic = matches!(self.from, TableFrom::Topic(_));
        TableReport {
            from: self.from.to_string(),
            rows: (!is_topic).then(|| self.contents().len()),
            key: self.shape.keys.iter().map(shown).collect(),
            columns: self.shape.columns.iter().map(shown).collect(),
            inferred: inferred.map(|column| column.name.clone()).collect(),
        }
    }

    fn contents(&self) -> std::sync::RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents_mut(&self) -> std::sync::RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shape {
    fn new(keys: Vec<Asked>, columns: Vec<Asked>, step: &Enrich) -> Result<Shape, Wrong> {
        let renamed = |name: &str| {
            let chosen = step.columns.iter().flatten().find(|(named, _)| named.name == name);
            chosen.map_or(name.to_owned(), |(_, as_name)| as_name.clone())
        };
        if columns.is_empty() {
            let message = "the table has no column beside its key: give it one, such as known = true, which rows get";
            return Err((step.at.clone(), message.to_owned()));
        }
        let field = |asked: &Asked| Field::new(renamed(&asked.name), kinds::arrow(&asked.kind), true);
        let fields: Vec<Field> = columns.iter().map(field).collect();
        let wrong = |error: ArrowError| (step.at.clone(), error.to_string());
        let schema = Arc::new(Schema::new(fields.clone()));
        let row = RowShape::new(schema.clone()).map_err(wrong)?;
        let sorts = keys.iter().map(|key| SortField::new(kinds::arrow(&key.kind))).collect();
        let key_rows = RowConverter::new(sorts).map_err(wrong)?;
        let nulls = fields.iter().map(|field| arrow::array::new_null_array(field.data_type(), 1)).collect();
        let nulls = RecordBatch::try_new(schema, nulls).map_err(wrong)?;
        let nothing = row.rows(&nulls).row(0).as_ref().into();
        Ok(Shape { keys, columns, key_rows, row, fields, nothing })
    }
}

/// The columns of the table that make its key, as rows look it up: their types are those of the rows.
fn keys(step: &Enrich, on: &[DataType]) -> Result<Vec<Asked>, Wrong> {
    let key = |((named, key), kind): ((&Named, &Named), &DataType)| match key_kind(kind) {
        Some(kind) => Ok(Asked { name: key.name.clone(), kind, is_inferred: false }),
        None => Err((
            named.clone(),
            format!(
                "{} is {kind}; a key is text, a whole number, a decimal, a date, a time, or true and false",
                named.name
            ),
        )),
    };
    step.on.iter().zip(&step.key).zip(on).map(key).collect()
}

/// As which type a column is looked up by; `None` if it cannot be.
fn key_kind(kind: &DataType) -> Option<Kind> {
    Some(match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::String,
        // What a record's key is.
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::String,
        DataType::Boolean => Kind::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Kind::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Kind::Int64,
        DataType::UInt64 => Kind::Uint64,
        DataType::Decimal128(precision, scale) => Kind::Decimal(*precision, *scale),
        DataType::Date32 => Kind::Date,
        DataType::Timestamp(..) => Kind::Timestamp,
        _ => return None,
    })
}

/// A column as keys of this kind; what is none is null.
fn as_key(column: &ArrayRef, kind: &Kind) -> Result<ArrayRef, ArrowError> {
    let wanted = kinds::arrow(kind);
    if *column.data_type() == wanted {
        return Ok(column.clone());
    }
    cast_with_options(column, &wanted, &CastOptions { safe: true, ..CastOptions::default() })
}

/// As which type a column of a Parquet file is looked up; `None` if it is no scalar.
fn scalar_kind(kind: &DataType) -> Option<Kind> {
    Some(match kind {
        DataType::Dictionary(_, value) => return scalar_kind(value),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => Kind::Int32,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Kind::Float64,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Binary,
        DataType::Date32 | DataType::Date64 => Kind::Date,
        DataType::Timestamp(
            TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
            _,
        ) => Kind::Timestamp,
        other => return key_kind(other),
    })
}

impl TableFrom {
    /// The same with its file as it is found from the pipeline's file on.
    pub(in crate::stream) fn within(&self, pipeline: &Path) -> TableFrom {
        let whole = |file: &Path| pipeline.parent().unwrap_or(Path::new(".")).join(file);
        match self {
            TableFrom::Csv { file, delimiter } => TableFrom::Csv { file: whole(file), delimiter: *delimiter },
            TableFrom::Parquet(file) => TableFrom::Parquet(whole(file)),
            TableFrom::Topic(topic) => TableFrom::Topic(topic.clone()),
        }
    }
}

impl std::fmt::Display for TableFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TableFrom::Csv { file, .. } | TableFrom::Parquet(file) => write!(f, "{}", file.display()),
            TableFrom::Topic(topic) => write!(f, "topic:{topic}"),
        }
    }
}
