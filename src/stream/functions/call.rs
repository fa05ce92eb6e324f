//! A call of a function over the rows of a batch: what it takes, what it answers, its arguments read whatever Arrow form they have.

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, LargeStringArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::fmt;
use std::sync::Arc;

/// What an argument may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Utf8, LargeUtf8, Utf8View.
    Text,
    /// Binary, LargeBinary, BinaryView.
    Bytes,
    /// Integers, floats and decimals of every width; computed as float64.
    Number,
    /// A list of four numbers, `[x1, y1, x2, y2]`.
    Box,
    /// A timestamp of any unit; one without a zone is in UTC.
    Time,
}

/// What a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    Text,
    Truth,
    Int32,
    Int64,
    Float64,
    /// Microseconds in UTC.
    Time,
}

/// Computes one batch; the array has as many rows as the call.
pub(super) type Compute = fn(&Call<'_>) -> Result<ArrayRef>;

/// A function as the planner, `docs/PIPELINES.md` and `inrush functions` know it.
pub struct Function {
    pub name: &'static str,
    /// Name and kind of each argument.
    pub takes: &'static [(&'static str, Takes)],
    /// How many of the last arguments may be left out.
    pub optional: usize,
    pub gives: Gives,
    /// One line; says what NULL gives where that is not NULL.
    pub meaning: &'static str,
    /// SQL, and what it gives as text. Each is a test.
    pub examples: &'static [(&'static str, &'static str)],
    pub(super) compute: Compute,
}

impl Function {
    /// `(url: text, name: text) → text`; what may be left out stands in `[]`.
    pub fn signature(&self) -> String {
        let mut out = String::from("(");
        for (at, (name, kind)) in self.takes.iter().enumerate() {
            let is_optional = at >= self.takes.len() - self.optional;
            let comma = if at == 0 { "" } else { ", " };
            let shown = format!("{comma}{name}: {kind}");
            out += &if is_optional { format!("[{shown}]") } else { shown };
        }
        format!("{out}) → {}", self.gives)
    }

    /// For the planner, as the table has it.
    pub(super) fn udf(&'static self) -> ScalarUDF {
        self.computed_by(self.compute)
    }

    /// The function with something that planning found out.
    pub(super) fn computed_by(
        &'static self,
        compute: impl Fn(&Call<'_>) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> ScalarUDF {
        // Any types: what the function cannot read it says itself, instead of a list of internal types.
        let signature = Signature::new(TypeSignature::VariadicAny, Volatility::Immutable);
        ScalarUDF::new_from_impl(Udf { function: self, compute: Box::new(compute), signature })
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Takes::Text => "text",
            Takes::Bytes => "binary",
            Takes::Number => "number",
            Takes::Box => "[number]",
            Takes::Time => "timestamp",
        })
    }
}

impl fmt::Display for Gives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gives::Text => "text",
            Gives::Truth => "bool",
            Gives::Int32 => "int32",
            Gives::Int64 => "int64",
            Gives::Float64 => "float64",
            Gives::Time => "timestamp",
        })
    }
}

impl Takes {
    fn fits(self, kind: &DataType) -> bool {
        use DataType::*;
        match (self, kind) {
            (_, Null) => true,
            (Takes::Text, kind) => matches!(kind, Utf8 | LargeUtf8 | Utf8View),
            (Takes::Bytes, kind) => matches!(kind, Binary | LargeBinary | BinaryView),
            (Takes::Number, kind) => kind.is_numeric(),
            (Takes::Box, List(item) | LargeList(item) | FixedSizeList(item, _)) => {
                item.data_type().is_numeric() || item.data_type().is_null()
            }
            (Takes::Time, Timestamp(_, _)) => true,
            _ => false,
        }
    }
}

impl Gives {
    pub(super) fn arrow(self) -> DataType {
        match self {
            Gives::Text => DataType::Utf8,
            Gives::Truth => DataType::Boolean,
            Gives::Int32 => DataType::Int32,
            Gives::Int64 => DataType::Int64,
            Gives::Float64 => DataType::Float64,
            Gives::Time => micros(),
        }
    }
}

fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

type Computes = Box<dyn Fn(&Call<'_>) -> Result<ArrayRef> + Send + Sync>;

struct Udf {
    function: &'static Function,
    compute: Computes,
    signature: Signature,
}

impl fmt::Debug for Udf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.name)
    }
}

// The name says which function it is. What planning adds follows from the arguments, which are compared beside it.
impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Udf {}

impl std::hash::Hash for Udf {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Udf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let Function { name, takes, optional, gives, .. } = self.function;
        if !(takes.len() - optional..=takes.len()).contains(&given.len()) {
            return plan_err!("{name}{} has {} arguments here", self.function.signature(), given.len());
        }
        for ((argument, wanted), kind) in takes.iter().zip(given) {
            if !wanted.fits(kind) {
                return plan_err!("{name} takes {wanted} as {argument}, not {kind}");
            }
        }
        Ok(gives.arrow())
    }

    fn invoke_with_args(&self, given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = given.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { given.number_rows };
        let mut arguments = Vec::with_capacity(given.args.len());
        for value in &given.args {
            arguments.push(match value {
                ColumnarValue::Array(array) => (array.clone(), 1),
                ColumnarValue::Scalar(scalar) => (scalar.to_array()?, 0),
            });
        }
        let out = (self.compute)(&Call { arguments: &arguments, gives: self.function.gives, rows })?;
        Ok(match is_constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?),
            false => ColumnarValue::Array(out),
        })
    }
}

/// The arguments of one batch. A constant is an array of one row and step 0.
pub(super) struct Call<'a> {
    arguments: &'a [(ArrayRef, usize)],
    gives: Gives,
    rows: usize,
}

impl<'a> Call<'a> {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// NULL for every row: the answer of what planning should have replaced.
    pub(super) fn nothing(&self) -> Result<ArrayRef> {
        Ok(new_null_array(&self.gives.arrow(), self.rows))
    }

    /// Answers row by row: `of` is given the row's number.
    pub(super) fn each<A, T>(&self, of: impl FnMut(usize) -> Option<T>) -> Result<ArrayRef>
    where
        A: FromIterator<Option<T>> + Array + 'static,
    {
        Ok(Arc::new((0..self.rows).map(of).collect::<A>()))
    }

