//! SQL's own functions that need a hand: those that make as much as a number says, since a record must not be able to ask for all memory there
//! is, and those that take the first row's format for all.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

/// The most that one value may come to, in bytes: the thousands of records that are evaluated together stay within half a GiB.
const SIZE_MAX: u64 = 64 << 10;
/// What a number of a list, or a null, takes.
const ITEM_SIZE: u64 = 8;
const DAY_MICROS: i128 = 86_400_000_000;

/// How to know what a call comes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Growth {
    /// The first argument, as often as the second says.
    Repeated,
    /// So many characters or items as the second says.
    Filled,
    /// Numbers, or times, from the first up to the second, by the third.
    Counted,
}

const SIZED: [(&str, Growth); 7] = [
    ("repeat", Growth::Repeated),
    ("array_repeat", Growth::Repeated),
    ("lpad", Growth::Filled),
    ("rpad", Growth::Filled),
    ("array_resize", Growth::Filled),
    ("range", Growth::Counted),
    ("generate_series", Growth::Counted),
];

/// Of one value and many formats these take the first format for all.
const BY_ROW: [&str; 1] = ["to_char"];

/// The function, with a limit or row by row if it is one of those.
pub(in crate::stream) fn limited(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let growth = SIZED.iter().find(|(name, _)| *name == function.name()).map(|(_, growth)| *growth);
    match growth.is_some() || BY_ROW.contains(&function.name()) {
        true => Arc::new(ScalarUDF::new_from_impl(Limited { inner: function, growth })),
        false => function,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Limited {
    inner: Arc<ScalarUDF>,
    /// `None` = nothing grows: values are brought to as many as there are rows.
    growth: Option<Growth>,
}

impl Limited {
    fn check(&self, growth: Growth, given: &ScalarFunctionArgs) -> Result<()> {
        if given.number_rows == 0 {
            return Ok(());
        }
        let arrays = given.args.iter().map(|arg| match arg {
            // One value stands for all rows.
            ColumnarValue::Scalar(value) => value.to_array_of_size(1),
            ColumnarValue::Array(array) => Ok(array.clone()),
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let Some(numbers) = numbers(growth, &arrays)? else { return Ok(()) };
        let step_usual = if arrays[0].data_type().is_temporal() { DAY_MICROS } else { 1 };
        let is_in_nanos = matches!(arrays[0].data_type(), DataType::Timestamp(..));
        let at = |number: usize, row: usize| {
            let numbers = numbers.get(number)?.as_primitive::<Int64Type>();
            let row = if numbers.len() == 1 { 0 } else { row };
            numbers.is_valid(row).then(|| numbers.value(row))
        };
        for row in 0..arrays.iter().map(|array| array.len()).max().unwrap_or(0) {
            let wanted = match growth {
                Growth::Repeated => at(0, row).map(|count| i128::from(count) * i128::from(size_of(&arrays[0], row))),
                Growth::Filled => {
                    let size = if arrays[0].data_type().is_nested() { ITEM_SIZE } else { 1 };
                    at(0, row).map(|count| i128::from(count) * i128::from(size))
                }
                Growth::Counted => {
                    let (first, second) = (at(0, row).map(i128::from), at(1, row).map(i128::from));
                    let (from, to) = if numbers.len() == 1 { (Some(0), first) } else { (first, second) };
                    let step = if numbers.len() > 2 { at(2, row).map(i128::from) } else { Some(step_usual) };
                    let is_known = |time: &i128| i64::try_from(time * 1_000).is_ok();
                    if is_in_nanos && !from.iter().chain(&to).all(is_known) {
                        return exec_err!("{} knows the years 1678 to 2262 only", self.inner.name());
                    }
                    from.zip(to).zip(step).map(|((from, to), step)| counted(from, to, step) * i128::from(ITEM_SIZE))
                }
            };
            if wanted.is_some_and(|wanted| wanted > i128::from(SIZE_MAX)) {
                return exec_err!("{} would make more than 64 KiB of one record", self.inner.name());
            }
        }
        Ok(())
    }
}

/// The arguments that are numbers, times and intervals in microseconds; `None` if they are others.
fn numbers(growth: Growth, arrays: &[ArrayRef]) -> Result<Option<Vec<ArrayRef>>> {
    let numbers = match growth {
        Growth::Repeated | Growth::Filled => arrays.get(1..2),
        Growth::Counted => Some(arrays),
    };
    let numbers = numbers.unwrap_or_default();
    let is_number = |array: &ArrayRef| array.data_type().is_integer() || array.data_type().is_temporal();
    if numbers.is_empty() || !numbers.iter().all(is_number) {
        return Ok(None);
    }
    numbers.iter().map(number).collect::<Result<_>>().map(Some)
}

/// Steps from one number to another; none if they go the other way.
fn counted(from: i128, to: i128, step: i128) -> i128 {
    let way = to - from;
    if way.signum() * step.signum() < 0 { 0 } else { way.abs() / step.abs().max(1) }
}

fn number(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Interval(_) => {
            let steps = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let steps = steps.as_primitive::<IntervalMonthDayNanoType>().iter().map(|step| step.map(shortest));
            Ok(Arc::new(steps.collect::<Int64Array>()))
        }
        kind if kind.is_temporal() => {
            let times = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            Ok(cast(&times, &DataType::Int64)?)
        }
        // A count beyond this type is refused by the function itself.
        _ => Ok(cast(array, &DataType::Int64)?),
    }
}

/// How far a step of this interval goes at least, in microseconds; 0 if nobody knows which way.
fn shortest(step: IntervalMonthDayNano) -> i64 {
    let with_month_of = |days: i128| {
        let days = i128::from(step.months) * days + i128::from(step.days);
        days * DAY_MICROS + i128::from(step.nanoseconds) / 1_000
    };
    let (short, long) = (with_month_of(28), with_month_of(31));
    let shortest = if short.abs() < long.abs() { short } else { long };
    if short.signum() == long.signum() { i64::try_from(shortest).unwrap_or(i64::MAX) } else { 0 }
}

/// About what a value takes.
fn size_of(array: &ArrayRef, row: usize) -> u64 {
    let row = if array.len() == 1 { 0 } else { row };
    let size = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_length(row) as u64,
        DataType::LargeUtf8 => array.as_string::<i64>().value_length(row) as u64,
        DataType::Utf8View => array.as_string_view().value(row).len() as u64,
        kind if kind.is_nested() => array.slice(row, 1).to_data().get_slice_memory_size().unwrap_or(0) as u64,
        _ => ITEM_SIZE,
    };
    size.max(1)
}

impl ScalarUDFImpl for Limited {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.inner.return_type(given)
    }

    fn return_field_from_args(&self, given: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(given)
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(given)
    }

    fn invoke_with_args(&self, mut given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.growth {
            Some(growth) => self.check(growth, &given)?,
            None if given.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_))) => {
                let all = |arg: ColumnarValue| arg.into_array(given.number_rows).map(ColumnarValue::Array);
                given.args = given.args.into_iter().map(all).collect::<Result<_>>()?;
            }
            None => {}
        }
        self.inner.invoke_with_args(given)
    }
}
