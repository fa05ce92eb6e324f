//! CSV among sampled records: how it is written, what its columns are called, and cells as the values that types are read of.

use super::Object;
use crate::record::Record;
use crate::stream::format::Csv;
use serde_json::Value;
use std::collections::BTreeMap;

/// What may stand between cells, the likelier first.
const DELIMITERS: [u8; 4] = *b",;\t|";
/// Bytes of a name.
const NAME_MAX: usize = 64;

type Cells = Vec<String>;

/// How samples are written, if nearly all are lines of as many cells each.
pub(super) fn of(samples: &[Record]) -> Option<Csv> {
    let of_delimiter = |delimiter: &u8| {
        let csv = Csv { header: false, delimiter: *delimiter, columns: Vec::new() };
        let read: Vec<Vec<Cells>> = samples.iter().filter_map(|sample| lines(&csv, sample)).collect();
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        read.iter().filter_map(|lines| width(lines)).for_each(|width| *counts.entry(width).or_insert(0) += 1);
        let (width, fitting) = counts.into_iter().max_by_key(|(width, count)| (*count, *width))?;
        let read: Vec<Vec<Cells>> = read.into_iter().filter(|lines| self::width(lines) == Some(width)).collect();
        // One comma is in many a sentence.
        let is_table = width > 2 || read.iter().map(Vec::len).sum::<usize>() > 2;
        (width > 1 && is_table && fitting * 10 >= samples.len() * 9).then_some((fitting, width, csv, read))
    };
    let (.., csv, read) = DELIMITERS.iter().filter_map(of_delimiter).reduce(|best, other| match best {
        (fitting, width, ..) if (other.0, other.1) > (fitting, width) => other,
        best => best,
    })?;
    let first = read.first()?.first()?;
    let header = are_names(first) && read.iter().all(|lines| lines.len() > 1 && lines[0] == *first);
    let columns = if header { Vec::new() } else { named(&read).cloned().unwrap_or_default() };
    Some(Csv { header, columns, ..csv })
}

/// The lines of a value as objects whose values are what their cells look like; none if it is not written so.
pub(super) fn objects(csv: &Csv, sample: &Record) -> Vec<Object> {
    texts(csv, sample)
        .into_iter()
        .map(|line| line.into_iter().map(|(name, cell)| (name, value(&cell))).collect())
        .collect()
}

/// Whether a record only says what the columns are called.
pub(super) fn is_heading(csv: &Csv, sample: &Record) -> bool {
    let lines = if csv.columns.is_empty() { Vec::new() } else { texts(csv, sample) };
    !lines.is_empty() && lines.iter().flatten().all(|(name, cell)| name == cell)
}