    /// Answers from the first argument; NULL gives NULL.
    pub(super) fn each_text<A, T>(&self, of: impl Fn(&'a str) -> Option<T>) -> Result<ArrayRef>
    where
        A: FromIterator<Option<T>> + Array + 'static,
    {
        let texts = self.texts(0)?;
        self.each::<A, T>(|row| of(texts.get(row)?))
    }

    /// Answers from the first two arguments; NULL in one gives NULL.
    pub(super) fn each_text_pair<A, T>(&self, of: impl Fn(&'a str, &'a str) -> Option<T>) -> Result<ArrayRef>
    where
        A: FromIterator<Option<T>> + Array + 'static,
    {
        let (first, second) = (self.texts(0)?, self.texts(1)?);
        self.each::<A, T>(|row| of(first.get(row)?, second.get(row)?))
    }

    /// Answers from the bytes of the first argument; NULL gives NULL.
    pub(super) fn each_bytes<A, T>(&self, of: impl Fn(&[u8]) -> Option<T>) -> Result<ArrayRef>
    where
        A: FromIterator<Option<T>> + Array + 'static,
    {
        let (array, step) = self.argument(0)?;
        // Views are cheap to make of the other forms: lengths are copied, bytes are not.
        let array = cast(array, &DataType::BinaryView)?;
        let bytes = array.as_binary_view();
        self.each::<A, T>(|row| bytes.is_valid(row * step).then(|| bytes.value(row * step)).and_then(&of))
    }

    /// An argument that is text. One that was left out is NULL.
    pub(super) fn texts(&self, at: usize) -> Result<Texts<'a>> {
        let Some((array, step)) = self.arguments.get(at) else { return Ok(Texts { form: Form::Null, step: 0 }) };
        let form = match array.data_type() {
            DataType::Utf8 => Form::Small(array.as_string()),
            DataType::LargeUtf8 => Form::Large(array.as_string()),
            DataType::Utf8View => Form::View(array.as_string_view()),
            DataType::Null => Form::Null,
            other => return plan_err!("text was expected, not {other}"),
        };
        Ok(Texts { form, step: *step })
    }

    pub(super) fn numbers(&self, at: usize) -> Result<Numbers> {
        let (array, step) = self.argument(at)?;
        Ok(Numbers { array: cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone(), step })
    }

    pub(super) fn boxes(&self, at: usize) -> Result<Boxes> {
        let (array, step) = self.argument(at)?;
        let list = cast(array, &DataType::List(Arc::new(Field::new("item", DataType::Float64, true))))?;
        let list = list.as_list::<i32>();
        let values = list.values().as_primitive::<Float64Type>().clone();
        Ok(Boxes { list: list.clone(), values, step })
    }

    /// Microseconds since 1970.
    pub(super) fn times(&self, at: usize) -> Result<Times> {
        let (array, step) = self.argument(at)?;
        Ok(Times { array: cast(array, &micros())?.as_primitive::<TimestampMicrosecondType>().clone(), step })
    }

    fn argument(&self, at: usize) -> Result<(&'a ArrayRef, usize)> {
        match self.arguments.get(at) {
            Some((array, step)) => Ok((array, *step)),
            None => plan_err!("argument {} is missing", at + 1),
        }
    }
}

pub(super) struct Texts<'a> {
    form: Form<'a>,
    step: usize,
}

enum Form<'a> {
    Small(&'a StringArray),
    Large(&'a LargeStringArray),
    View(&'a StringViewArray),
    Null,
}

impl<'a> Texts<'a> {
    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        let at = row * self.step;
        match self.form {
            Form::Small(array) => array.is_valid(at).then(|| array.value(at)),
            Form::Large(array) => array.is_valid(at).then(|| array.value(at)),
            Form::View(array) => array.is_valid(at).then(|| array.value(at)),
            Form::Null => None,
        }
    }

    /// The text that all rows have, if it is a constant and not NULL.
    pub(super) fn constant(&self) -> Option<&'a str> {
        (self.step == 0).then(|| self.get(0)).flatten()
    }
}

pub(super) struct Numbers {
    array: Float64Array,
    step: usize,
}

impl Numbers {
    /// NULL also for what is no finite number.
    pub(super) fn get(&self, row: usize) -> Option<f64> {
        let at = row * self.step;
        self.array.is_valid(at).then(|| self.array.value(at)).filter(|number| number.is_finite())
    }
}

pub(super) struct Boxes {
    list: arrow::array::ListArray,
    values: Float64Array,
    step: usize,
}

impl Boxes {
    /// The four numbers as they stand; NULL for a list of another length, or if one of them is NULL or not finite.
    pub(super) fn get(&self, row: usize) -> Option<[f64; 4]> {
        let at = row * self.step;
        if self.list.is_null(at) {
            return None;
        }
        let [from, end] = [at, at + 1].map(|at| self.list.value_offsets()[at] as usize);
        if end - from != 4 || (from..end).any(|at| self.values.is_null(at)) {
            return None;
        }
        let corners: [f64; 4] = self.values.values()[from..end].try_into().ok()?;
        corners.iter().all(|number| number.is_finite()).then_some(corners)
    }
}

pub(super) struct Times {
    array: TimestampMicrosecondArray,
    step: usize,
}

impl Times {
    pub(super) fn get(&self, row: usize) -> Option<i64> {
        let at = row * self.step;
        self.array.is_valid(at).then(|| self.array.value(at))
    }
}
