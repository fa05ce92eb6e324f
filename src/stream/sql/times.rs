//! Times in SQL are moments, in microseconds, as columns are. By themselves literals, casts and `to_timestamp` would be in nanoseconds: what is
//! between two times, or one cast to a number, would be a thousand times as much by how a time was written, and no year behind 2262 was known.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result as SqlResult, ScalarValue, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::ContextProvider;
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, TryCast, lit};

/// The expression before its types are settled, with all times in microseconds.
///
/// # Errors
/// `to_timestamp` of a float: it cuts digits, and invents a time where it cannot hold it. A part of what is between two times that is not all
/// of it.
pub(super) fn in_micros(expr: Expr, schema: &DFSchema, context: &impl ContextProvider) -> SqlResult<Expr> {
    let settled = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Cast(cast) => match micros_of(cast.field.data_type()) {
                Some(micros) => Transformed::yes(to_micros(cast.expr, micros, schema)),
                None => Transformed::no(Expr::Cast(cast)),
            },
            Expr::TryCast(cast) => match micros_of(cast.field.data_type()) {
                Some(micros) => Transformed::yes(Expr::TryCast(TryCast::new(cast.expr, micros))),
                None => Transformed::no(Expr::TryCast(cast)),
            },
            Expr::ScalarFunction(call) if call.func.name() == "to_timestamp" && !call.args.is_empty() => {
                Transformed::yes(to_timestamp(call, schema, context)?)
            }
            Expr::ScalarFunction(call) if call.func.name() == "date_part" && call.args.len() == 2 => {
                part_between(call, schema)?
            }
            Expr::ScalarFunction(call) if call.func.name() != "arrow_cast" => {
                in_micros_of(of_texts(call, schema), schema)
            }
            Expr::BinaryExpr(two) => Transformed::yes(Expr::BinaryExpr(beside(two, schema)?)),
            Expr::Between(between) => {
                let Between { expr, negated, low, high } = between;
                let of = expr.get_type(schema).ok();
                let (low, high) = (length(*low, of.as_ref(), schema)?, length(*high, of.as_ref(), schema)?);
                Transformed::yes(Expr::Between(Between::new(expr, negated, Box::new(low), Box::new(high))))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(settled.data)
}

/// A text where a function takes a time would be one in nanoseconds.
fn of_texts(mut call: ScalarFunction, schema: &DFSchema) -> ScalarFunction {
    let place = match call.func.name() {
        "date_trunc" | "date_bin" => 1,
        "to_char" => 0,
        _ => return call,
    };
    if call.args.get(place).and_then(|arg| arg.get_type(schema).ok()).is_some_and(|kind| kind.is_string()) {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        call.args[place] = Expr::Cast(Cast::new(Box::new(call.args[place].clone()), micros));
    }
    call
}

/// Some functions give seconds, milliseconds or nanoseconds: what is added to them would be cut to that.
fn in_micros_of(call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let call = Expr::ScalarFunction(call);
    match call.get_type(schema) {
        Ok(DataType::Timestamp(unit, zone)) if unit != TimeUnit::Microsecond => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone);
            Transformed::yes(Expr::Cast(Cast::new(Box::new(call), micros)))
        }
        _ => Transformed::yes(call),
    }
}

/// A date beside a time is its midnight; an interval beside what is between two times is as long as it says.
fn beside(mut two: BinaryExpr, schema: &DFSchema) -> SqlResult<BinaryExpr> {
    let [left, right] = [&two.left, &two.right].map(|side| side.get_type(schema).ok());
    let midnight = |date: Box<Expr>| {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        Box::new(Expr::Cast(Cast::new(date, micros)))
    };
    match (&left, &right) {
        (Some(DataType::Timestamp(..)), Some(DataType::Date32)) => two.right = midnight(two.right),
        (Some(DataType::Date32), Some(DataType::Timestamp(..))) => two.left = midnight(two.left),
        _ if two.op.supports_propagation() => {
            two.left = Box::new(length(*two.left, right.as_ref(), schema)?);
            two.right = Box::new(length(*two.right, left.as_ref(), schema)?);
        }
        _ => {}
    }
    Ok(two)
}

