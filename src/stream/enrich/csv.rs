//! A table that is a CSV file: its header line, the types of columns that say none, and its rows.

use super::{Asked, Shape};
use crate::json::Node;
use crate::record::{Offset, Record};
use crate::stream::fault::{Fault, Reason};
use crate::stream::format::{Csv, Format};
use crate::stream::kinds;
use crate::stream::rows::Decoder;
use crate::stream::spec::{Column, From, Kind};
use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use bytes::Bytes;
use std::sync::Arc;

/// Names of the columns, by the header line.
///
/// # Errors
/// It is no CSV, or has no line.
pub(super) fn header(bytes: &[u8], delimiter: u8) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let format = Csv { header: false, delimiter, columns: Vec::new() };
    let stop = || Fault::of_value(Reason::NotCsv, "");
    let read = format.lines(bytes, |_, node| {
        if let Node::Object(cells) = node {
            names = cells
                .iter()
                .map(|(_, cell)| if let Node::Text(text) = cell { text.to_string() } else { String::new() })
                .collect();
        }
        Err(stop())
    });
    match read {
        Err(fault) if names.is_empty() => Err(format!("it is no CSV: {}", fault.message)),
        _ => match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, twice)) => Err(format!("its header line names the column \"{twice}\" twice")),
            None => Ok(names),
        },
    }
}

/// The types of these columns, by all of their cells: the first of int64, float64, bool, timestamp, date that every cell is, else string.
///
/// # Errors
/// It is no CSV.
pub(super) fn infer(bytes: &[u8], delimiter: u8, names: &[&str]) -> Result<Vec<Kind>, String> {
    let mut guesses: Vec<Guess> = names.iter().map(|_| Guess::default()).collect();
    let format = Csv { header: true, delimiter, columns: Vec::new() };
    let read = format.lines(bytes, |_, node| {
        let Node::Object(cells) = node else { return Ok(()) };
        for (name, cell) in cells {
            if let (Node::Text(text), Some(at)) = (cell, names.iter().position(|wanted| wanted == name)) {
                guesses[at].see(text);
            }
        }
        Ok(())
    });
    match read {
        Err(fault) if !is_empty(bytes, delimiter) => Err(fault.message.into_owned()),
        _ => Ok(guesses.into_iter().map(Guess::kind).collect()),
    }
}

/// Whether there is nothing but a header line.
fn is_empty(bytes: &[u8], delimiter: u8) -> bool {
    let mut is_empty = true;
    let seen = Csv { header: true, delimiter, columns: Vec::new() }.lines(bytes, |_, _| {
        is_empty = false;
        Err(Fault::of_value(Reason::NotCsv, ""))
    });
    is_empty && seen.is_err_and(|fault| fault.message == "it has no line")
}

/// Columns of the key, and those that are looked up, of the whole file.
///
/// # Errors
/// What is wrong, with its line.
pub(super) fn columns(
    bytes: &Bytes,
    delimiter: u8,
    keys: &[Asked],
    columns: &[Asked],
) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>), String> {
    let column = |(at, asked): (usize, &Asked)| Column {
        name: at.to_string(),
        from: From::Path(vec![asked.name.clone()]),
        kind: asked.kind.clone(),
        required: false,
        coerce: false,
    };
    let all: Vec<Column> = keys.iter().chain(columns).enumerate().map(column).collect();
    let schema = Arc::new(Schema::new(all.iter().map(kinds::field).collect::<Vec<_>>()));
    let format = Format::Csv(Csv { header: true, delimiter, columns: Vec::new() });
    let record = Record { offset: Offset(0), timestamp: 0, key: None, value: Some(bytes.clone()), headers: Vec::new() };
    let decoded = Decoder::new(&format, all, schema).decode(0, &[record]);
    if let Some((_, fault)) = decoded.faults.first()
        && !is_empty(bytes, delimiter)
    {
        let named = |at: &String| at.parse().ok().and_then(|at: usize| keys.iter().chain(columns).nth(at));
        let column = fault.column.as_ref().and_then(named).map(|asked| format!(" (column {})", asked.name));
        return Err(format!("{}{}", fault.message, column.unwrap_or_default()));
    }
    let mut arrays = decoded.rows.columns().to_vec();
    let columns = arrays.split_off(keys.len());
    Ok((arrays, columns))
}

