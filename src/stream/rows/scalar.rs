//! Numbers, times and texts of one column: what a JSON scalar or a header's text is in its kind, or why it is none.

use super::super::fault::Reason;
use super::super::spec::{Kind, Unit};
use crate::json::Number as Digits;
use crate::json::{Exact, Node, unusual};
use std::borrow::Cow;
use std::ops::Range;

/// Years 1 to 9999, what every reader of Parquet can show: microseconds since 1970.
pub(in crate::stream) const MICROS: Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
/// The same in days.
pub(in crate::stream) const DAYS: Range<i32> = -719_162..2_932_897;

/// Why a value is not of its column's type.
pub(super) type Wrong = (Reason, String);

/// The number that an array of this kind stores: an integer, days, microseconds, a scaled decimal; floats as their bits' owner.
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

pub(super) fn number_of(kind: &Kind, node: &Node<'_>) -> Result<Number, Wrong> {
    let (int, float) = match node {
        Node::Int(value) => (Some(i128::from(*value)), *value as f64),
        Node::Uint(value) => (Some(i128::from(*value)), *value as f64),
        // Numbers that are none, which other formats have, are only floats.
        Node::Float(value) if value.is_finite() || *kind == Kind::Float64 => (None, *value),
        Node::Exact(Exact::Number(text)) => match kind {
            Kind::Decimal(precision, scale) => {
                let value = decimal(text, *precision, *scale).map_err(|_| overflow(kind, node))?;
                return Ok(Number::Int(value));
            }
            // Whole as it is written, also beyond what a float holds exactly: `1.7e18`.
            Kind::Int32 | Kind::Int64 | Kind::Uint64 => match decimal(text, 20, 0) {
                Ok(value) => (Some(value), 0.0),
                // A float would not tell some of them from whole numbers.
                Err(_) if text.parse().is_ok_and(f64::is_finite) => return Err(wrong_type(kind, node)),
                Err(_) => return Err(overflow(kind, node)),
            },
            _ => (None, text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| overflow(kind, node))?),
        },
        Node::Exact(exact) => return exact_number(kind, exact, node),
        other => return Err(wrong_type(kind, other)),
    };
    let whole = || int.or((float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i128));
    let overflow = || overflow(kind, node);
    let within = |low: i128, high: i128| {
        let value = whole().ok_or_else(|| wrong_type(kind, node))?;
        if (low..=high).contains(&value) { Ok(Number::Int(value)) } else { Err(overflow()) }
    };
    match kind {
        Kind::Int32 => within(i32::MIN.into(), i32::MAX.into()),
        Kind::Int64 => within(i64::MIN.into(), i64::MAX.into()),
        Kind::Uint64 => within(0, u64::MAX.into()),
        // Of those that are no number only the sign differs, and only some readers look at it.
        Kind::Float64 => Ok(Number::Float(if float.is_nan() { f64::NAN } else { float })),
        Kind::Decimal(precision, scale) => {
            decimal(&int.map_or_else(|| float.to_string(), |int| int.to_string()), *precision, *scale)
                .map(Number::Int)
                .map_err(|_| overflow())
        }
        Kind::EpochTimestamp(unit) => epoch_micros(int, float, *unit)
            .map(Number::Int)
            .ok_or_else(|| (Reason::TimeOutOfRange, format!("{} is no time that can be written", shown(node)))),
        _ => Err(wrong_type(kind, node)),
    }
}

fn overflow(kind: &Kind, node: &Node<'_>) -> Wrong {
    (Reason::Overflow, format!("{} does not fit into {}", shown(node), name(kind)))
}

fn exact_number(kind: &Kind, exact: &Exact<'_>, node: &Node<'_>) -> Result<Number, Wrong> {
    let overflow = || overflow(kind, node);
    match (kind, exact) {
        (Kind::Timestamp | Kind::EpochTimestamp(_), Exact::Micros(micros)) => {
            epoch_micros(Some(i128::from(*micros)), 0.0, Unit::Micros)
                .map(Number::Int)
                .ok_or_else(|| (Reason::TimeOutOfRange, format!("{} is no time that can be written", shown(node))))
        }
        (Kind::Date, Exact::Days(days)) => Ok(Number::Int(i128::from(*days))),
        (Kind::Decimal(precision, wanted), Exact::Decimal { digits, scale }) => {
            let value = rescaled(*digits, *scale, *wanted as u8).ok_or_else(overflow)?;
            let fits = value.unsigned_abs() < 10u128.pow(u32::from(*precision));
            if fits { Ok(Number::Int(value)) } else { Err(overflow()) }
        }
        (Kind::Float64, Exact::Decimal { .. }) => {
            exact.to_text().parse().map(Number::Float).map_err(|_| wrong_type(kind, node))
        }
        (Kind::Int32 | Kind::Int64 | Kind::Uint64, Exact::Decimal { digits, scale }) => {
            let whole = rescaled(*digits, *scale, 0).ok_or_else(|| wrong_type(kind, node))?;
            match (i64::try_from(whole), u64::try_from(whole)) {
                (Ok(whole), _) => number_of(kind, &Node::Int(whole)),
                (_, Ok(whole)) => number_of(kind, &Node::Uint(whole)),
                _ => Err(overflow()),
            }
        }
        _ => Err(wrong_type(kind, node)),
    }
}