/// The first line of a value, behind its header, with what `hide` makes of its cells.
pub(super) fn shown(csv: &Csv, sample: &Record, hide: impl Fn(&Object) -> Value) -> Option<String> {
    let line = texts(csv, sample).into_iter().next()?;
    let seen: Object = line.iter().map(|(name, cell)| (name.clone(), value(cell))).collect();
    let hidden = hide(&seen);
    let cell = |(name, cell): &(String, String)| match &hidden[name.as_str()] {
        known if *known == seen[name.as_str()] => cell.clone(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let written = |cells: Cells| {
        let cells: Cells = cells.into_iter().map(|cell| quoted(csv, cell)).collect();
        cells.join(&char::from(csv.delimiter).to_string())
    };
    let shown = written(line.iter().map(cell).collect());
    Some(match csv.header {
        true => format!("{}\n{shown}", written(line.into_iter().map(|(name, _)| name).collect())),
        false => shown,
    })
}

fn quoted(csv: &Csv, cell: String) -> String {
    match cell.contains([char::from(csv.delimiter), '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    }
}

/// Names and cells, line by line.
fn texts(csv: &Csv, sample: &Record) -> Vec<Vec<(String, String)>> {
    let mut lines = Vec::new();
    let read = csv.lines(sample.value.as_deref().unwrap_or_default(), |_, line| {
        let Value::Object(cells) = line.plain() else { return Ok(()) };
        let text = |cell: Value| cell.as_str().unwrap_or_default().to_owned();
        lines.push(cells.into_iter().map(|(name, cell)| (name, text(cell))).collect());
        Ok(())
    });
    if read.is_ok() { lines } else { Vec::new() }
}

/// The cells of a text's lines; none of a list of JSON, or of what was cut off of JSON or XML.
fn lines(csv: &Csv, sample: &Record) -> Option<Vec<Cells>> {
    if let Some([b'{' | b'[' | b'<', ..]) = sample.value.as_deref().map(<[u8]>::trim_ascii_start) {
        return None;
    }
    let is_text = |cell: &String| !cell.contains(|letter: char| letter.is_control() && !letter.is_whitespace());
    let lines: Vec<Cells> =
        texts(csv, sample).into_iter().map(|line| line.into_iter().map(|(_, cell)| cell).collect()).collect();
    (!lines.is_empty() && lines.iter().flatten().all(is_text)).then_some(lines)
}

/// How many cells each line has, if all have as many.
fn width(lines: &[Cells]) -> Option<usize> {
    let width = lines.first()?.len();
    lines.iter().all(|line| line.len() == width).then_some(width)
}

/// A record of one line that names the columns: its cells are names, though one of the columns is of numbers or times.
fn named(read: &[Vec<Cells>]) -> Option<&Cells> {
    let lines = || read.iter().flatten();
    let says_names = |line: &&Cells| {
        let is_other = |other: &&Cells| other != line;
        let is_typed = |at: usize| lines().filter(is_other).all(|other| other[at].is_empty() || !is_plain(&other[at]));
        lines().any(|other| other != *line) && (0..line.len()).any(is_typed)
    };
    read.iter().filter(|lines| lines.len() == 1).map(|lines| &lines[0]).find(|line| are_names(line) && says_names(line))
}

fn are_names(cells: &[String]) -> bool {
    let is_name = |cell: &String| {
        let begins = cell.starts_with(|first: char| first.is_alphabetic() || first == '_');
        begins && cell.len() <= NAME_MAX && is_plain(cell)
    };
    cells.iter().enumerate().all(|(at, cell)| is_name(cell) && !cells[..at].contains(cell))
}

/// Whether a cell is text, and nothing besides.
fn is_plain(cell: &str) -> bool {
    match value(cell) {
        Value::String(text) => chrono::DateTime::parse_from_rfc3339(&text).is_err(),
        _ => false,
    }
}

/// What a cell looks like. Numbers that would not be written again as they stand (`0021`) are text: ids, not amounts.
fn value(cell: &str) -> Value {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let is_number =
        digits.starts_with(|first: char| first.is_ascii_digit()) && digits.ends_with(|c: char| c.is_ascii_digit());
    let is_id = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    match cell {
        "" => Value::Null,
        _ if cell.eq_ignore_ascii_case("true") => true.into(),
        _ if cell.eq_ignore_ascii_case("false") => false.into(),
        _ if is_number && !is_id => {
            let whole = cell.parse::<i64>().map(Value::from).or_else(|_| cell.parse::<u64>().map(Value::from));
            let is_whole = digits.bytes().all(|digit| digit.is_ascii_digit());
            let float = || cell.parse::<f64>().ok().filter(|float| !is_whole && float.is_finite()).map(Value::from);
            whole.ok().or_else(float).unwrap_or_else(|| time(cell).into())
        }
        _ => time(cell).into(),
    }
}

/// A time without an offset, as UTC; other texts as they are.
fn time(cell: &str) -> String {
    let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let time = forms.iter().find_map(|form| chrono::NaiveDateTime::parse_from_str(cell, form).ok());
    time.map_or_else(|| cell.to_owned(), |time| time.and_utc().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}
