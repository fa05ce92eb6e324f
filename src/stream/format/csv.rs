//! Lines of CSV, as RFC 4180 has them, in one record's value: each is an object whose fields are text.

use crate::json::Node;
use crate::stream::fault::{Fault, Reason};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use std::borrow::Cow;

/// Cells that a line has room for before room is made for more.
const CELLS: usize = 64;

/// How a pipeline's CSV is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stream) struct Csv {
    /// The first line of each record names the columns.
    pub(in crate::stream) header: bool,
    /// ASCII, and no quote and no line end.
    pub(in crate::stream) delimiter: u8,
    /// Names of the columns; empty = the header line's, or else their positions, from 0.
    pub(in crate::stream) columns: Vec<String>,
}

impl Csv {
    /// Gives each line of a value to `each`, with its number from 1. An empty cell is null.
    ///
    /// # Errors
    /// [`Reason::NotCsv`]: it is no UTF-8, a quote is not closed, text stands behind one that is, a line has more or fewer cells than there are names, there is no line;
    /// or the first error of `each`. Lines before it were given.
    pub(in crate::stream) fn lines(
        &self,
        value: &[u8],
        mut each: impl FnMut(u64, &Node<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let not_csv = |message: String| Fault::of_value(Reason::NotCsv, message);
        let text = std::str::from_utf8(value).map_err(|error| not_csv(error.to_string()))?;
        let mut cells = Cells::new(text.trim_start_matches('\u{feff}'), self.delimiter);
        let mut names: Cow<'_, [String]> = Cow::Borrowed(&self.columns);
        if self.header
            && let Some(line) = cells.next_line()?
        {
            names = Cow::Owned(line.cells().map(str::to_owned).collect());
        }
        let mut is_empty = true;
        while let Some(line) = cells.next_line()? {
            is_empty = false;
            if !names.is_empty() && names.len() != line.ends.len() {
                let message = format!("{} cells where {} columns are named", line.ends.len(), names.len());
                return Err(not_csv(message).at_line(line.number));
            }
            let name = |at: usize| match names.get(at) {
                Some(name) => Cow::Borrowed(name.as_str()),
                None => Cow::Owned(at.to_string()),
            };
            let fields = line.cells().enumerate().map(|(at, cell)| match cell.is_empty() {
                true => (name(at), Node::Null),
                false => (name(at), Node::Text(Cow::Borrowed(cell))),
            });
            each(line.number, &Node::Object(fields.collect())).map_err(|fault| fault.at_line(line.number))?;
        }
        if is_empty { Err(not_csv("it has no line".to_owned())) } else { Ok(()) }
    }
}

/// Reads line after line into its own memory, quotes taken away.
struct Cells<'a> {
    reader: Reader,
    delimiter: u8,
    rest: &'a [u8],
    /// The end of the last line was given to the reader.
    is_ended: bool,
    text: Vec<u8>,
    ends: Vec<usize>,
}

struct Line<'c> {
    /// From 1; of its first line, if quotes make it several.
    number: u64,
    text: &'c str,
    ends: &'c [usize],
}

impl Line<'_> {
    fn cells(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        // A cell that were cut within a letter would be read as empty; the delimiter is ASCII, so none is.
        starts.zip(self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }
}

impl<'a> Cells<'a> {
    fn new(text: &'a str, delimiter: u8) -> Cells<'a> {
        Cells {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            delimiter,
            rest: text.as_bytes(),
            is_ended: false,
            // What a line becomes is never longer than what it was, and the last line end is ours.
            text: vec![0; text.len() + 1],
            ends: vec![0; CELLS],
        }
    }

    /// The next line that is not empty.
    fn next_line(&mut self) -> Result<Option<Line<'_>>, Fault> {
        let (mut text_len, mut count) = (0, 0);
        let mut number = self.reader.line();
        let begin = self.rest;
        loop {
            let input = if self.is_ended {
                b""
            } else if self.rest.is_empty() {
                b"\n".as_slice()
            } else {
                self.rest
            };
            let is_last = self.rest.is_empty();
            if text_len == 0 && count == 0 {
                // Empty lines before it are passed over within one call.
                let empty = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
                number = self.reader.line() + empty.filter(|byte| **byte == b'\n').count() as u64;
            }
            let (result, read, written, ended) =
                self.reader.read_record(input, &mut self.text[text_len..], &mut self.ends[count..]);
            match is_last {
                true => self.is_ended |= read > 0,
                false => self.rest = &self.rest[read..],
            }
            text_len += written;
            count += ended;
            match result {
                ReadRecordResult::Record => break,
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty if is_last && text_len > 0 => {
                    // The line end of ours would have ended any line but one within quotes.
                    return Err(Fault::of_value(Reason::NotCsv, "a quote is not closed").at_line(number));
                }
                ReadRecordResult::InputEmpty if !self.is_ended => {}
                ReadRecordResult::InputEmpty | ReadRecordResult::OutputFull | ReadRecordResult::End => return Ok(None),
            }
        }
        // The reader takes `"a"b` as ab.
        if has_text_behind_a_quote(&begin[..begin.len() - self.rest.len()], self.delimiter) {
            return Err(Fault::of_value(Reason::NotCsv, "text behind a closing quote").at_line(number));
        }
        let text = std::str::from_utf8(&self.text[..text_len])
            .map_err(|error| Fault::of_value(Reason::NotCsv, error.to_string()))?;
        Ok(Some(Line { number, text, ends: &self.ends[..count] }))
    }
}