/// The same decimal with other places; `None` if it needs more of them, or more digits than there are.
fn rescaled(digits: i128, from: u8, to: u8) -> Option<i128> {
    let factor = 10i128.checked_pow(u32::from(from.abs_diff(to)))?;
    match to >= from {
        true => digits.checked_mul(factor),
        false => (digits % factor == 0).then_some(digits / factor),
    }
}

pub(super) fn text_number(kind: &Kind, text: &str) -> Result<Number, Wrong> {
    let not = || (Reason::WrongType, format!("\"{}\" is no {}", short(text), name(kind)));
    match kind {
        Kind::Timestamp => {
            if let Some(micros) = plain_rfc3339(text.as_bytes()) {
                return written(micros.into(), text);
            }
            let time = chrono::DateTime::parse_from_rfc3339(text.trim()).map_err(|_| not())?;
            written(time.timestamp_micros().into(), text)
        }
        Kind::Date => {
            // Of a time it is the day that is written there.
            let (day, rest) = text.split_at_checked(10).unwrap_or((text, ""));
            let is_day = day.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
            if day.starts_with('+') || !(rest.is_empty() || is_day && rest.starts_with(['T', 't', ' '])) {
                return Err(not());
            }
            let date = chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").map_err(|_| not())?;
            let days = date.signed_duration_since(chrono::NaiveDate::default()).num_days();
            let is_written = i32::try_from(days).is_ok_and(|days| DAYS.contains(&days));
            if is_written { Ok(Number::Int(days.into())) } else { Err(unwritten(text)) }
        }
        Kind::Decimal(precision, scale) => match decimal(text.trim(), *precision, *scale) {
            Ok(value) => Ok(Number::Int(value)),
            Err(Reason::Overflow) => {
                Err((Reason::Overflow, format!("{} does not fit into {}", short(text), name(kind))))
            }
            Err(_) => Err(not()),
        },
        _ => match Node::parse(plain_number(text.trim()).as_bytes()) {
            Ok(node @ (Node::Int(_) | Node::Uint(_) | Node::Exact(_))) => number_of(kind, &node),
            _ => Err(not()),
        },
    }
}

/// A time, if it can be written.
fn written(micros: i128, text: &str) -> Result<Number, Wrong> {
    let micros = epoch_micros(Some(micros), 0.0, Unit::Micros).ok_or_else(|| unwritten(text))?;
    Ok(Number::Int(micros))
}

fn unwritten(text: &str) -> Wrong {
    (Reason::TimeOutOfRange, format!("\"{}\" is no time that can be written", short(text)))
}

pub(super) fn epoch_micros(int: Option<i128>, float: f64, unit: Unit) -> Option<i128> {
    let factor = match unit {
        Unit::Seconds => 1_000_000,
        Unit::Millis => 1_000,
        Unit::Micros => 1,
    };
    let micros = match int {
        Some(int) => int.checked_mul(factor)?,
        // Apart: a product of all digits would be rounded before it is rounded.
        None => {
            let part = (float.fract() * factor as f64).round() as i128;
            (float.trunc() as i128).checked_mul(factor)?.checked_add(part)?
        }
    };
    (i128::from(MICROS.start)..i128::from(MICROS.end)).contains(&micros).then_some(micros)
}

/// As JSON writes it: without `+` and zeros before it, and with a digit before the point.
fn plain_number(text: &str) -> Cow<'_, str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return format!("{sign}0{digits}").into();
    }
    let rest = digits.trim_start_matches('0');
    let zeros = if rest.starts_with(|c: char| c.is_ascii_digit()) { 0 } else { 1 };
    // Without a digit it is no number.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return text.into();
    }
    let plain = &digits[digits.len() - rest.len() - zeros..];
    match sign {
        "-" if plain.len() < digits.len() => format!("-{plain}").into(),
        "-" => text.into(),
        _ => plain.into(),
    }
}

/// A decimal text, with an exponent or without, as an integer of `scale` places.
///
/// # Errors
/// [`Reason::Overflow`] if it needs more digits or places, [`Reason::WrongType`] if it is no number.
fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, Reason> {
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent).ok_or(Reason::WrongType)?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if (whole.is_empty() && fraction.is_empty())
        || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
    {
        return Err(Reason::WrongType);
    }
    let all = format!("{whole}{fraction}");
    let digits = all.trim_end_matches('0');
    // Zeros that stand behind the digits, once the point is where the scale has it.
    let zeros = i64::from(scale) + i64::from(exponent) - fraction.len() as i64 + (all.len() - digits.len()) as i64;
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let factor = u32::try_from(zeros).ok().and_then(|zeros| 10i128.checked_pow(zeros));
    let value = digits.parse::<i128>().ok().zip(factor).and_then(|(value, factor)| value.checked_mul(factor));
    let value = value.filter(|value| 10i128.checked_pow(precision.into()).is_some_and(|end| *value < end));
    value.map(|value| sign * value).ok_or(Reason::Overflow)
}

