//! `select` of a window: aggregates with names, comma separated, their arguments planned as any other SQL.

use super::{Scope, SqlPlanner, otherwise, with_columns};
use crate::config::{Mistake, nearest};
use crate::stream::spec::Sql;
use datafusion_expr::Expr;
use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem,
};

/// What a window does with the rows that are in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::stream) enum Fold {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    ApproxDistinct,
    /// Which part of the values lies below, 0 to 1.
    ApproxPercentile(f64),
}

/// One aggregate of a `select`.
pub(in crate::stream) struct Call {
    pub(in crate::stream) name: String,
    pub(in crate::stream) fold: Fold,
    /// `None` counts rows.
    pub(in crate::stream) arg: Option<Expr>,
    /// Only rows of which it is true.
    pub(in crate::stream) filter: Option<Expr>,
    /// As SQL writes it.
    pub(in crate::stream) text: String,
}

const KNOWN: [&str; 8] = ["count", "sum", "avg", "mean", "min", "max", "approx_distinct", "approx_percentile"];

impl SqlPlanner<'_> {
    /// Named aggregates, comma separated.
    ///
    /// # Errors
    /// All that is wrong, and where; nothing, if that follows of what is wrong before.
    pub(in crate::stream) fn aggregates(&self, scope: &Scope, sql: &Sql) -> Result<Vec<Call>, Vec<Mistake>> {
        let items = self.parse(sql, |parser| parser.parse_projection()).map_err(|wrong| vec![wrong])?;
        let (mut calls, mut wrong, mut is_right) = (Vec::new(), Vec::new(), true);
        for item in items {
            let call = match item {
                SelectItem::ExprWithAlias { expr: Ast::Function(call), alias } => {
                    self.call(scope, sql, call, alias.value)
                }
                SelectItem::UnnamedExpr(expr) => Err(vec![self.mistake(
                    sql,
                    format!("give this a name: {expr} as NAME; the key's columns are there by themselves"),
                )]),
                other => Err(vec![self.mistake(
                    sql,
                    format!(
                        "{other} is no aggregate: a window makes {}; compute with them in a select step behind it",
                        KNOWN.join(", ")
                    ),
                )]),
            };
            match call {
                Ok(call) => calls.push(call),
                Err(mistakes) => {
                    is_right = false;
                    wrong.extend(mistakes);
                }
            }
        }
        if is_right { Ok(calls) } else { Err(wrong) }
    }

    fn call(&self, scope: &Scope, sql: &Sql, call: Function, name: String) -> Result<Call, Vec<Mistake>> {
        let text = call.to_string();
        let wrong = |message: &str| vec![self.mistake(sql, format!("{text}: {message}"))];
        let function = call.name.to_string().to_ascii_lowercase();
        if !KNOWN.contains(&function.as_str()) {
            let meant = match otherwise::of_aggregate(&function) {
                Some(here) => format!("here it is {here}; "),
                None => nearest(&function, &KNOWN).map_or(String::new(), |meant| format!("did you mean {meant}? ")),
            };
            return Err(wrong(&format!("{meant}a window makes {}", KNOWN.join(", "))));
        }
        if call.over.is_some() || call.null_treatment.is_some() || !call.within_group.is_empty() {
            return Err(wrong("write only the function and filter (where …)"));
        }
        let FunctionArguments::List(list) = call.args else { return Err(wrong("say of what")) };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            return Err(wrong("all values would have to be kept; approx_distinct(…) counts different ones, about"));
        }
        if !list.clauses.is_empty() {
            return Err(wrong("write only the function and filter (where …)"));
        }
        let mut args = Vec::new();
        for arg in list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if function == "count" => {}
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => args.push(with_columns(scope, expr)),
                other => return Err(wrong(&format!("{other} is no expression"))),
            }
        }
        let fold = match (function.as_str(), args.as_slice()) {
            ("count", [] | [_]) => Fold::Count,
            ("sum", [_]) => Fold::Sum,
            ("avg" | "mean", [_]) => Fold::Avg,
            ("min", [_]) => Fold::Min,
            ("max", [_]) => Fold::Max,
            ("approx_distinct", [_]) => Fold::ApproxDistinct,
            ("approx_percentile", [_, share]) => match share.to_string().parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => Fold::ApproxPercentile(share),
                _ => return Err(wrong("the second argument is a number from 0 to 1")),
            },
            ("approx_percentile", _) => return Err(wrong("write approx_percentile(ms, 0.99)")),
            _ => return Err(wrong("it takes one argument")),
        };
        let arg = args.into_iter().next().map(|arg| self.plan(scope, sql, arg)).transpose()?;
        let filter = call.filter.map(|filter| self.truth(scope, sql, *filter)).transpose()?;
        Ok(Call { name, fold, arg, filter, text })
    }
}
