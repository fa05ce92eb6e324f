//! What every function of ours shares: reading text and bytes of any Arrow form, writing one array.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray};
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::sync::Arc;

/// What a function computes of one row.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// Text to text.
    Text(fn(&str) -> Option<String>),
    /// Text and a second text to text.
    Text2(fn(&str, &str) -> Option<String>),
    /// Text to a truth that also has an answer for NULL.
    Truth(fn(Option<&str>) -> bool),
    /// Bytes to text.
    BytesText(fn(&[u8]) -> Option<String>),
    /// Bytes to a number.
    BytesNumber(fn(&[u8]) -> Option<i32>),
}

struct Udf {
    name: &'static str,
    body: Body,
    signature: Signature,
}

/// A planner's function made of a row's.
pub(super) fn udf(name: &'static str, body: Body) -> ScalarUDF {
    let count = if matches!(body, Body::Text2(_)) { 2 } else { 1 };
    // Any type: what the function cannot read it says by name, instead of a list of internal types.
    let signature = Signature::new(TypeSignature::Any(count), Volatility::Immutable);
    ScalarUDF::new_from_impl(Udf { name, body, signature })
}

impl std::fmt::Debug for Udf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

// The name says which function it is: there is one of each.
impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        self.name == other.name
    }
}

impl Eq for Udf {}

impl std::hash::Hash for Udf {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Udf {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let wants_bytes = matches!(self.body, Body::BytesText(_) | Body::BytesNumber(_));
        for kind in arguments {
            let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
            let is_bytes =
                matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null);
            if (wants_bytes && !is_bytes) || (!wants_bytes && !is_text) {
                let wanted = if wants_bytes { "binary" } else { "text" };
                return exec_err!("{} takes {wanted}, not {kind}", self.name);
            }
        }
        Ok(match self.body {
            Body::Text(_) | Body::Text2(_) | Body::BytesText(_) => DataType::Utf8,
            Body::Truth(_) => DataType::Boolean,
            Body::BytesNumber(_) => DataType::Int32,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = arguments.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { arguments.number_rows };
        let arrays: Vec<ArrayRef> = arguments.args.iter().map(|value| value.to_array(rows)).collect::<Result<_>>()?;
        let out: ArrayRef = match self.body {
            Body::Text(of) => Arc::new(texts(&arrays[0])?.map(|text| text.and_then(of)).collect::<StringArray>()),
            Body::Text2(of) => {
                let pairs = texts(&arrays[0])?.zip(texts(&arrays[1])?);
                Arc::new(pairs.map(|(a, b)| a.zip(b).and_then(|(a, b)| of(a, b))).collect::<StringArray>())
            }
            Body::Truth(of) => Arc::new(texts(&arrays[0])?.map(|text| Some(of(text))).collect::<BooleanArray>()),
            Body::BytesText(of) => {
                Arc::new(bytes(&arrays[0])?.map(|bytes| bytes.and_then(of)).collect::<StringArray>())
            }
            Body::BytesNumber(of) => {
                Arc::new(bytes(&arrays[0])?.map(|bytes| bytes.and_then(of)).collect::<Int32Array>())
            }
        };
        if is_constant {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?))
        } else {
            Ok(ColumnarValue::Array(out))
        }
    }
}

type Iter<'a, T> = Box<dyn Iterator<Item = Option<T>> + 'a>;

fn texts(array: &ArrayRef) -> Result<Iter<'_, &str>> {
    Ok(match array.data_type() {
        DataType::Utf8 => Box::new(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => Box::new(array.as_string::<i64>().iter()),
        DataType::Utf8View => Box::new(array.as_string_view().iter()),
        DataType::Null => Box::new(std::iter::repeat_n(None, array.len())),
        other => return exec_err!("text was expected, not {other}"),
    })
}

fn bytes(array: &ArrayRef) -> Result<Iter<'_, &[u8]>> {
    Ok(match array.data_type() {
        DataType::Binary => Box::new(array.as_binary::<i32>().iter()),
        DataType::LargeBinary => Box::new(array.as_binary::<i64>().iter()),
        DataType::BinaryView => Box::new(array.as_binary_view().iter()),
        DataType::Null => Box::new(std::iter::repeat_n(None, array.len())),
        other => return exec_err!("binary was expected, not {other}"),
    })
}
