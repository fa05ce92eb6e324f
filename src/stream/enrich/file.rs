//! A table that is a file: read whole, typed, and by key.

use super::watch::{Identity, Watch};
use super::{Asked, Contents, LookUp, Shape, Wrong, csv, scalar_kind};
use crate::stream::explain::size as told;
use crate::stream::kinds;
use crate::stream::spec::{Enrich, Kind, Named, TableFrom};
use arrow::array::ArrayRef;
use arrow::compute::cast;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use std::path::Path;

/// A table's file is not larger; of CSV the rows that are made of it may come to 256 MiB.
const FILE_SIZE_MAX: u64 = 1 << 30;
/// Rows of a Parquet file that are taken at a time.
const ROWS: usize = 8_192;

/// Reads the file of a step for the first time: what it is made of, what it holds, and how to notice that it changes.
///
/// # Errors
/// What is wrong with step or file.
pub(super) fn first(step: &Enrich, keys: Vec<Asked>, pipeline: &Path) -> Result<(Shape, Contents, Watch), Wrong> {
    let from = step.from.within(pipeline);
    let (TableFrom::Csv { file, .. } | TableFrom::Parquet(file)) = &from else {
        return Err((step.at.clone(), "it is no file".to_owned()));
    };
    let whole = |message: String| (step.at.clone(), format!("{}: {message}", file.display()));
    let (bytes, identity) = read(step.copy.as_ref().unwrap_or(file)).map_err(whole)?;
    let shape = Shape::new(keys.clone(), asked(step, &from, &bytes, &keys)?, step)?;
    let contents = contents(&from, &shape, &bytes, step.size_max as usize).map_err(whole)?;
    Ok((shape, contents, Watch::of(identity, bytes)))
}

/// The file's bytes, and what told them from others when they were read.
///
/// # Errors
/// It cannot be read, or is too large.
pub(super) fn read(file: &Path) -> Result<(Bytes, Identity), String> {
    let identity = Identity::of(file)?;
    if identity.size() > FILE_SIZE_MAX {
        return Err(format!("it has {} bytes; a table's file has at most {FILE_SIZE_MAX}", identity.size()));
    }
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read it: {error}"))?;
    Ok((bytes.into(), identity))
}

/// The columns that are looked up, with their types.
fn asked(step: &Enrich, from: &TableFrom, bytes: &Bytes, keys: &[Asked]) -> Result<Vec<Asked>, Wrong> {
    let whole = |message: String| (step.at.clone(), format!("{from}: {message}"));
    let mut there: Vec<(String, Option<Kind>)> = match from {
        TableFrom::Csv { delimiter, .. } => {
            let names = csv::header(bytes, *delimiter).map_err(whole)?;
            let said =
                |name: &String| step.types.iter().find(|(named, _)| named.name == *name).map(|(_, kind)| kind.clone());
            names.into_iter().map(|name| (name.clone(), said(&name))).collect()
        }
        _ => parquet_columns(bytes).map_err(whole)?,
    };
    let names: Vec<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
    let lacks = |named: &Named| {
        let hint = crate::config::nearest(&named.name, &names)
            .map_or(String::new(), |meant| format!("did you mean {meant}? "));
        // One column that holds another mark is a header that was not cut.
        let other = [';', '\t', '|'].into_iter().find(|mark| names.len() == 1 && names[0].contains(*mark));
        let hint = other.map_or(hint, |mark| format!("is it delimiter = {:?}? ", mark.to_string()));
        (named.clone(), format!("{from} has no column \"{}\"; {hint}it has: {}", named.name, names.join(", ")))
    };
    let wanted = step.key.iter().chain(step.columns.iter().flatten().map(|(named, _)| named));
    let wanted = wanted.chain(step.types.iter().map(|(named, _)| named));
    if let Some(unknown) = wanted.into_iter().find(|named| !names.contains(&named.name.as_str())) {
        return Err(lacks(unknown));
    }
    match &step.columns {
        // In the order in which they are named.
        Some(columns) => {
            let place = |name: &str| columns.iter().position(|(named, _)| named.name == name);
            there.retain(|(name, _)| place(name).is_some());
            there.sort_by_key(|(name, _)| place(name));
        }
        None => there.retain(|(name, _)| !keys.iter().any(|key| key.name == *name)),
    }
    match from {
        TableFrom::Csv { delimiter, .. } => Shape::inferred(bytes, *delimiter, &mut there).map_err(whole),
        _ => there
            .into_iter()
            .map(|(name, kind)| match kind {
                Some(kind) => Ok(Asked { name, kind, is_inferred: false }),
                None => Err(whole(format!(
                    "column {name} is {}, which a table cannot hold: name others in columns",
                    parquet_type(bytes, &name).map_err(whole)?
                ))),
            })
            .collect(),
    }
}

/// Names and types; no type where it is none of a table.
fn parquet_columns(bytes: &Bytes) -> Result<Vec<(String, Option<Kind>)>, String> {
    let metadata = guarded(|| ArrowReaderMetadata::load(bytes, Default::default()).map_err(no_parquet))?;
    let fields = metadata.schema().fields().iter();
    Ok(fields.map(|field| (field.name().clone(), scalar_kind(field.data_type()))).collect())
}