/// Whether anything but a delimiter or a line's end stands behind a quote that closes a cell.
fn has_text_behind_a_quote(line: &[u8], delimiter: u8) -> bool {
    if !line.contains(&b'"') {
        return false;
    }
    let ends_cell = |byte: u8| byte == delimiter || matches!(byte, b'\n' | b'\r');
    let (mut at, mut is_begin) = (0, true);
    while let Some(byte) = line.get(at) {
        at += 1;
        if *byte != b'"' || !is_begin {
            is_begin = ends_cell(*byte);
            continue;
        }
        // Within quotes two of them are one.
        loop {
            match line[at..].iter().position(|byte| *byte == b'"') {
                None => return false,
                Some(quote) => at += quote + 1,
            }
            match line.get(at) {
                Some(b'"') => at += 1,
                Some(byte) if !ends_cell(*byte) => return true,
                _ => break,
            }
        }
        is_begin = false;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn csv(header: bool, columns: &[&str]) -> Csv {
        Csv { header, delimiter: b',', columns: columns.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// Each line as JSON with its number, or why there is none.
    fn lines(csv: &Csv, text: &str) -> Result<Vec<(u64, String)>, String> {
        let mut lines = Vec::new();
        csv.lines(text.as_bytes(), |number, node| {
            lines.push((number, node.to_json()));
            Ok(())
        })
        .map_err(|fault| {
            assert_eq!(fault.reason, Reason::NotCsv);
            fault.message.into_owned()
        })?;
        Ok(lines)
    }

    #[test]
    fn cells_have_the_names_of_the_header_of_the_file_or_their_position() {
        let row = |number, json: &str| (number, json.to_owned());
        let text = "a,b\n1,\"x, \"\"y\"\"\"\n\n,z";
        let expected = Ok(vec![row(2, r#"{"a":"1","b":"x, \"y\""}"#), row(4, r#"{"a":null,"b":"z"}"#)]);
        assert_eq!(lines(&csv(true, &[]), text), expected);
        assert_eq!(lines(&csv(false, &["c", "d"]), "1,2\r\n"), Ok(vec![row(1, r#"{"c":"1","d":"2"}"#)]));
        assert_eq!(lines(&csv(false, &[]), "1;2"), Ok(vec![row(1, r#"{"0":"1;2"}"#)]));
        let semicolon = Csv { delimiter: b';', ..csv(false, &[]) };
        assert_eq!(
            lines(&semicolon, "ä;\"é\nb\"\nc;d"),
            Ok(vec![row(1, r#"{"0":"ä","1":"é\nb"}"#), row(3, r#"{"0":"c","1":"d"}"#)])
        );
    }

    #[test]
    fn what_is_no_csv_says_why_and_where() {
        assert!(lines(&csv(true, &[]), "a,b\n1,2\n3\n").unwrap_err().starts_with("line 3: 1 cells where 2"));
        assert!(lines(&csv(false, &[]), "a\nb,\"c\n").unwrap_err().starts_with("line 2: a quote is not closed"));
        assert!(lines(&csv(false, &[]), "\"").unwrap_err().contains("not closed"));
        for behind in ["a,\"x\"y\n", "a,\"x\" \n", "a,\"x\\\"y\"\n", "\n\"x\"\"\"y,1\n"] {
            assert!(lines(&csv(false, &[]), behind).unwrap_err().contains("text behind a closing quote"), "{behind}");
        }
        // A cell that does not begin with a quote has none.
        assert_eq!(lines(&csv(false, &[]), "5\" disk,\"\"").unwrap()[0].1, r#"{"0":"5\" disk","1":null}"#);
        assert!(lines(&csv(false, &[]), "\n\r\n").unwrap_err().contains("no line"));
        assert!(lines(&csv(true, &[]), "a,b\n").unwrap_err().contains("no line"));
        let mut seen = 0;
        let fault = csv(false, &[]).lines(b"a,\xff", |_, _| {
            seen += 1;
            Ok(())
        });
        assert_eq!((fault.unwrap_err().reason, seen), (Reason::NotCsv, 0));
    }

    #[test]
    fn a_line_may_have_more_cells_than_there_was_room_for() {
        let text = vec!["x"; CELLS * 5].join(",");
        assert_eq!(lines(&csv(false, &[]), &text).unwrap()[0].1.matches("\"x\"").count(), CELLS * 5);
    }

    proptest! {
        #[test]
        fn what_was_quoted_comes_back(rows in proptest::collection::vec(proptest::collection::vec("[a-c\",\n\r ä]{0,6}", 2..4), 1..6)) {
            let width = rows[0].len();
            let rows: Vec<_> = rows.into_iter().filter(|row| row.len() == width).collect();
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let text: Vec<String> = rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",")).collect();
            let mut back = Vec::new();
            csv(false, &[]).lines(text.join("\n").as_bytes(), |_, node| {
                let Node::Object(fields) = node else { panic!("{node:?}") };
                let cell = |node: &Node<'_>| match node { Node::Text(text) => text.to_string(), _ => String::new() };
                back.push(fields.iter().map(|(_, node)| cell(node)).collect::<Vec<_>>());
                Ok(())
            }).unwrap();
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn anything_ends(text in "[a\",\n\r;ä]{0,30}", header in any::<bool>()) {
            let _ = lines(&csv(header, &[]), &text);
        }
    }
}