/// An exponent; what is beyond all numbers is as far as that goes. `None` if it is none.
fn exponent_of(text: &str) -> Option<i32> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().unwrap_or(i32::MAX);
    Some(if is_negative { -value } else { value })
}

/// What a cell of CSV or a header says. Those who write CSV leave out of times where they are from: it is UTC then.
pub(super) fn cell_number(kind: &Kind, text: &str) -> Result<Number, Wrong> {
    let number = text_number(kind, text);
    match kind {
        Kind::Timestamp => number.or_else(|wrong| local_micros(text.trim()).map(Number::Int).ok_or(wrong)),
        _ => number,
    }
}

/// `2026-01-02 03:04:05.678`, as if it were UTC.
fn local_micros(text: &str) -> Option<i128> {
    let mut time = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"].into_iter();
    let time = time.find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok())?;
    epoch_micros(Some(time.and_utc().timestamp_micros().into()), 0.0, Unit::Micros)
}

/// What a cell of CSV or a header says; writers differ in how they write it.
pub(super) fn cell_bool(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

pub(super) fn text_of<'n>(kind: &Kind, node: &'n Node<'_>) -> Result<Cow<'n, str>, Wrong> {
    match (kind, node) {
        (Kind::Json, node) => Ok(node.to_json().into()),
        (_, Node::Text(text)) => Ok(Cow::Borrowed(text.as_ref())),
        (Kind::String, Node::Exact(Exact::Bytes(bytes))) => {
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| wrong_type(kind, node))
        }
        (Kind::String, Node::Exact(exact)) => Ok(exact.to_text().into()),
        (Kind::String, Node::Float(float)) if !float.is_finite() => Ok(unusual(*float).into()),
        (Kind::String, Node::List(_) | Node::Object(_)) | (Kind::Binary, _) => Err(wrong_type(kind, node)),
        (_, scalar) => Ok(scalar.to_json().into()),
    }
}

pub(super) fn wrong_type(kind: &Kind, node: &Node<'_>) -> Wrong {
    let is_number = |text: &str| digits_of(kind) && text_number(kind, text).is_ok();
    let hint = match node {
        Node::Text(text) if is_number(text) => "; coerce = true reads it",
        _ => "",
    };
    (Reason::WrongType, format!("{} is no {}{hint}", shown(node), name(kind)))
}

/// Whether it is written in digits.
fn digits_of(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Int32 | Kind::Int64 | Kind::Uint64 | Kind::Float64 | Kind::Decimal(..) | Kind::EpochTimestamp(_)
    )
}

fn name(kind: &Kind) -> String {
    match kind {
        Kind::EpochTimestamp(_) => "number of time units".to_owned(),
        Kind::Struct(_) => "object".to_owned(),
        Kind::List(_) => "list".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn shown(node: &Node<'_>) -> String {
    short(&node.to_json()).to_owned()
}

/// The beginning of a text, for messages.
pub(super) fn short(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(at, _)| &text[..at])
}

/// A decimal from digits that a float shows as they stand, without the way through its text; `None` = go that way.
pub(super) fn plain_decimal(digits: &Digits<'_>, precision: u8, scale: i8) -> Option<i128> {
    let is_plain = digits.int().is_some() || digits.float().is_some();
    let missing = (scale as usize).checked_sub(digits.places).filter(|_| is_plain)?;
    let value = i128::from(digits.mantissa).checked_mul(10i128.checked_pow(missing as u32)?)?;
    let fits = value < 10i128.checked_pow(precision.into())?;
    fits.then_some(if digits.is_negative() { -value } else { value })
}

/// Microseconds since 1970 of `2026-01-02T03:04:05.678Z` and the like; `None` = not in that form, chrono may still read it.
pub(super) fn plain_rfc3339(text: &[u8]) -> Option<i64> {
    let (fixed, mut rest) = text.split_first_chunk::<19>()?;
    let marks = [fixed[4], fixed[7], fixed[10], fixed[13], fixed[16]];
    if marks != *b"--T::" {
        return None;
    }
    let two = |at: usize| number_at(fixed, at, 2);
    let (year, month, day) = (number_at(fixed, 0, 4)?, two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    if !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let places = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&places) {
            return None;
        }
        for place in 0..6 {
            micros =
                micros * 10 + fraction.get(place).filter(|_| place < places).map_or(0, |digit| i64::from(digit - b'0'));
        }
        rest = &fraction[places..];
    }
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), zone @ ..] if zone.len() == 5 && zone[2] == b':' => {
            let (hours, minutes) = (number_at(zone, 0, 2)?, number_at(zone, 3, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset * 60;
    Some(seconds * 1_000_000 + micros)
}

fn number_at(text: &[u8], at: usize, count: usize) -> Option<i64> {
    text.get(at..at + count)?
        .iter()
        .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March (Howard Hinnant, chrono-compatible date algorithms).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
