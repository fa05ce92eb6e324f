//! Rows as text: one JSON object a line. Topics, recorded runs, tests, taps and dead letters of rows that time lets go all say rows so.

use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::record_batch::RecordBatch;
use std::ops::Range;

/// JSON objects with a line end behind each; every column is named, null too. Times are RFC 3339, binary is hex.
pub(in crate::stream) struct JsonLines {
    pub(in crate::stream) text: Vec<u8>,
    /// By row, of `text`, without the line end.
    pub(in crate::stream) places: Vec<Range<usize>>,
}

impl JsonLines {
    /// # Errors
    /// A column has no JSON form, which no type of ours lacks.
    pub(in crate::stream) fn of(rows: &RecordBatch) -> Result<JsonLines, ArrowError> {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(rows)?;
        writer.finish()?;
        let text = writer.into_inner();
        let mut places = Vec::with_capacity(rows.num_rows());
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', &text) {
            places.push(from..end);
            from = end + 1;
        }
        match places.len() == rows.num_rows() {
            true => Ok(JsonLines { text, places }),
            false => Err(ArrowError::JsonError("rows without a JSON form".to_owned())),
        }
    }

    pub(in crate::stream) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| &self.text[place.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BinaryArray, StringArray};
    use std::sync::Arc;

    #[test]
    fn a_row_is_a_line_that_names_null_and_holds_no_line_end_of_its_text() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a\nb"), None]));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), Some(b"")]));
        let rows = RecordBatch::try_from_iter_with_nullable([("t", text, true), ("b", bytes, true)]).unwrap();
        let lines = JsonLines::of(&rows).unwrap();
        let lines: Vec<&str> = lines.iter().map(|line| std::str::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, [r#"{"t":"a\nb","b":"ff"}"#, r#"{"t":null,"b":""}"#]);
        assert!(JsonLines::of(&rows.slice(0, 0)).unwrap().text.is_empty());
    }
}