fn parquet_type(bytes: &Bytes, name: &str) -> Result<String, String> {
    let metadata = guarded(|| ArrowReaderMetadata::load(bytes, Default::default()).map_err(no_parquet))?;
    Ok(metadata.schema().field_with_name(name).map_or(String::new(), |field| field.data_type().to_string()))
}

/// A damaged file may be more than its reader bears; who plans pipelines goes on.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(no_parquet("its reader gave up")))
}

fn no_parquet(error: impl std::fmt::Display) -> String {
    let reason = error.to_string();
    match reason.contains("Disabled feature at compile time") {
        true => "its columns are compressed in a way that is not read here: write it plain, or with zstd or snappy"
            .to_owned(),
        false => format!("it is no Parquet file that can be read: {reason}"),
    }
}

/// What a file holds, by key.
///
/// # Errors
/// What is wrong with it, and in which line or row; it does not fit into memory.
pub(super) fn contents(from: &TableFrom, shape: &Shape, bytes: &Bytes, size_max: usize) -> Result<Contents, String> {
    let mut contents = Contents::default();
    let mut count = 0;
    let delimiter = if let TableFrom::Csv { delimiter, .. } = from { Some(*delimiter) } else { None };
    let mut add = |keys: &[ArrayRef], columns: Vec<ArrayRef>| {
        let rows = keys.first().map_or(0, |key| key.len());
        let twice = contents.add(shape, keys, columns, count).map_err(|error| error.to_string())?;
        if let Some((first, second)) = twice {
            let key: Vec<&str> = shape.keys.iter().map(|key| key.name.as_str()).collect();
            let place = |row| match delimiter {
                Some(delimiter) => format!("line {}", csv::line_of(bytes, delimiter, row)),
                None => format!("row {}", row + 1),
            };
            return Err(format!("{} has the same {} as {}", place(second), key.join(", "), place(first)));
        }
        count += rows;
        within(contents.size(), size_max)
    };
    match delimiter {
        Some(delimiter) => {
            let (keys, columns) = csv::columns(bytes, delimiter, &shape.keys, &shape.columns)?;
            add(&keys, columns)?;
        }
        None => guarded(|| parquet_rows(bytes, shape, &mut add))?,
    }
    Ok(contents)
}

/// # Errors
/// A table takes more memory than it may.
pub(super) fn within(size: usize, size_max: usize) -> Result<(), String> {
    match size > size_max {
        true => Err(format!(
            "it takes more than table-size-max = {} in memory: raise that, or name fewer columns",
            told(size_max as u64)
        )),
        false => Ok(()),
    }
}

/// Takes columns of a key and those beside it, of some rows.
type Add<'a> = &'a mut dyn FnMut(&[ArrayRef], Vec<ArrayRef>) -> Result<(), String>;

fn parquet_rows(bytes: &Bytes, shape: &Shape, add: Add<'_>) -> Result<(), String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).map_err(no_parquet)?;
    let known = builder.schema().clone();
    let all = || shape.keys.iter().chain(&shape.columns);
    let place = |asked: &Asked| known.index_of(&asked.name).map_err(|_| format!("it has no column {}", asked.name));
    let roots = all().map(place).collect::<Result<Vec<_>, _>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(no_parquet)?;
    for batch in reader {
        let batch = batch.map_err(no_parquet)?;
        let typed = |asked: &Asked| {
            let column = batch.column_by_name(&asked.name).ok_or_else(|| format!("it has no column {}", asked.name))?;
            let (is, wanted) = (column.data_type(), kinds::arrow(&asked.kind));
            let misfit = || format!("column {} is {is}, and {} is wanted", asked.name, kinds::word(&asked.kind));
            if *is == wanted {
                return Ok(column.clone());
            }
            // Text is never read as a number, nor a number made text: a key that only looks alike is none.
            if scalar_kind(is).is_none_or(|kind| !is_near(&kind, &asked.kind)) {
                return Err(misfit());
            }
            let made = cast(column, &wanted).map_err(|_| misfit())?;
            if made.null_count() == column.null_count() { Ok(made) } else { Err(misfit()) }
        };
        let keys = shape.keys.iter().map(typed).collect::<Result<Vec<_>, _>>()?;
        let columns = shape.columns.iter().map(typed).collect::<Result<Vec<_>, _>>()?;
        add(&keys, columns)?;
    }
    Ok(())
}

/// Whether values of one kind are meant by the other without a doubt.
fn is_near(a: &Kind, b: &Kind) -> bool {
    let is_whole = |kind: &Kind| matches!(kind, Kind::Int32 | Kind::Int64 | Kind::Uint64);
    a == b || is_whole(a) && is_whole(b) || matches!((a, b), (Kind::Decimal(..), Kind::Decimal(..)))
}

impl LookUp {
    /// What the file holds now, with what tells it from others. The file's types may not have changed.
    ///
    /// # Errors
    /// As [`contents`].
    pub(super) fn load(&self, bytes: &Bytes) -> Result<Contents, String> {
        if let TableFrom::Csv { delimiter, .. } = &self.from {
            let names = csv::header(bytes, *delimiter)?;
            let lacking = self.shape.keys.iter().chain(&self.shape.columns).find(|asked| !names.contains(&asked.name));
            if let Some(lacking) = lacking {
                return Err(format!("it has no column \"{}\" any more; it has: {}", lacking.name, names.join(", ")));
            }
        }
        contents(&self.from, &self.shape, bytes, self.size_max)
    }
}
