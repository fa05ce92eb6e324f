//! Arithmetic of constants is done when the file is read, and would begin again at the other end where it does not fit.

use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{Result as SqlResult, ScalarValue, plan_err};
use datafusion_expr::{BinaryExpr, Expr, Operator};
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
