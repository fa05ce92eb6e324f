//! Records that are not one JSON object: of several lines, each of them a row, and of trees that another format makes. A record gives all
//! of its rows or none: one bad line takes the others back.

use super::super::fault::{Fault, Reason};
use super::super::format::{Format, Unread};
use super::super::spec::{From, RecordField};
use super::pass::Pass;
use super::{Decoder, ROWS_BYTES_MAX};
use crate::record::RecordRef;

/// What the rows of one record may come to, with the headers that each of them repeats: columns hold 2 GiB at most.
const WEIGHT_MAX: usize = 16 * ROWS_BYTES_MAX;
/// What a row takes in a column, roughly, when there is nothing in it.
const CELL_SIZE: usize = 8;

impl Decoder {
    /// What a record's rows come to in bytes, roughly and never too little by much: its value, and for each line what the row repeats.
    pub(in crate::stream) fn weight(&self, record: &RecordRef<'_>) -> usize {
        let value = record.value.unwrap_or_default();
        if !self.format.has_lines() {
            return value.len();
        }
        let repeated = self.columns.iter().map(|column| match &column.from {
            From::Header(name) => record.headers.last(name.as_bytes()).flatten().map_or(0, <[u8]>::len),
            From::Record(RecordField::Key) => record.key.map_or(0, <[u8]>::len),
            From::Record(RecordField::Value) => value.len(),
            From::Record(RecordField::Headers) => {
                record.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum()
            }
            _ => 0,
        } + CELL_SIZE);
        let row: usize = repeated.sum();
        let lines = memchr::memchr_iter(b'\n', value).count() + 1;
        row.saturating_mul(lines).saturating_add(value.len())
    }

    /// Adds the rows of a record. After an error there are none of it.
    pub(super) fn add(&self, pass: &mut Pass<'_>, record: &RecordRef<'_>) -> Result<(), Unread> {
        let before = pass.rows();
        let added = match (&self.format, record.value) {
            (Format::Json | Format::Raw, _) | (_, None) => return Ok(pass.record(record)?),
            (_, Some(_)) if self.weight(record) > WEIGHT_MAX => Err(Fault::of_value(
                Reason::TooLarge,
                "its lines, each with what it repeats of the record, are too much",
            )),
            (Format::Ndjson, Some(value)) => json_lines(pass, record, value),
            (Format::Binary(_), _) if !self.needs_value => return Ok(pass.record(record)?),
            (Format::Binary(binary), Some(value)) => return binary.read(value, |node| pass.tree(record, node)),
            (Format::Csv(csv), Some(value)) => csv.lines(value, |_, node| pass.tree(record, node)),
        };
        if added.is_err() {
            pass.take_back(before);
        }
        Ok(added?)
    }
}

