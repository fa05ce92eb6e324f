//! What is known when the file is read: arithmetic of constants, which would begin again at the other end where it does not fit, and words
//! that say how a time is cut or written, which would fail for every record.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result as SqlResult, ScalarValue, plan_err};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

/// Looks at each sum, difference and product of whole numbers in which no column stands.
///
/// # Errors
/// One does not fit its type.
pub(super) fn fit(expr: &Expr, simplifier: &ExprSimplifier) -> SqlResult<()> {
    let mut made = Vec::new();
    expr.apply(|expr| {
        if let Expr::BinaryExpr(BinaryExpr { op: Operator::Plus | Operator::Minus | Operator::Multiply, .. }) = expr
            && expr.column_refs().is_empty()
        {
            made.push(expr.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // From the inside out, so that the innermost is named.
    for whole in made.into_iter().rev() {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &whole else { continue };
        let sides = [left, right].map(|side| simplifier.simplify((**side).clone()));
        let [Ok(Expr::Literal(left, _)), Ok(Expr::Literal(right, _))] = sides else { continue };
        if !left.data_type().is_integer() || left.data_type() != right.data_type() {
            continue;
        }
        let result: SqlResult<ScalarValue> = match op {
            Operator::Plus => left.add_checked(&right),
            Operator::Minus => left.sub_checked(&right),
            _ => left.mul_checked(&right),
        };
        if result.is_err() {
            return plan_err!(
                "{left} {op} {right} does not fit {}; write one of them as a float (1.0), or cast it to decimal",
                left.data_type()
            );
        }
    }
    Ok(())
}

/// Looks at each part and format that is said of a time.
///
/// # Errors
/// No time can be cut or written so.
pub(super) fn say_something(expr: &Expr, schema: &DFSchema, simplifier: &ExprSimplifier) -> SqlResult<()> {
    expr.apply(|expr| {
        let Expr::ScalarFunction(call) = expr else { return Ok(TreeNodeRecursion::Continue) };
        let (word, hint) = match (call.func.name(), call.args.as_slice()) {
            ("date_trunc" | "date_part", [word, _]) => {
                (word, "it is year, quarter, month, week, day, hour, minute, second, millisecond or microsecond; date_part knows dow, doy and epoch too")
            }
            ("to_char", [_, word]) => (word, "formats are strftime's, '%Y-%m-%d %H:%M:%S'"),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        let Some(text) = word.as_literal().and_then(|word| word.try_as_str()).flatten() else {
            return Ok(TreeNodeRecursion::Continue);
        };
        let mut tried = call.clone();
        for arg in &mut tried.args {
            if let DataType::Timestamp(TimeUnit::Microsecond, zone) = arg.get_type(schema)? {
                *arg = Expr::Literal(ScalarValue::TimestampMicrosecond(Some(0), zone), None);
            }
        }
        let is_known = tried.args.iter().all(|arg| matches!(arg, Expr::Literal(..)));
        let says_nothing = call.func.name() == "to_char" && !text.contains('%');
        let fails = || !matches!(simplifier.simplify(Expr::ScalarFunction(tried)), Ok(Expr::Literal(..)));
        if says_nothing || (is_known && fails()) {
            return plan_err!("{}: '{text}' says nothing of a time; {hint}", call.func.name());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
