//! Arithmetic that fails where its result does not fit; by itself a whole number would begin again at the other end, and a decimal would have
//! more digits than its type, of which each reader makes something else. And floats that are no number are alike: processors make such with
//! a sign, and comparisons look at it.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Schema};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed as Changed, TreeNode};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion_expr::{ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// The expression with all its arithmetic checked.
///
/// # Errors
/// What is made of constants does not fit.
pub(super) fn checked(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let (fits, options) = (Arc::new(ScalarUDF::new_from_impl(Fits::default())), Arc::new(ConfigOptions::default()));
    let one = |expr: Arc<dyn PhysicalExpr>| {
        if let Some(literal) = expr.downcast_ref::<Literal>() {
            fit(&literal.value().to_array()?)?;
            return Ok(Changed::no(expr));
        }
        let expr = match in_range(&expr, schema)? {
            Some(changed) => changed,
            None if makes_others(&expr) => expr,
            None => return Ok(Changed::no(expr)),
        };
        Ok(Changed::yes(match expr.data_type(schema)? {
            DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Float32 | DataType::Float64 => {
                Arc::new(ScalarFunctionExpr::try_new(fits.clone(), vec![expr], schema, options.clone())?)
            }
            _ => expr,
        }))
    };
    Ok(expr.transform(one)?.data)
}

/// Whether it makes numbers that it was not given.
fn makes_others(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<ScalarFunctionExpr>().is_some() || expr.downcast_ref::<NegativeExpr>().is_some()
}

/// The same sum, product or negative, which fails where a whole number does not fit; `None` if it is none of them.
fn in_range(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return Ok(Some(Arc::new(binary.clone().with_fail_on_overflow(true))));
    }
    let Some(negative) = expr.downcast_ref::<NegativeExpr>() else { return Ok(None) };
    let kind = negative.arg().data_type(schema)?;
    if !kind.is_integer() {
        return Ok(None);
    }
    let zero = Arc::new(Literal::new(ScalarValue::new_zero(&kind)?));
    let minus = BinaryExpr::new(zero, Operator::Minus, negative.arg().clone());
    Ok(Some(Arc::new(minus.with_fail_on_overflow(true))))
}

/// A decimal as it came, if it has no more digits than its type; a float as it came, or without the sign if it is no number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fits {
    signature: Signature,
}

impl Default for Fits {
    fn default() -> Fits {
        Fits { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Fits {
    fn name(&self) -> &'static str {
        "fits"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        given.first().cloned().ok_or_else(|| exec_datafusion_err!("nothing to look at"))
    }

    fn invoke_with_args(&self, given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = given.args.into_iter().next() else { return exec_err!("nothing to look at") };
        let (array, is_scalar) = match &value {
            ColumnarValue::Array(array) => (array.clone(), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        fit(&array)?;
        Ok(match unsigned(&array) {
            None => value,
            Some(array) if is_scalar => ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?),
            Some(array) => ColumnarValue::Array(array),
        })
    }
}

/// Floats of which those that are no number have no sign; `None` if there is nothing to change.
fn unsigned(array: &ArrayRef) -> Option<ArrayRef> {
    let plain = |float: f64| if float.is_nan() { f64::NAN } else { float };
    if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
        let has_some = floats.values().iter().any(|float| float.is_nan() && float.is_sign_negative());
        return has_some.then(|| Arc::new(floats.unary::<_, Float64Type>(plain)) as ArrayRef);
    }
    let floats = array.as_primitive_opt::<Float32Type>()?;
    let has_some = floats.values().iter().any(|float| float.is_nan() && float.is_sign_negative());
    has_some.then(|| {
        Arc::new(floats.unary::<_, Float32Type>(|float| if float.is_nan() { f32::NAN } else { float })) as ArrayRef
    })
}

/// # Errors
/// A decimal has more digits than its type.
fn fit(array: &dyn Array) -> Result<()> {
    let (precision, scale, fits) = match array.data_type() {
        DataType::Decimal128(precision, scale) => {
            (precision, scale, array.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision))
        }
        DataType::Decimal256(precision, scale) => {
            (precision, scale, array.as_primitive::<Decimal256Type>().validate_decimal_precision(*precision))
        }
        _ => return Ok(()),
    };
    fits.map_err(|_| {
        exec_datafusion_err!(
            "a result has more digits than decimal({precision}, {scale}) holds; cast what it is made of to fewer behind the point, such as decimal(18, 6)"
        )
    })
}