/// Lines that are empty are passed over, as at the HTTP door.
fn json_lines(pass: &mut Pass<'_>, record: &RecordRef<'_>, value: &[u8]) -> Result<(), Fault> {
    let before = pass.rows();
    for (number, line) in (1..).zip(value.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if !line.is_empty() {
            pass.text(record, Some(line)).map_err(|fault| fault.at_line(number))?;
        }
    }
    if pass.rows() > before { Ok(()) } else { Err(Fault::of_value(Reason::NotJson, "it has no line")) }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Decoder};
    use super::*;
    use crate::record::{Offset, Record};
    use crate::stream::parse::parse;
    use crate::stream::plan::Plan;
    use arrow::json::LineDelimitedWriter;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::path::Path;

    fn decoder(top: &str, columns: &str) -> Decoder {
        let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\n{top}\n[columns]\n{columns}");
        let spec = parse(Path::new("p.toml"), &text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let plan = Plan::of(&spec).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        Decoder::new(&spec.format, plan.columns().to_vec(), plan.input().clone())
    }

    fn record(value: &[u8]) -> Record {
        Record {
            offset: Offset(7),
            timestamp: 0,
            key: None,
            value: Some(Bytes::copy_from_slice(value)),
            headers: vec![(Bytes::from("h"), Some(Bytes::from("41")))],
        }
    }

    fn decode(top: &str, columns: &str, values: &[&str]) -> Decoded {
        let records: Vec<Record> = values.iter().map(|value| record(value.as_bytes())).collect();
        decoder(top, columns).decode(0, &records)
    }

    fn rows(decoded: &Decoded) -> String {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&decoded.rows).unwrap();
        writer.finish().unwrap();
        String::from_utf8(writer.into_inner()).unwrap().trim_end().replace('\n', " ")
    }

    const NDJSON: &str = "format = \"ndjson\"";
    const CSV: &str = "format = { csv = { header = true } }";

    #[test]
    fn each_line_is_a_row_and_a_bad_one_makes_the_whole_record_bad() {
        let columns = "n = \"int64\"\nh = { header = \"h\", type = \"int32\" }";
        let values = ["{\"n\":1}\n\n {\"n\":2}\r\n", "{\"n\":3}\n{\"n\":\"x\"}\n", "{\"n\":4}", "\n"];
        let decoded = decode(NDJSON, columns, &values);
        assert_eq!(decoded.sources, [0, 0, 2]);
        assert_eq!(rows(&decoded), r#"{"n":1,"h":41} {"n":2,"h":41} {"n":4,"h":41}"#);
        let faults: Vec<_> = decoded.faults.iter().map(|(at, fault)| (*at, fault.reason, &*fault.message)).collect();
        assert_eq!(faults[0], (1, Reason::WrongType, "line 2: \"x\" is no int64"));
        assert_eq!(faults[1], (3, Reason::NotJson, "it has no line"));
        assert_eq!(decoded.faults[0].1.column.as_deref(), Some("n"));
    }

    #[test]
    fn how_many_rows_a_record_has_does_not_depend_on_what_is_selected() {
        let decoded =
            decode(&format!("{NDJSON}\nselect = \"_offset\""), "n = \"int64\"", &["{\"n\":1}\n{\"n\":2}", "x"]);
        assert_eq!((decoded.sources, decoded.faults.len()), (vec![0, 0], 1));
    }

    #[test]
    fn cells_of_csv_are_read_as_their_columns_ask() {
        let columns = "n = \"int64\"\nb = \"bool\"\nd = \"decimal(6,2)\"\nt = \"timestamp\"\nday = \"date\"\ne = \"timestamp(ms)\"\ns = { path = \"/text\", type = \"string\" }\nrest = \"json\"";
        let text =
            "n,b,d,t,day,e,text,more\n-7,true,12.5,2026-01-02T03:04:05Z,2026-01-02,1500,007,\"x, y\"\n,,,,,,z,\n";
        let decoded = decode(CSV, columns, &[text]);
        assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
        assert_eq!(
            rows(&decoded),
            r#"{"n":-7,"b":true,"d":12.50,"t":"2026-01-02T03:04:05Z","day":"2026-01-02","e":"1970-01-01T00:00:01.500Z","s":"007","rest":"{\"more\":\"x, y\"}"} {"s":"z","rest":"{\"more\":null}"}"#
        );
        let as_others_write =
            "n,b,d,t\n+0021,TRUE,1.25e2,2026-01-02 03:04:05.5\n-007,False,+00.50,2026-01-02T03:04:05\n1,true,-.5,\n";
        assert_eq!(
            rows(&decode(
                CSV,
                "n = \"int64\"\nb = \"bool\"\nd = \"decimal(6,2)\"\nt = \"timestamp\"",
                &[as_others_write]
            )),
            r#"{"n":21,"b":true,"d":125.00,"t":"2026-01-02T03:04:05.500Z"} {"n":-7,"b":false,"d":0.50,"t":"2026-01-02T03:04:05Z"} {"n":1,"b":true,"d":-0.50}"#
        );
        assert_eq!(
            rows(&decode(CSV, "f = \"float64\"\ng = \"float64\"", &["f,g\n.5,-.25\n"])),
            r#"{"f":0.5,"g":-0.25}"#
        );
        let decimals =
            ["12345.6", "1.255", "1e9", "12345678901234567890123456789012345678901", "1,5", "", "-", "1e", "e5"];
        let reason = |text: &&str| {
            let cell = text.replace(',', ";");
            decode(CSV, "d = \"decimal(6,2)\"\nx = \"string\"", &[&format!("d,x\n{cell},y\n")])
                .faults
                .first()
                .map(|(_, fault)| fault.reason)
        };
        let (over, wrong) = (Some(Reason::Overflow), Some(Reason::WrongType));
        assert_eq!(
            decimals.iter().map(reason).collect::<Vec<_>>(),
            [over, over, over, over, wrong, None, wrong, wrong, wrong]
        );
        let wrong = decode(CSV, "n = \"int64\"", &["n\n1\nx\n", "m\n1\n", "n,n\n1,2\n", "n\n1,2\n"]);
        let faults: Vec<_> =
            wrong.faults.iter().map(|(_, fault)| (fault.reason, fault.message[..7].to_owned())).collect();
        let line = "line 2:".to_owned();
        let expected = [
            (Reason::WrongType, "line 3:".to_owned()),
            (Reason::NoColumns, line.clone()),
            (Reason::DuplicateField, line.clone()),
            (Reason::NotCsv, line),
        ];
        assert_eq!((faults, wrong.rows.num_rows()), (expected.to_vec(), 0));
        assert!(wrong.faults[1].1.message.ends_with("that are read: n; it has m"), "{:?}", wrong.faults[1]);
    }

    #[test]
    fn a_raw_value_is_taken_whole() {
        let decoder = decoder("format = \"raw\"\nselect = \"_value, h\"", "h = { header = \"h\", type = \"int32\" }");
        let decoded = decoder.decode(0, &[record(b"\xff\x00{")]);
        assert_eq!(rows(&decoded), r#"{"h":41,"_value":"ff007b"}"#);
    }

    #[test]
    fn a_tombstone_is_no_line() {
        let mut tombstone = record(b"");
        tombstone.value = None;
        let decoded = decoder(NDJSON, "n = \"int64\"").decode(0, std::slice::from_ref(&tombstone));
        assert_eq!(decoded.faults[0].1.reason, Reason::NoColumns);
        let by_header =
            decoder(NDJSON, "n = \"int64\"\nh = { header = \"h\", type = \"int32\" }").decode(0, &[tombstone]);
        assert_eq!(by_header.sources, [0]);
    }

    #[test]
    fn lines_that_repeat_a_large_header_are_counted_with_it() {
        let decoder = decoder(NDJSON, "n = \"int64\"\nh = { header = \"h\", type = \"string\" }");
        let mut large = record("{\"n\":1}\n".repeat(1_000).as_bytes());
        large.headers[0].1 = Some(Bytes::from(vec![b'x'; 1 << 20]));
        assert!(decoder.weight(&large.by_ref()) > 1_000 << 20);
        let decoded = decoder.decode(0, &[large, record(b"{\"n\":1}")]);
        assert_eq!((decoded.sources, decoded.faults[0].1.reason), (vec![1], Reason::TooLarge));
    }

    proptest! {
        #[test]
        fn lines_are_what_records_of_one_line_are(lines in proptest::collection::vec("(\\{\"n\":[0-9]{1,2}\\}|\\{\"n\":\"x\"\\}|\\{)", 1..6)) {
            let columns = "n = \"int64\"\nh = { header = \"h\", type = \"int32\" }";
            let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
            let alone = decode("", columns, &texts);
            let together = decode(NDJSON, columns, &[&lines.join("\n")]);
            match alone.faults.first() {
                None => prop_assert_eq!(alone.rows, together.rows),
                Some((at, fault)) => {
                    prop_assert_eq!(together.rows.num_rows(), 0);
                    prop_assert_eq!(&together.faults, &vec![(0, fault.clone().at_line(u64::from(*at) + 1))]);
                }
            }
        }
    }
}