/// The line of a row, from 1.
pub(super) fn line_of(bytes: &[u8], delimiter: u8, row: usize) -> u64 {
    let (mut at, mut line) = (0, 0);
    let _ = Csv { header: true, delimiter, columns: Vec::new() }.lines(bytes, |number, _| {
        if at == row {
            line = number;
            return Err(Fault::of_value(Reason::NotCsv, ""));
        }
        at += 1;
        Ok(())
    });
    line
}

impl Shape {
    /// Columns of a CSV file whose type is not said get one.
    pub(super) fn inferred(
        bytes: &[u8],
        delimiter: u8,
        columns: &mut [(String, Option<Kind>)],
    ) -> Result<Vec<Asked>, String> {
        let open: Vec<&str> =
            columns.iter().filter(|(_, kind)| kind.is_none()).map(|(name, _)| name.as_str()).collect();
        let mut found = infer(bytes, delimiter, &open)?.into_iter();
        let asked = |(name, kind): &(String, Option<Kind>)| Asked {
            name: name.clone(),
            is_inferred: kind.is_none(),
            kind: kind.clone().or_else(|| found.next()).unwrap_or(Kind::String),
        };
        Ok(columns.iter().map(asked).collect())
    }
}

/// What all cells seen so far can be.
struct Guess {
    is_empty: bool,
    int: bool,
    float: bool,
    bool: bool,
    time: bool,
    date: bool,
}

impl Default for Guess {
    fn default() -> Guess {
        Guess { is_empty: true, int: true, float: true, bool: true, time: true, date: true }
    }
}

impl Guess {
    fn see(&mut self, cell: &str) {
        self.is_empty = false;
        self.int &= cell.parse::<i64>().is_ok_and(|number| number.to_string() == cell);
        self.float &= is_plain_number(cell);
        self.bool &= matches!(cell, "true" | "false");
        self.time &= chrono::DateTime::parse_from_rfc3339(cell).is_ok();
        self.date &= cell.len() == 10 && chrono::NaiveDate::parse_from_str(cell, "%Y-%m-%d").is_ok();
    }

    fn kind(self) -> Kind {
        match self {
            Guess { is_empty: true, .. } => Kind::String,
            Guess { int: true, .. } => Kind::Int64,
            Guess { float: true, .. } => Kind::Float64,
            Guess { bool: true, .. } => Kind::Bool,
            Guess { time: true, .. } => Kind::Timestamp,
            Guess { date: true, .. } => Kind::Date,
            _ => Kind::String,
        }
    }
}

/// A number that is no code: `007` and `+1` are text.
fn is_plain_number(cell: &str) -> bool {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let whole = digits.split(['.', 'e', 'E']).next().unwrap_or_default();
    let is_whole = !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit());
    is_whole && (whole == "0" || !whole.starts_with('0')) && cell.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_every_cell_is_and_codes_stay_text() {
        let file = b"a,b,c,d,e,f,g,h\n1,1,007,true,2026-01-02T03:04:05Z,2026-01-02,,x\n-5,2.5e3,1,false,2026-01-02T03:04:05+01:00,2026-02-03,,\n";
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let kinds = infer(file, b',', &names).unwrap();
        use Kind::*;
        assert_eq!(kinds, [Int64, Float64, String, Bool, Timestamp, Date, String, String]);
        assert_eq!(infer(b"a\n9223372036854775808\n", b',', &["a"]).unwrap(), [Float64], "beyond int64");
        assert_eq!(infer(b"a\n", b',', &["a"]).unwrap(), [String], "an empty table");
        assert!(infer(b"a,b\n1\n", b',', &["a"]).unwrap_err().contains("line 2"));
    }

    #[test]
    fn a_header_line_names_each_column_once() {
        assert_eq!(header(b"\xef\xbb\xbfid;name\n1;x\n", b';').unwrap(), ["id", "name"]);
        assert!(header(b"id,id\n", b',').unwrap_err().contains("twice"));
        assert!(header(b"", b',').unwrap_err().contains("no line"));
        assert!(header(b"\xff,\n", b',').is_err());
    }
}
