//! From a pipeline file to what a thread runs: read, parsed, planned, and judged as a whole.

use super::parse::parse_all;
use super::plan::Plan;
use super::rows::ROWS_MAX;
use super::sink::{source, store};
use super::spec::{Named, Output, ParquetOutput, Route, Rule, Spec, Step};
use crate::config::{Mistake, nearest};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A pipeline file is not larger.
const FILE_SIZE_MAX: u64 = 1 << 20;
/// Records that are taken at a time where steps remember and a web address takes the rows: about so many of its batches, and so many at least.
const PIECE_BATCHES: usize = 8;
const PIECE_MIN: usize = 64;

/// Why members of a group cannot remember.
pub(super) const SHARED_AND_REMEMBERED: &str =
    "what steps remember does not move with a partition: leave out group in from, or the steps that remember";

/// A planned pipeline.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) spec: Arc<Spec>,
    pub(super) plan: Arc<Plan>,
}

/// The pipeline files of a folder, by name; hidden ones are an editor's or a system's own. A folder that does not exist has none.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", folder.display())),
        Ok(entries) => entries,
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !is_hidden(path));
    files.sort();
    Ok(files)
}

/// Reads, checks and plans one file.
///
/// # Errors
/// All its mistakes.
pub(super) fn file(path: &Path) -> Result<Job, Vec<Mistake>> {
    let unreadable =
        |message: String| vec![Mistake { file: path.to_owned(), line: 0, column: 0, field: None, message }];
    let found = std::fs::metadata(path).map_err(|error| unreadable(format!("cannot read it: {error}")))?;
    if !found.is_file() {
        return Err(unreadable("it is no file".to_owned()));
    }
    let size = found.len();
    if size > FILE_SIZE_MAX {
        return Err(unreadable(format!("it has {size} bytes; a pipeline file has at most {FILE_SIZE_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(format!("cannot read it: {error}")))?;
    self::text(path, &text)
}

/// Whether this is what the file says now.
pub(super) fn is_text(path: &Path, text: &str) -> bool {
    let is_so_long = std::fs::metadata(path).is_ok_and(|file| file.len() == text.len() as u64);
    is_so_long && std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes())
}

/// Checks and plans a file's text. Where the file has mistakes, its SQL is judged all the same, as far as it can be.
///
/// # Errors
/// All its mistakes, by place.
pub(super) fn text(path: &Path, text: &str) -> Result<Job, Vec<Mistake>> {
    text_with(path, text, |_| {})
}

/// As [`text`], of steps that are changed before they are planned.
///
/// # Errors
/// As [`text`].
pub(super) fn text_with(path: &Path, text: &str, change: impl FnMut(&mut Step)) -> Result<Job, Vec<Mistake>> {
    let (spec, mut mistakes) = parse_all(path, text);
    let Some(mut spec) = spec else { return Err(mistakes) };
    spec.steps.iter_mut().for_each(change);
    match Plan::of(&spec) {
        Ok(mut plan) => {
            mistakes.extend(misfits(&spec, plan.output()));
            mistakes.extend(unshareable(&spec, &plan));
            let warnings: Vec<String> = spec.routes.iter().filter_map(|route| hidden(route, &plan)).collect();
            warnings.into_iter().for_each(|warning| plan.warn(warning));
            if mistakes.is_empty() {
                let pieces = if plan.is_stateful() { pieces_of(&spec) } else { ROWS_MAX };
                let plan = plan.in_pieces_of(pieces);
                return Ok(Job { spec: Arc::new(spec), plan: Arc::new(plan) });
            }
        }
        Err(wrong) => {
            mistakes.extend(wrong.output.iter().flat_map(|made| misfits(&spec, made)));
            mistakes.extend(wrong.mistakes);
        }
    }
    if mistakes.is_empty() {
        let message = "it cannot be planned, and nobody says why: please report this file".to_owned();
        mistakes.push(Mistake { file: path.to_owned(), line: 0, column: 0, field: None, message });
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(mistakes)
}

/// A cut of steps that remember stands behind a whole piece: one of very many requests would take too long, and all of them come again after a
/// crash.
fn pieces_of(spec: &Spec) -> usize {
    let batch = |route: &Route| match &route.to {
        Output::Http(out) => Some((out.batch_rows * PIECE_BATCHES).max(PIECE_MIN)),
        _ => None,
    };
    spec.routes.iter().filter_map(batch).min().unwrap_or(ROWS_MAX)
}

/// What outputs ask of columns and do not find in them.
fn misfits(spec: &Spec, made: &SchemaRef) -> Vec<Mistake> {
    let mistakes = |route| misfit(spec, route, made).into_iter().chain(unstorable(spec, route, made));
    let of_files = spec.routes.iter().flat_map(|route| match &route.to {
        Output::Parquet(out) => layout_misfits(spec, route, out, made),
        Output::Topic(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => Vec::new(),
    });
    spec.routes.iter().flat_map(mistakes).chain(of_files).collect()
}

/// Columns that readers do not see, since a folder has their name.
fn hidden(route: &Route, plan: &Plan) -> Option<String> {
    let Output::Parquet(out) = &route.to else { return None };
    let schema = route.schema(plan.output());
    let keys = out.partition.iter().flat_map(|pattern| pattern.split('/')).filter_map(|part| part.split_once('='));
    let hides = |(key, _): &(&str, &str)| schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(key));
    let (key, _) = keys.clone().find(hides)?;
    Some(format!(
        "output {}: a column and a folder of partition are both named {key}, and readers show the folder's value in place of the column's: name one of them otherwise",
        route.to
    ))
}

/// Whether what steps remember would have to move with a partition.
fn unshareable(spec: &Spec, plan: &Plan) -> Option<Mistake> {
    spec.elsewhere.as_ref().filter(|from| from.group.is_some() && plan.is_stateful())?;
    let lines = || spec.text.lines().zip(1..);
    let at = |(text, line): (&str, usize)| Some((line, text.find("group")? + 1));
    let (line, column) = lines().skip_while(|(text, _)| !text.contains("from")).find_map(at).unwrap_or((0, 0));
    Some(Mistake {
        file: spec.file.clone(),
        line,
        column,
        field: Some("from.group".to_owned()),
        message: SHARED_AND_REMEMBERED.to_owned(),
    })
}

/// What is wrong with the column whose bytes become files.
fn unstorable(spec: &Spec, route: &Route, rows: &SchemaRef) -> Option<Mistake> {
    let wanted = route.store.as_ref()?;
    let message = match rows.field_with_name(&wanted.column) {
        Err(_) => {
            let known: Vec<&str> = rows.fields().iter().map(|field| field.name().as_str()).collect();
            format!("\"{}\" is no column of the output; known: {}", wanted.column, known.join(", "))
        }
        Ok(column) if !column.data_type().is_null() && !store::takes(column.data_type()) => {
            format!("\"{}\" is {}; only bytes (binary, or _value) become files", wanted.column, column.data_type())
        }
        Ok(_) if wanted.name != wanted.column && rows.field_with_name(&wanted.name).is_ok() => {
            format!("another column is called \"{}\"; name the path's column with as", wanted.name)
        }
        Ok(_) => return None,
    };
    let (line, column) = wanted.at;
    Some(Mistake { file: spec.file.clone(), line, column, field: Some("to.store".to_owned()), message })
}

/// What the layout of Parquet files asks of columns.
fn layout_misfits(spec: &Spec, route: &Route, out: &ParquetOutput, made: &SchemaRef) -> Vec<Mistake> {
    let mistake = |at: &Named, message: String| Mistake {
        file: spec.file.clone(),
        line: at.line,
        column: at.column,
        field: Some(at.field.clone()),
        message,
    };
    let twice = out.source.iter().filter(|column| made.field_with_name(column.name()).is_ok());
    let twice = twice.zip(&out.source_at).map(|(column, at)| {
        mistake(
            at,
            format!("{} is made by the steps already: leave it out there, or name the others here", column.name()),
        )
    });
    let schema = route.schema(made);
    let sorted = out.sort.iter().map(|key| (&key.column, false));
    let unfit = sorted
        .chain(out.bloom.iter().map(|column| (column, true)))
        .filter_map(|(column, is_bloom)| unfit(&schema, &column.name, is_bloom).map(|reason| mistake(column, reason)));
    twice.chain(unfit).collect()
}

/// Why rows cannot be sorted by a column, or why it has no bloom filter.
fn unfit(schema: &Schema, name: &str, is_bloom: bool) -> Option<String> {
    match schema.field_with_name(name) {
        Err(_) => {
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let to_do = match nearest(name, &known) {
                None if !is_bloom && name.contains(char::is_whitespace) => "write \"ts\" or \"ts desc\"".to_owned(),
                Some(meant) => format!("did you mean {meant}?"),
                None if source::SourceColumn::ALL.iter().any(|column| column.name() == name) => {
                    "source-columns = true adds it".to_owned()
                }
                None => format!("known: {}", known.join(", ")),
            };
            Some(format!("\"{name}\" is no column of the output; {to_do}"))
        }
        Ok(column) if column.data_type().is_nested() => {
            Some(format!("\"{name}\" is a list or a struct; take a column of one value"))
        }
        Ok(column) if is_bloom && *column.data_type() == DataType::Boolean => {
            Some(format!("\"{name}\" is only true and false; a bloom filter spares nothing there"))
        }
        Ok(_) => None,
    }
}

fn misfit(spec: &Spec, route: &Route, made: &SchemaRef) -> Option<Mistake> {
    if matches!(route.rule, Rule::Late) {
        // Its rows are those before the window, which has judged it.
        return None;
    }
    let (field, name) = match &route.to {
        Output::Parquet(out) => ("time", out.time.as_deref().filter(|time| *time != "_timestamp")?),
        Output::Topic(out) => ("key", out.key.as_deref()?),
        Output::Kafka(out) => ("key", out.key.as_deref()?),
        Output::Http(_) | Output::Stdout => return None,
    };
    let columns = route.schema(made);
    let message = match columns.field_with_name(name) {
        Err(_) => {
            let known: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
            format!("\"{name}\" is no column of the output; known: {}", known.join(", "))
        }
        Ok(column)
            if field == "time"
                && !matches!(column.data_type(), DataType::Timestamp(..) | DataType::Date32 | DataType::Null) =>
        {
            format!("\"{name}\" is {}; a partition is made from a timestamp or a date", column.data_type())
        }
        Ok(_) => return None,
    };
    let (line, column) = route.named_at;
    Some(Mistake { file: spec.file.clone(), line, column, field: Some(format!("to.{field}")), message })
}
