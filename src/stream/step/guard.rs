//! `and` and `or` whose right side is evaluated only for rows that the left does not decide. By themselves they do so where the left decides all
//! rows, and `b <> 0 and a / b > 1` fails on good rows for the company that they are in.

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{and_kleene, filter_record_batch, or_kleene, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::BinaryExpr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The same expression with all its `and` and `or` so; `None` if it has none.
pub(super) fn guarded(expression: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let guard = |expr: Arc<dyn PhysicalExpr>| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        let decides = match binary.op() {
            Operator::And => false,
            Operator::Or => true,
            _ => return Ok(Transformed::no(expr)),
        };
        let (left, right) = (binary.left().clone(), binary.right().clone());
        Ok(Transformed::yes(Arc::new(Guard { left, right, decides }) as Arc<dyn PhysicalExpr>))
    };
    expression.clone().transform_up(guard).ok().filter(|guarded| guarded.transformed).map(|guarded| guarded.data)
}

#[derive(Debug, Eq)]
struct Guard {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    /// What the left says where the right is not asked: false of `and`, true of `or`.
    decides: bool,
}

impl PartialEq for Guard {
    fn eq(&self, other: &Guard) -> bool {
        self.left.eq(&other.left) && self.right.eq(&other.right) && self.decides == other.decides
    }
}

impl Hash for Guard {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.right.hash(state);
        self.decides.hash(state);
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.left, if self.decides { "OR" } else { "AND" }, self.right)
    }
}

impl PhysicalExpr for Guard {
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new("guard", DataType::Boolean, true)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = truths(&self.left, batch)?;
        let left = left.as_boolean();
        let is_open: BooleanArray = left.iter().map(|answer| Some(answer != Some(self.decides))).collect();
        if is_open.true_count() == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = truths(&self.right, &filter_record_batch(batch, &is_open)?)?;
        // Null where it was not asked, which changes nothing of what is decided.
        let mut next = 0..;
        let places: UInt32Array =
            is_open.iter().map(|open| open.filter(|open| *open).and_then(|_| next.next())).collect();
        let right = take(&right, &places, None)?;
        let both = if self.decides { or_kleene } else { and_kleene };
        Ok(ColumnarValue::Array(Arc::new(both(left, right.as_boolean())?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let [left, right]: [Arc<dyn PhysicalExpr>; 2] =
            children.try_into().map_err(|_| exec_datafusion_err!("it has a left and a right"))?;
        Ok(Arc::new(Guard { left, right, decides: self.decides }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn truths(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    let answers = expr.evaluate(batch)?.into_array(batch.num_rows())?;
    match answers.data_type() {
        DataType::Boolean => Ok(answers),
        _ => Ok(arrow::compute::cast(&answers, &DataType::Boolean)?),
    }
}
