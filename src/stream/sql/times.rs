//! Times in SQL are in microseconds, as columns are. By themselves literals, casts and `to_timestamp` would be in nanoseconds: what is between
//! two times, or one cast to a number, would be a thousand times as much by how a time was written, and no year behind 2262 was known.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result as SqlResult, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::ContextProvider;
use datafusion_expr::{Cast, Expr, ExprSchemable, TryCast};

/// The expression before its types are settled, with all times in microseconds.
///
/// # Errors
/// `to_timestamp` of a float: it cuts digits, and invents a time where it cannot hold it.
pub(super) fn in_micros(expr: Expr, schema: &DFSchema, context: &impl ContextProvider) -> SqlResult<Expr> {
    let settled = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Cast(cast) => match micros_of(cast.field.data_type()) {
                Some(micros) => Transformed::yes(Expr::Cast(Cast::new(cast.expr, micros))),
                None => Transformed::no(Expr::Cast(cast)),
            },
            Expr::TryCast(cast) => match micros_of(cast.field.data_type()) {
                Some(micros) => Transformed::yes(Expr::TryCast(TryCast::new(cast.expr, micros))),
                None => Transformed::no(Expr::TryCast(cast)),
            },
            Expr::ScalarFunction(call) if call.func.name() == "to_timestamp" && !call.args.is_empty() => {
                Transformed::yes(to_timestamp(call, schema, context)?)
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(settled.data)
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
