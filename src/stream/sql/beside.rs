//! What stands beside each other in SQL and is not of one kind: a date beside times is the moment of its midnight in UTC, an interval beside
//! what is between two times is as long as it says. By itself the one would know the years 1678 to 2262 only and be another moment by operator,
//! and of the other days would be compared with days, of which what is between two times has none. A decimal beside floats is a float.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion_common::{DFSchema, Result as SqlResult, ScalarValue, plan_err};
use datafusion_expr::{BinaryExpr, Case, Cast, Expr, ExprSchemable, lit};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use std::sync::Arc;

/// Functions whose arguments become one kind.
const ALIKE: [&str; 6] = ["coalesce", "nvl", "ifnull", "nullif", "greatest", "least"];
const DAY_MICROS: i128 = 86_400_000_000;

/// The expression with its sides of one kind, where they are dates and times, or intervals and what is between two times.
///
/// # Errors
/// An interval that has months, or is no constant, beside what is between two times.
pub(super) fn of_one_kind(mut expr: Expr, schema: &Arc<DFSchema>, simplifier: &ExprSimplifier) -> SqlResult<Expr> {
    let sides: Vec<&mut Expr> = match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let sides = vec![&mut **left, &mut **right];
            if !op.supports_propagation() {
                // What is added to an interval stays one.
                dates(sides, schema, simplifier);
                return Ok(expr);
            }
            sides
        }
        Expr::Between(between) => vec![&mut *between.expr, &mut *between.low, &mut *between.high],
        Expr::InList(list) => std::iter::once(&mut *list.expr).chain(&mut list.list).collect(),
        Expr::Case(Case { when_then_expr, else_expr, .. }) => {
            let made = when_then_expr.iter_mut().map(|(_, then)| &mut **then);
            made.chain(else_expr.as_deref_mut()).collect()
        }
        Expr::ScalarFunction(call) if ALIKE.contains(&call.func.name()) => call.args.iter_mut().collect(),
        _ => return Ok(expr),
    };
    let sides = decimals(dates(sides, schema, simplifier), schema, simplifier);
    if sides.iter().any(|side| matches!(kind_of(side, schema, simplifier), Some(DataType::Duration(_)))) {
        for side in sides {
            if matches!(kind_of(side, schema, simplifier), Some(DataType::Interval(_))) {
                *side = length(side, schema, simplifier)?;
            }
        }
    }
    Ok(expr)
}

fn kind_of(expr: &Expr, schema: &Arc<DFSchema>, simplifier: &ExprSimplifier) -> Option<DataType> {
    let settled = || simplifier.coerce(expr.clone(), schema)?.get_type(schema);
    expr.get_type(schema).or_else(|_| settled()).ok()
}

/// Dates beside times are times.
fn dates<'e>(sides: Vec<&'e mut Expr>, schema: &Arc<DFSchema>, simplifier: &ExprSimplifier) -> Vec<&'e mut Expr> {
    let kinds: Vec<Option<DataType>> = sides.iter().map(|side| kind_of(side, schema, simplifier)).collect();
    let zones = kinds.iter().flatten().filter_map(|kind| match kind {
        DataType::Timestamp(_, zone) => Some(zone.clone()),
        _ => None,
    });
    let Some(zone) = zones.max() else { return sides };
    let in_zone = |expr: Expr, zone: Option<Arc<str>>| {
        Expr::Cast(Cast::new(Box::new(expr), DataType::Timestamp(TimeUnit::Microsecond, zone)))
    };
    let changed = sides.into_iter().zip(kinds).map(|(side, kind)| {
        if kind == Some(DataType::Date32) {
            let midnight = in_zone(std::mem::take(side), None);
            *side = match &zone {
                None => midnight,
                Some(_) => in_zone(in_zone(midnight, Some("UTC".into())), zone.clone()),
            };
        }
        side
    });
    changed.collect()
}

/// Decimals beside floats are floats, which hold them nearly; by themselves floats would be decimals of 15 digits behind the point, and the small
/// and the large were not. A constant that a decimal holds is one.
fn decimals<'e>(sides: Vec<&'e mut Expr>, schema: &Arc<DFSchema>, simplifier: &ExprSimplifier) -> Vec<&'e mut Expr> {
    let kinds: Vec<Option<DataType>> = sides.iter().map(|side| kind_of(side, schema, simplifier)).collect();
    let is_decimal = |kind: &DataType| matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..));
    let is_float = |kind: &DataType| matches!(kind, DataType::Float32 | DataType::Float64);
    let Some(decimal) = kinds.iter().flatten().find(|kind| is_decimal(kind)).cloned() else { return sides };
    let as_decimal = |float: &Expr| match float {
        Expr::Literal(float, _) => {
            let held = float
                .cast_to(&decimal)
                .ok()
                .filter(|held| held.cast_to(&float.data_type()).is_ok_and(|back| back == *float));
            held.map(|held| Expr::Literal(held, None))
        }
        _ => None,
    };
    // For a constant that needs more digits SQL's own decimal is wide enough, unless it is large.
    let is_narrow = |float: &Expr| match float {
        Expr::Literal(float, _) => float.cast_to(&DataType::Decimal128(30, 15)).is_ok(),
        _ => false,
    };
    let are_floats =
        sides.iter().zip(&kinds).any(|(side, kind)| kind.as_ref().is_some_and(is_float) && !is_narrow(side));
    let changed = sides.into_iter().zip(kinds).map(|(side, kind)| {
        match kind {
            Some(kind) if is_decimal(&kind) && are_floats => {
                *side = Expr::Cast(Cast::new(Box::new(std::mem::take(side)), DataType::Float64));
            }
            Some(kind) if is_float(&kind) && !are_floats => {
                *side = as_decimal(side).unwrap_or_else(|| std::mem::take(side))
            }
            _ => {}
        }
        side
    });
    changed.collect()
}

/// A constant interval as what is between two times.
fn length(interval: &Expr, schema: &Arc<DFSchema>, simplifier: &ExprSimplifier) -> SqlResult<Expr> {
    let constant = simplifier.coerce(interval.clone(), schema).and_then(|expr| simplifier.simplify(expr))?;
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(said), _) = constant else {
        return plan_err!(
            "what is between two times stands beside a constant interval, as interval '36 hours'; or write b > a + {interval}"
        );
    };
    let micros = match said {
        Some(IntervalMonthDayNano { months, .. }) if months != 0 => {
            return plan_err!(
                "months are not all of one length, what is between two times has one; write days, or b > a + {interval}"
            );
        }
        Some(said) => i64::try_from(i128::from(said.days) * DAY_MICROS + i128::from(said.nanoseconds) / 1_000).ok(),
        None => None,
    };
    Ok(lit(ScalarValue::DurationMicrosecond(micros)))
}