/// An interval that is compared with what is between two times. By itself its days would be compared with days, of which that has none.
///
/// # Errors
/// It has months, or is no constant.
fn length(interval: Expr, with: Option<&DataType>, schema: &DFSchema) -> SqlResult<Expr> {
    if !matches!(with, Some(DataType::Duration(_))) || !matches!(interval.get_type(schema), Ok(DataType::Interval(_))) {
        return Ok(interval);
    }
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(said)), _) = &interval else {
        return plan_err!(
            "what is between two times is compared with an interval that is written out, as interval '36 hours'; or write b > a + {interval}"
        );
    };
    let IntervalMonthDayNano { months, days, nanoseconds } = said;
    if *months != 0 {
        return plan_err!(
            "months are not all of one length, what is between two times has one; write days, or b > a + {interval}"
        );
    }
    let micros = i64::from(*days) * 86_400_000_000 + nanoseconds / 1_000;
    Ok(lit(ScalarValue::DurationMicrosecond(Some(micros))))
}

/// A cast to a time. Of a zone's clock (`at time zone`) it is the same moment, but for a text that is read right there: that is what this
/// clock showed.
fn to_micros(of: Box<Expr>, micros: DataType, schema: &DFSchema) -> Expr {
    let is_plain = |kind: &DataType| matches!(kind, DataType::Timestamp(_, None));
    let is_text = |expr: &Expr| match expr {
        Expr::Cast(cast) => cast.expr.get_type(schema).is_ok_and(|kind| kind.is_string()),
        Expr::TryCast(cast) => cast.expr.get_type(schema).is_ok_and(|kind| kind.is_string()),
        _ => false,
    };
    let is_zoned = matches!(micros, DataType::Timestamp(_, Some(_)));
    if is_zoned && of.get_type(schema).is_ok_and(|kind| is_plain(&kind)) && !is_text(&of) {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        return Expr::Cast(Cast::new(Box::new(Expr::Cast(Cast::new(of, moment))), micros));
    }
    Expr::Cast(Cast::new(of, micros))
}

/// All of what is between two times in seconds: by itself it loses the fraction from 2.147 s on, and all from 68 years on.
fn part_between(call: ScalarFunction, schema: &DFSchema) -> SqlResult<Transformed<Expr>> {
    let between = &call.args[1];
    if !matches!(between.get_type(schema), Ok(DataType::Duration(_))) {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    }
    let part = call.args[0].as_literal().and_then(|part| part.try_as_str()).flatten().unwrap_or_default();
    if !part.eq_ignore_ascii_case("epoch") {
        return plan_err!(
            "{part} of what is between two times is no part of a date; write extract(epoch from {between}) for seconds, or cast({between} as bigint) for microseconds"
        );
    }
    let micros = Expr::Cast(Cast::new(Box::new(between.clone()), DataType::Duration(TimeUnit::Microsecond)));
    let whole = Expr::Cast(Cast::new(Box::new(micros), DataType::Int64));
    let seconds = Expr::Cast(Cast::new(Box::new(whole), DataType::Float64)) / lit(1_000_000.0);
    Ok(Transformed::yes(seconds))
}

/// A time in nanoseconds in microseconds.
fn micros_of(kind: &DataType) -> Option<DataType> {
    match kind {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        _ => None,
    }
}

/// Numbers are seconds, texts are times.
fn to_timestamp(call: ScalarFunction, schema: &DFSchema, context: &impl ContextProvider) -> SqlResult<Expr> {
    let kind = call.args[0].get_type(schema)?;
    let by = match kind {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            return plan_err!(
                "to_timestamp of a float cuts digits and invents times where it cannot hold them; write epoch_to_timestamp({}): seconds to the nearest microsecond, NULL outside the years 1 to 9999",
                call.args[0]
            );
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "to_timestamp_micros",
        _ if kind.is_integer() => "to_timestamp_seconds",
        _ => "to_timestamp",
    };
    let by = context.get_function_meta(by).unwrap_or(call.func);
    let time = Expr::ScalarFunction(ScalarFunction::new_udf(by, call.args));
    Ok(Expr::Cast(Cast::new(Box::new(time), DataType::Timestamp(TimeUnit::Microsecond, None))))
}
