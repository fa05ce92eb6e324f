//! Values that the tree's plain kinds would change: those of formats that are richer than JSON keep their meaning, numbers of JSON their digits.
//! So a column loses nothing.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::borrow::Cow;

/// A value as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Exact<'a> {
    /// Microseconds since 1970, UTC.
    Micros(i64),
    /// Days since 1970.
    Days(i32),
    /// `digits` with so many of them behind the point.
    Decimal {
        digits: i128,
        scale: u8,
    },
    Bytes(Cow<'a, [u8]>),
    /// A number of JSON that is no whole one of 64 bits, as it is written: `1.50`, `1e400`, `-0`; or a decimal of more than 128 bits.
    Number(Cow<'a, str>),
}

impl Exact<'_> {
    /// As text: times as RFC 3339, bytes in base64.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Exact::Micros(micros) => match chrono::DateTime::from_timestamp_micros(*micros) {
                Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
                None => micros.to_string(),
            },
            Exact::Days(days) => {
                match chrono::NaiveDate::default().checked_add_signed(chrono::TimeDelta::days(i64::from(*days))) {
                    Some(date) => date.to_string(),
                    None => days.to_string(),
                }
            }
            Exact::Decimal { digits, scale } => with_point(&digits.to_string(), *scale),
            Exact::Bytes(bytes) => STANDARD.encode(bytes),
            Exact::Number(text) => text.to_string(),
        }
    }

    /// Whether JSON writes its text as a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Exact::Decimal { .. } | Exact::Number(_))
    }
}

/// The text of a decimal of these digits, `scale` of them behind the point.
pub(crate) fn with_point(digits: &str, scale: u8) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let scale = usize::from(scale);
    let all = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = all.split_at(all.len() - scale);
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_text() {
        let decimal = |digits, scale| Exact::Decimal { digits, scale }.to_text();
        assert_eq!([decimal(-5, 2), decimal(1_234, 2), decimal(7, 0), decimal(0, 1)], ["-0.05", "12.34", "7", "0.0"]);
        assert_eq!(decimal(i128::MIN, 38), "-1.70141183460469231731687303715884105728");
        assert_eq!(Exact::Micros(1_500_000).to_text(), "1970-01-01T00:00:01.500Z");
        assert_eq!(Exact::Micros(i64::MAX).to_text(), i64::MAX.to_string());
        assert_eq!(
            (Exact::Days(-1).to_text(), Exact::Days(i32::MAX).to_text()),
            ("1969-12-31".to_owned(), i32::MAX.to_string())
        );
        assert_eq!(Exact::Bytes(Cow::Borrowed(b"\xff\0")).to_text(), "/wA=");
    }
}
