//! Which folder of a lake each row goes to: `dt=%Y-%m-%d/hour=%H` at the row's time.

use super::super::spec::ParquetOutput;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use chrono::format::StrftimeItems;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What Hive and DuckDB read as a NULL partition value. Rows without a time go there, and those whose time cannot be meant: before 1970,
/// or further ahead than [`AHEAD_MS_MAX`]. One wild clock must not open a file for each of its days; the row keeps its time.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
/// A time further ahead of the clock than this is not believed.
const AHEAD_MS_MAX: i64 = 24 * 60 * 60 * 1000;
const DAY_MICROS: i64 = 86_400_000_000;

/// Rows by folder.
pub(super) struct Places {
    pub(super) rows: BTreeMap<String, Vec<u32>>,
    /// Rows whose time was not believed.
    pub(super) late: u64,
}

/// Which rows belong to which folder. `times` are the records' own, in ms, for `time = "_timestamp"`.
pub(super) fn places(spec: &ParquetOutput, rows: &RecordBatch, times: &[i64], now_ms: i64) -> Places {
    let mut places = Places { rows: BTreeMap::new(), late: 0 };
    let Some(pattern) = &spec.partition else {
        places.rows.insert(String::new(), (0..rows.num_rows() as u32).collect());
        return places;
    };
    let column = spec.time.as_deref().filter(|time| *time != "_timestamp").and_then(|time| rows.column_by_name(time));
    let latest = now_ms.saturating_add(AHEAD_MS_MAX).saturating_mul(1_000);
    // Rows of a batch mostly share their hour: the last folder is made once.
    let is_coarse = pattern.split('%').skip(1).all(|after| after.starts_with(|c| "YmdHMjyFCBbhaAeGgVUWuw".contains(c)));
    let mut last: Option<(Option<i64>, String)> = None;
    for row in 0..rows.num_rows() {
        let told = match column {
            None => times.get(row).map(|ms| ms.saturating_mul(1_000)),
            Some(column) if column.is_null(row) => None,
            Some(column) => match column.as_primitive_opt::<TimestampMicrosecondType>() {
                Some(column) => Some(column.value(row)),
                None => column.as_primitive_opt::<Date32Type>().map(|days| i64::from(days.value(row)) * DAY_MICROS),
            },
        };
        let micros = told.filter(|micros| (0..=latest).contains(micros));
        places.late += u64::from(told.is_some() && micros.is_none());
        let known = micros.map(|micros| if is_coarse { micros.div_euclid(60_000_000) } else { micros });
        if last.as_ref().is_none_or(|(of, _)| *of != known) {
            last = Some((known, folder_of(pattern, micros)));
        }
        if let Some((_, folder)) = &last {
            match places.rows.get_mut(folder) {
                Some(list) => list.push(row as u32),
                None => drop(places.rows.insert(folder.clone(), vec![row as u32])),
            }
        }
    }
    places
}

/// The pattern at a time; without one, each value is Hive's null.
fn folder_of(pattern: &str, micros: Option<i64>) -> String {
    let time = micros.and_then(chrono::DateTime::from_timestamp_micros);
    let part = |part: &str| match time {
        Some(time) => cleaned(&time.format_with_items(StrftimeItems::new(part)).to_string()),
        None => match part.split_once('=') {
            Some((name, _)) => format!("{name}={NULL_PARTITION}"),
            None => NULL_PARTITION.to_owned(),
        },
    };
    pattern.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// A folder's name as Hive escapes it: what could leave the folder or break a glob stands as `%XX`.
fn cleaned(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'=' | b'.' | b'+' => out.push(byte as char),
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    match out.as_str() {
        "." | ".." | "" => out.replace('.', "%2E") + "_",
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, TimestampMicrosecondArray};
    use std::sync::Arc;

    const PATTERN: &str = "dt=%Y-%m-%d/hour=%H";
    const NOW_MS: i64 = 1_700_000_000_000;

    fn spec(pattern: &str, time: &str) -> ParquetOutput {
        let text = format!(
            "from = \"topic:t\"\nto = {{ parquet = \"x\", partition = \"{pattern}\", time = \"{time}\" }}\n[columns]\na = \"string\"\n"
        );
        match super::super::super::parse::parse(std::path::Path::new("p.toml"), &text).unwrap().routes.remove(0).to {
            super::super::super::spec::Output::Parquet(spec) => *spec,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_time_is_hives_null() {
        assert_eq!(folder_of(PATTERN, Some(1_700_000_000_000_000)), "dt=2023-11-14/hour=22");
        assert_eq!(folder_of(PATTERN, None), format!("dt={NULL_PARTITION}/hour={NULL_PARTITION}"));
    }

    #[test]
    fn times_that_cannot_be_meant_open_no_folders_of_their_own() {
        let day = 86_400_000_000;
        let now = NOW_MS * 1_000;
        let times =
            TimestampMicrosecondArray::from(vec![Some(now), None, Some(now + 2 * day), Some(-5), Some(now + 1)]);
        let rows = RecordBatch::try_from_iter([("ts", Arc::new(times.with_timezone("UTC")) as _)]).unwrap();
        let places = places(&spec(PATTERN, "ts"), &rows, &[], NOW_MS);
        assert_eq!(places.late, 2);
        assert_eq!(places.rows["dt=2023-11-14/hour=22"], [0, 4]);
        assert_eq!(places.rows[&folder_of(PATTERN, None)], [1, 2, 3]);
    }

    #[test]
    fn a_date_and_a_records_own_time_make_folders_too() {
        let rows = RecordBatch::try_from_iter([("d", Arc::new(Date32Array::from(vec![19_675])) as _)]).unwrap();
        assert_eq!(places(&spec("dt=%Y-%m-%d", "d"), &rows, &[], NOW_MS).rows.keys().next().unwrap(), "dt=2023-11-14");
        let own = places(&spec("dt=%Y-%m-%d", "_timestamp"), &rows, &[NOW_MS - 86_400_000], NOW_MS);
        assert_eq!(own.rows.keys().next().unwrap(), "dt=2023-11-13");
    }

    #[test]
    fn values_cannot_leave_the_folder() {
        assert_eq!(folder_of("day=%D", Some(1_700_000_000_000_000)), "day=11%2F14%2F23");
        assert_eq!(cleaned(".."), "%2E%2E_");
        assert_eq!(cleaned("a b*"), "a%20b%2A");
    }
}
