//! Times in SQL are moments, in microseconds, as columns are. By themselves literals, casts and `to_timestamp` would be in nanoseconds: what is
//! between two times, or one cast to a number, would be a thousand times as much by how a time was written, and no year behind 2262 was known.

use super::beside::of_one_kind;
use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result as SqlResult, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::ContextProvider;
use datafusion_expr::{Cast, Expr, ExprSchemable, TryCast, lit};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use std::sync::Arc;

/// The expression before its types are settled, with all times in microseconds.
///
/// # Errors
/// A zone that there is not. `to_timestamp` of a float: it cuts digits, and invents a time where it cannot hold it. A part of what is between two times that is not all
/// of it. As [`of_one_kind`].
pub(super) fn in_micros(
    expr: Expr,
    schema: &Arc<DFSchema>,
    context: &impl ContextProvider,
    simplifier: &ExprSimplifier,
) -> SqlResult<Expr> {
    let settled = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Cast(cast) => match micros_of(known_zone(cast.field.data_type())?) {
                Some(micros) => Transformed::yes(to_micros(cast.expr, micros, schema)),
                None => Transformed::no(Expr::Cast(cast)),
            },
            Expr::TryCast(cast) => match micros_of(known_zone(cast.field.data_type())?) {
                Some(micros) => Transformed::yes(Expr::TryCast(TryCast::new(cast.expr, micros))),
                None => Transformed::no(Expr::TryCast(cast)),
            },
            Expr::ScalarFunction(call) if call.func.name() == "to_timestamp" && !call.args.is_empty() => {
                Transformed::yes(to_timestamp(call, schema, context)?)
            }
            Expr::ScalarFunction(call) if call.func.name() == "date_part" && call.args.len() == 2 => {
                part_between(call, schema)?
            }
            Expr::ScalarFunction(call) if call.func.name() == "arrow_cast" => {
                Transformed::no(Expr::ScalarFunction(call))
            }
            Expr::ScalarFunction(call) => {
                let call = Expr::ScalarFunction(of_texts(call, schema));
                in_micros_of(of_one_kind(call, schema, simplifier)?, schema)
            }
            other => Transformed::yes(of_one_kind(other, schema, simplifier)?),
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
fn in_micros_of(call: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match call.get_type(schema) {
        Ok(DataType::Timestamp(unit, zone)) if unit != TimeUnit::Microsecond => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone);
            Transformed::yes(Expr::Cast(Cast::new(Box::new(call), micros)))
        }
        _ => Transformed::yes(call),
    }
}

/// A cast to a time. Of a zone's clock (`at time zone`) it is the same moment, or the moment at which that clock showed what a text says.
fn to_micros(of: Box<Expr>, micros: DataType, schema: &DFSchema) -> Expr {
    let is_plain = || matches!(of.get_type(schema), Ok(DataType::Timestamp(_, None)));
    if matches!(micros, DataType::Timestamp(_, Some(_))) && is_plain() && !is_local(&of, schema) {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        return Expr::Cast(Cast::new(Box::new(Expr::Cast(Cast::new(of, moment))), micros));
    }
    Expr::Cast(Cast::new(of, micros))
}

/// Whether a time without a zone comes of a text that says none: of a cast, or of `to_timestamp` with a format. A constant is only if all of
/// it is (`nullif(t, timestamp '9999-12-31')`).
fn is_local(time: &Expr, schema: &DFSchema) -> bool {
    let is_constant = time.column_refs().is_empty();
    let mut is_local = false;
    let looked = time.apply(|expr| {
        let (of, says_zone) = match expr {
            Expr::Cast(cast) => (&*cast.expr, false),
            Expr::TryCast(cast) => (&*cast.expr, false),
            Expr::ScalarFunction(call) if call.func.name().starts_with("to_timestamp") && call.args.len() > 1 => {
                let formats = call.args[1..].iter().filter_map(|format| format.as_literal()?.try_as_str()?);
                (&call.args[0], formats.into_iter().any(says_zone))
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        match expr.get_type(schema) {
            Ok(DataType::Timestamp(_, None)) => {}
            // A zone has been said there.
            Ok(DataType::Timestamp(_, Some(_))) => return Ok(TreeNodeRecursion::Jump),
            _ => return Ok(TreeNodeRecursion::Continue),
        }
        let is_of_text = of.get_type(schema).is_ok_and(|kind| kind.is_string());
        is_local |= is_of_text && !says_zone && (is_constant || !of.column_refs().is_empty());
        Ok(TreeNodeRecursion::Continue)
    });
    looked.is_ok() && is_local
}

/// Whether a format has the offset of a time.
fn says_zone(format: &str) -> bool {
    ["%z", "%:z", "%::z", "%#z", "%+", "%Z"].iter().any(|part| format.contains(part))
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
/// # Errors
/// A time in a zone that there is not.
fn known_zone(kind: &DataType) -> SqlResult<&DataType> {
    match kind {
        DataType::Timestamp(_, Some(zone)) if zone.parse::<Tz>().is_err() => {
            plan_err!("'{zone}' is no time zone; write one as 'Europe/Berlin', 'UTC' or '+02:00'")
        }
        _ => Ok(kind),
    }
}

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
