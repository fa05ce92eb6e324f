//! Times as devices tell them: seconds with fractions, and clocks that are wrong.

use super::call::{Call, Function, Gives, Takes};
use crate::stream::rows::MICROS;
use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use datafusion_common::Result;
use std::sync::Arc;

/// The years that RFC 3339 can write: 0001-01-01 and 10000-01-01, in seconds since 1970.
const SECONDS: std::ops::Range<f64> = -62_135_596_800.0..253_402_300_800.0;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "clock_corrected",
        takes: &[("created", Takes::Time), ("sent", Takes::Time), ("received", Takes::Time)],
        optional: 0,
        gives: Gives::Time,
        meaning: "when it happened by the server's clock: received - (sent - created). received itself if created or sent is NULL, sent lies before created, or it were before the year 1; NULL only if received is",
        examples: &[
            // The client's clock is an hour ahead; the event waited ten seconds.
            (
                "clock_corrected(timestamp '2026-01-02T04:00:00Z', timestamp '2026-01-02T04:00:10Z', timestamp '2026-01-02T03:00:11Z')",
                "2026-01-02T03:00:01Z",
            ),
            (
                "clock_corrected(epoch_to_timestamp(-62135596800), epoch_to_timestamp(253402300799), timestamp '2026-01-02T03:00:11Z')",
                "2026-01-02T03:00:11Z",
            ),
            ("clock_corrected(NULL, NULL, timestamp '2026-01-02T03:00:11Z')", "2026-01-02T03:00:11Z"),
            ("clock_corrected(timestamp '2026-01-02T04:00:00Z', timestamp '2026-01-02T04:00:10Z', NULL)", "NULL"),
        ],
        compute: corrected,
    },
    Function {
        name: "epoch_to_timestamp",
        takes: &[("seconds", Takes::Number)],
        optional: 0,
        gives: Gives::Time,
        meaning: "seconds since 1970, with fractions, to the nearest microsecond; NULL for what is no number or outside the years 1 to 9999",
        examples: &[
            ("epoch_to_timestamp(1767323045.123456)", "2026-01-02T03:04:05.123456Z"),
            ("epoch_to_timestamp(-0.5)", "1969-12-31T23:59:59.500Z"),
            ("epoch_to_timestamp(1767323045123)", "NULL"),
        ],
        compute: |call| {
            let seconds = call.numbers(0)?;
            times(call, |row| seconds.get(row).and_then(micros))
        },
    },
];

fn times(call: &Call<'_>, of: impl FnMut(usize) -> Option<i64>) -> Result<ArrayRef> {
    let array: TimestampMicrosecondArray = (0..call.rows()).map(of).collect();
    Ok(Arc::new(array.with_timezone("UTC")))
}

/// Snowplow's derived_tstamp and Segment's timestamp. A client cannot have created what it sent before: then its clocks say nothing.
fn corrected(call: &Call<'_>) -> Result<ArrayRef> {
    let (created, sent, received) = (call.times(0)?, call.times(1)?, call.times(2)?);
    times(call, |row| {
        let received = received.get(row)?;
        let age = sent.get(row).zip(created.get(row)).and_then(|(sent, created)| sent.checked_sub(created));
        let corrected = age.filter(|age| *age >= 0).and_then(|age| received.checked_sub(age));
        Some(corrected.filter(|time| MICROS.contains(time)).unwrap_or(received))
    })
}

/// Whole seconds and the fraction apart: their product with a million would lose digits that a float64 still has.
fn micros(seconds: f64) -> Option<i64> {
    if !SECONDS.contains(&seconds) {
        return None;
    }
    let whole = seconds.floor();
    Some(whole as i64 * 1_000_000 + ((seconds - whole) * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_written_as_seconds_come_back_the_same() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let wanted = random.i64(-2_000_000_000_000_000..4_000_000_000_000_000);
            let sign = if wanted < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:06}", wanted.abs() / 1_000_000, wanted.abs() % 1_000_000);
            assert_eq!(micros(text.parse().unwrap()), Some(wanted), "{text}");
        }
    }

    #[test]
    fn years_that_cannot_be_written_are_null() {
        assert_eq!(micros(SECONDS.start), Some(-62_135_596_800_000_000));
        assert_eq!((micros(SECONDS.end), micros(-62_135_596_801.0), micros(f64::NAN)), (None, None, None));
    }
}
