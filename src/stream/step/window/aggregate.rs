//! One aggregate of a window: what it reads of each row, what it keeps of many, and what that becomes.

use super::super::super::fault::{Fault, Reason};
use super::super::super::sql::{Call, Fold};
use super::super::sample::hash;
use super::super::table::converter;
use super::super::{Found, Rows, output_type, truths, values};
use super::distinct::Distinct;
use super::percentile::Percentile;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    UInt32Array, UInt64Array, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float16Type, Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::RowConverter;
use datafusion_common::Result as SqlResult;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Memory of a partial beside what it keeps on the heap.
pub(super) const PARTIAL_SIZE: usize = 48;

/// An aggregate, planned. Cheap to share.
#[derive(Clone)]
pub(in crate::stream) struct Aggregate {
    name: String,
    fold: Fold,
    keeps: Keeps,
    arg: Option<Arc<dyn PhysicalExpr>>,
    /// What `arg` is read as.
    kind: DataType,
    filter: Option<Arc<dyn PhysicalExpr>>,
    output: DataType,
    text: String,
}

/// What an aggregate keeps, in one of the forms of [`Partial`].
#[derive(Clone)]
enum Keeps {
    Count,
    Whole,
    Float,
    Extreme(Order),
    Distinct,
    Percentile,
}

/// Values as bytes that compare as they do.
#[derive(Clone)]
struct Order {
    converter: Arc<RowConverter>,
    null: Arc<[u8]>,
}

/// What is kept of the rows so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Partial {
    Count(i64),
    /// Whole numbers, exactly; of decimals their digits.
    Whole {
        sum: i128,
        count: i64,
        is_over: bool,
    },
    /// Floats, in the order in which they came.
    Float {
        sum: f64,
        count: i64,
    },
    Extreme(Option<Box<[u8]>>),
    Distinct(Distinct),
    Percentile(Percentile),
}

/// What an aggregate reads of some rows.
pub(super) enum Values {
    Rows,
    Present(ArrayRef),
    Whole(Vec<Option<i128>>),
    Float(Float64Array),
    Ordered(arrow::row::Rows, ArrayRef),
    Hashes(Vec<Option<u64>>),
}

/// What an aggregate of this type makes.
///
/// # Errors
/// What it needs instead.
pub(in crate::stream) fn output_of(fold: Fold, arg: Option<&DataType>) -> Result<DataType, String> {
    let Some(arg) = arg else { return Ok(DataType::Int64) };
    let number = |made: DataType| match arg.is_numeric() {
        true => Ok(made),
        false => Err(format!("it needs a number, and this is {arg}")),
    };
    match fold {
        Fold::Count => Ok(DataType::Int64),
        Fold::Avg | Fold::ApproxPercentile(_) => number(DataType::Float64),
        Fold::Sum => match arg {
            DataType::UInt64 => Ok(DataType::UInt64),
            DataType::Decimal128(precision, scale) => Ok(DataType::Decimal128((precision + 10).min(38), *scale)),
            kind if kind.is_integer() => Ok(DataType::Int64),
            _ => number(DataType::Float64),
        },
        Fold::Min | Fold::Max => match arg {
            kind if kind.is_nested() => Err(format!("{kind} has no order")),
            kind => Ok(plain(kind)),
        },
        Fold::ApproxDistinct => match plain(arg) {
            kind if kind.is_nested() => {
                Err(format!("values of {kind} cannot be told from each other here; cast them to text"))
            }
            _ => Ok(DataType::Int64),
        },
    }
}

/// A type without the ways in which text may lie in memory.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => plain(value),
        other => output_type(other),
    }
}

impl Aggregate {
    /// # Errors
    /// As [`output_of`].
    pub(in crate::stream) fn new(
        call: &Call,
        arg: Option<(Arc<dyn PhysicalExpr>, DataType)>,
        filter: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Aggregate, ArrowError> {
        let (arg, kind) = arg.unzip();
        let output = output_of(call.fold, kind.as_ref()).map_err(ArrowError::NotYetImplemented)?;
        let kind = kind.unwrap_or(DataType::Null);
        let (keeps, kind) = match call.fold {
            Fold::Count => (Keeps::Count, kind),
            Fold::Min | Fold::Max => (Keeps::Extreme(Order::new(&output)?), output.clone()),
            Fold::ApproxDistinct => (Keeps::Distinct, hashed(&plain(&kind))),
            Fold::ApproxPercentile(_) => (Keeps::Percentile, DataType::Float64),
            Fold::Sum | Fold::Avg => match &kind {
                DataType::UInt64 => (Keeps::Whole, DataType::UInt64),
                DataType::Decimal128(..) => (Keeps::Whole, kind),
                kind if kind.is_integer() => (Keeps::Whole, DataType::Int64),
                _ => (Keeps::Float, DataType::Float64),
            },
        };
        let (name, fold, text) = (call.name.clone(), call.fold, call.text.clone());
        Ok(Aggregate { name, fold, keeps, arg, kind, filter, output, text })
    }

    /// As SQL writes it, with its type.
    pub(super) fn identity(&self) -> String {
        let of = match self.kind {
            DataType::Decimal128(..) if self.fold == Fold::Avg => format!(" of {}", self.kind),
            _ => String::new(),
        };
        format!("{} {}{of} as {}", self.text, self.output, self.name)
    }

    pub(super) fn field(&self) -> Field {
        Field::new(&self.name, self.output.clone(), true)
    }

    /// Whether what it keeps becomes larger with its rows.
    pub(super) fn grows(&self) -> bool {
        matches!(self.keeps, Keeps::Extreme(_) | Keeps::Distinct | Keeps::Percentile)
    }

    pub(super) fn begin(&self) -> Partial {
        match &self.keeps {
            Keeps::Count => Partial::Count(0),
            Keeps::Whole => Partial::Whole { sum: 0, count: 0, is_over: false },
            Keeps::Float => Partial::Float { sum: 0.0, count: 0 },
            Keeps::Extreme(_) => Partial::Extreme(None),
            Keeps::Distinct => Partial::Distinct(Distinct::new()),
            Keeps::Percentile => Partial::Percentile(Percentile::default()),
        }
    }

    /// What it reads of these rows; records that its SQL fails on are told.
    pub(super) fn values(&self, rows: &Rows, found: &mut Found) -> Values {
        let keep = self.filter.as_ref().map(|filter| truths(filter, rows, found));
        let keep = keep.map(|keep| -> BooleanArray { keep.iter().map(|keep| Some(keep == Some(true))).collect() });
        let Some(arg) = &self.arg else {
            let truth =
                |keep: &BooleanArray| keep.iter().map(|keep| keep.filter(|keep| *keep)).collect::<BooleanArray>();
            return keep.map_or(Values::Rows, |keep| Values::Present(Arc::new(truth(&keep))));
        };
        let array = match &keep {
            None => self.read(arg, rows, found),
            // Only what the filter lets through is looked at: it may be there to spare the rest a division by zero.
            Some(keep) => {
                let read = self.read(arg, &rows.filter(keep).expect("there is an answer a row"), found);
                let mut next = 0;
                let place = |keep: Option<bool>| {
                    (keep == Some(true)).then(|| {
                        next += 1;
                        next - 1
                    })
                };
                let places: UInt32Array = keep.iter().map(place).collect();
                take(&read, &places, None).expect("places are of values")
            }
        };
        match &self.keeps {
            // A null of the type null says so nowhere in its array.
            Keeps::Count => match array.logical_nulls() {
                None => Values::Rows,
                Some(nulls) => {
                    Values::Present(Arc::new(BooleanArray::new(BooleanBuffer::new_set(array.len()), Some(nulls))))
                }
            },
            Keeps::Whole => Values::Whole(wholes(&array)),
            Keeps::Float | Keeps::Percentile => Values::Float(array.as_primitive::<Float64Type>().clone()),
            Keeps::Extreme(order) => {
                let rows = order
                    .converter
                    .convert_columns(&[canonical(&array)])
                    .expect("the converter was made for this type");
                Values::Ordered(rows, array)
            }
            Keeps::Distinct => Values::Hashes(hashes(&array)),
        }
    }

    /// Evaluates an expression; rows that it fails on are null.
    fn read(&self, arg: &Arc<dyn PhysicalExpr>, rows: &Rows, found: &mut Found) -> ArrayRef {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let finish = |array: ArrayRef| -> SqlResult<ArrayRef> {
            let is_as_wanted = array.data_type() == &self.kind || matches!(self.keeps, Keeps::Count);
            Ok(if is_as_wanted { array } else { cast_with_options(&array, &self.kind, &options)? })
        };
        values(arg, &finish, &self.kind, Some(&self.name), rows, found)
    }

    /// Takes a row in.
    pub(super) fn add(&self, partial: &mut Partial, values: &Values, row: usize) {
        match (partial, values) {
            (Partial::Count(count), Values::Rows) => *count += 1,
            (Partial::Count(count), Values::Present(array)) => *count += i64::from(array.is_valid(row)),
            (Partial::Whole { sum, count, is_over }, Values::Whole(values)) => {
                if let Some(value) = values[row] {
                    *count += 1;
                    match sum.checked_add(value) {
                        Some(next) => *sum = next,
                        None => *is_over = true,
                    }
                }
            }
            (Partial::Float { sum, count }, Values::Float(values)) if values.is_valid(row) => {
                *sum += values.value(row);
                *count += 1;
            }
            (Partial::Extreme(known), Values::Ordered(rows, array)) if array.is_valid(row) => {
                self.extreme(known, rows.row(row).as_ref());
            }
            (Partial::Distinct(distinct), Values::Hashes(hashes)) => {
                hashes[row].iter().for_each(|hash| distinct.add(*hash));
            }
            (Partial::Percentile(percentile), Values::Float(values)) if values.is_valid(row) => {
                percentile.add(values.value(row));
            }
            _ => {}
        }
    }

    fn extreme(&self, known: &mut Option<Box<[u8]>>, value: &[u8]) {
        let is_further = match (known.as_deref(), self.fold) {
            (None, _) => true,
            (Some(known), Fold::Min) => value < known,
            (Some(known), _) => value > known,
        };
        if is_further {
            *known = Some(value.into());
        }
    }

    /// Takes in what another partition has, or later rows.
    pub(super) fn merge(&self, partial: &mut Partial, other: &Partial) {
        match (partial, other) {
            (Partial::Count(count), Partial::Count(other)) => *count += other,
            (
                Partial::Whole { sum, count, is_over },
                Partial::Whole { sum: other, count: others, is_over: is_other_over },
            ) => {
                *count += others;
                *is_over |= is_other_over;
                match sum.checked_add(*other) {
                    Some(next) => *sum = next,
                    None => *is_over = true,
                }
            }
            (Partial::Float { sum, count }, Partial::Float { sum: other, count: others }) => {
                *sum += other;
                *count += others;
            }
            (Partial::Extreme(known), Partial::Extreme(Some(other))) => self.extreme(known, other),
            (Partial::Distinct(distinct), Partial::Distinct(other)) => distinct.merge(other),
            (Partial::Percentile(percentile), Partial::Percentile(other)) => percentile.merge(other),
            _ => {}
        }
    }

    /// The column that partials become; those that do not fit into it are told, by their place.
    pub(super) fn column(&self, partials: &[&Partial], faults: &mut Vec<(u32, Fault)>) -> ArrayRef {
        let mut is_over = |at: usize| {
            let room = match self.fold {
                Fold::Avg => "38 digits".to_owned(),
                _ => self.output.to_string(),
            };
            let message = format!("the sum of {} does not fit into {room}", self.name).into();
            faults.push((at as u32, Fault { reason: Reason::Overflow, column: Some(self.name.clone()), message }));
        };
        let mut sum = |at: usize, fits: &dyn Fn(i128) -> bool| match partials[at] {
            Partial::Whole { sum, count, is_over: false } if fits(*sum) => (*count > 0).then_some(*sum),
            _ => {
                is_over(at);
                None
            }
        };
        let all = 0..partials.len();
        let floats = |of: &dyn Fn(&Partial) -> Option<f64>| -> ArrayRef {
            Arc::new(partials.iter().map(|partial| of(partial)).collect::<Float64Array>())
        };
        match (&self.keeps, &self.output) {
            (Keeps::Extreme(order), _) => self.values_of(order, partials).expect("the bytes are of this converter"),
            (Keeps::Percentile, _) => floats(&|partial| match (partial, self.fold) {
                (Partial::Percentile(percentile), Fold::ApproxPercentile(share)) => percentile.at(share),
                _ => None,
            }),
            (Keeps::Whole, DataType::Float64) => {
                let unit = match self.kind {
                    DataType::Decimal128(_, scale) => 10_f64.powi(scale.into()),
                    _ => 1.0,
                };
                let of = |at: usize| match (sum(at, &|_| true), partials[at]) {
                    (Some(sum), Partial::Whole { count, .. }) => Some(sum as f64 / (*count as f64 * unit)),
                    _ => None,
                };
                Arc::new(all.map(of).collect::<Float64Array>())
            }
            (Keeps::Float, DataType::Float64) => floats(&|partial| match *partial {
                Partial::Float { count: 0, .. } => None,
                Partial::Float { sum, count } if self.fold == Fold::Avg => Some(sum / count as f64),
                Partial::Float { sum, .. } => Some(sum),
                _ => None,
            }),
            (_, DataType::UInt64) => {
                let column = all.map(|at| sum(at, &|sum| u64::try_from(sum).is_ok()).map(|sum| sum as u64));
                Arc::new(column.collect::<UInt64Array>())
            }
            (_, DataType::Decimal128(precision, scale)) => {
                let limit = 10_i128.pow(u32::from(*precision));
                let column = all.map(|at| sum(at, &|sum| -limit < sum && sum < limit));
                let column = column.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale);
                Arc::new(column.expect("the type was a decimal before"))
            }
            (Keeps::Whole, _) => {
                let column = all.map(|at| sum(at, &|sum| i64::try_from(sum).is_ok()).map(|sum| sum as i64));
                Arc::new(column.collect::<Int64Array>())
            }
            _ => Arc::new(
                partials
                    .iter()
                    .map(|partial| match partial {
                        Partial::Count(count) => Some(*count),
                        Partial::Distinct(distinct) => Some(distinct.count()),
                        _ => None,
                    })
                    .collect::<Int64Array>(),
            ),
        }
    }

    fn values_of(&self, order: &Order, partials: &[&Partial]) -> Result<ArrayRef, ArrowError> {
        let parser = order.converter.parser();
        let bytes = partials.iter().map(|partial| match partial {
            Partial::Extreme(Some(value)) => parser.parse(value),
            _ => parser.parse(&order.null),
        });
        Ok(order.converter.convert_rows(bytes)?.remove(0))
    }

    /// As [`Aggregate::save`] makes it.
    pub(super) fn saved_field(&self, at: usize) -> Field {
        let kind = if matches!(self.keeps, Keeps::Extreme(_)) { self.output.clone() } else { DataType::Binary };
        Field::new(format!("part.{at}"), kind, true)
    }

    /// Partials as a column of a snapshot: extremes as what they are, the others as bytes.
    ///
    /// # Errors
    /// As Arrow's.
    pub(super) fn save(&self, partials: &[&Partial]) -> Result<ArrayRef, ArrowError> {
        if let Keeps::Extreme(order) = &self.keeps {
            return self.values_of(order, partials);
        }
        Ok(Arc::new(BinaryArray::from_iter_values(partials.iter().map(|partial| partial.bytes()))))
    }

    /// # Errors
    /// What was saved is damaged.
    pub(super) fn load(&self, saved: &ArrayRef) -> Result<Vec<Partial>, ArrowError> {
        if let Keeps::Extreme(order) = &self.keeps {
            let rows = order.converter.convert_columns(std::slice::from_ref(saved))?;
            let one = |at: usize| Partial::Extreme(saved.is_valid(at).then(|| rows.row(at).as_ref().into()));
            return Ok((0..saved.len()).map(one).collect());
        }
        let damaged = || ArrowError::ParseError(format!("{} is damaged", self.name));
        let saved = saved.as_binary_opt::<i32>().ok_or_else(damaged)?;
        saved.iter().map(|bytes| self.of_bytes(bytes.unwrap_or_default()).ok_or_else(damaged)).collect()
    }

    fn of_bytes(&self, bytes: &[u8]) -> Option<Partial> {
        Some(match &self.keeps {
            Keeps::Count => Partial::Count(i64::from_le_bytes(bytes.try_into().ok()?)),
            Keeps::Whole => Partial::Whole {
                sum: i128::from_le_bytes(bytes.get(..16)?.try_into().ok()?),
                count: i64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
                is_over: *bytes.get(24)? == 1,
            },
            Keeps::Float => Partial::Float {
                sum: f64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
                count: i64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
            },
            Keeps::Distinct => Partial::Distinct(Distinct::of_bytes(bytes)?),
            Keeps::Percentile => Partial::Percentile(Percentile::of_bytes(bytes)?),
            Keeps::Extreme(_) => return None,
        })
    }
}

impl Order {
    fn new(kind: &DataType) -> Result<Order, ArrowError> {
        let converter = converter(&[Field::new("value", kind.clone(), true)])?;
        let null = converter.convert_columns(&[new_null_array(kind, 1)])?.row(0).as_ref().into();
        Ok(Order { converter, null })
    }
}

impl Partial {
    /// Bytes in memory, about.
    pub(super) fn size(&self) -> usize {
        PARTIAL_SIZE
            + match self {
                Partial::Count(_) | Partial::Whole { .. } | Partial::Float { .. } => 0,
                Partial::Extreme(value) => value.as_ref().map_or(0, |value| value.len()),
                Partial::Distinct(distinct) => distinct.size(),
                Partial::Percentile(percentile) => percentile.size(),
            }
    }

    /// Numbers in little endian.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Partial::Count(count) => count.to_le_bytes().into(),
            Partial::Whole { sum, count, is_over } => {
                [&sum.to_le_bytes()[..], &count.to_le_bytes()[..], &[u8::from(*is_over)][..]].concat()
            }
            Partial::Float { sum, count } => [sum.to_le_bytes(), count.to_le_bytes()].concat(),
            Partial::Extreme(_) => Vec::new(),
            Partial::Distinct(distinct) => distinct.bytes(),
            Partial::Percentile(percentile) => percentile.bytes(),
        }
    }
}

fn wholes(array: &ArrayRef) -> Vec<Option<i128>> {
    match array.data_type() {
        DataType::UInt64 => array.as_primitive::<UInt64Type>().iter().map(|value| value.map(i128::from)).collect(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().iter().collect(),
        _ => array.as_primitive::<Int64Type>().iter().map(|value| value.map(i128::from)).collect(),
    }
}

/// The type that values are hashed as: it must not change, or a window that is open over a change of version counts values twice.
fn hashed(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8 | DataType::Binary | DataType::UInt64 | DataType::Decimal128(..) => kind.clone(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        kind if kind.is_integer() => DataType::Int64,
        _ => DataType::Utf8,
    }
}

/// Zero is zero and NaN is NaN, whatever their bits: one value each, and NaN the greatest.
pub(in crate::stream::step) fn canonical(array: &ArrayRef) -> ArrayRef {
    type F16 = <Float16Type as ArrowPrimitiveType>::Native;
    let half = |value: F16| match value {
        _ if value.is_nan() => F16::NAN,
        _ if value == F16::ZERO => F16::ZERO,
        _ => value,
    };
    match array.data_type() {
        DataType::Float16 => Arc::new(array.as_primitive::<Float16Type>().unary::<_, Float16Type>(half)),
        DataType::Float32 => {
            let plain = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(plain))
        }
        DataType::Float64 => {
            let plain = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(plain))
        }
        _ => array.clone(),
    }
}

fn hashes(array: &ArrayRef) -> Vec<Option<u64>> {
    match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().iter().map(|value| value.map(hash)).collect(),
        DataType::UInt64 => array
            .as_primitive::<UInt64Type>()
            .iter()
            .map(|value| value.map(|value| hash(&value.to_le_bytes())))
            .collect(),
        DataType::Decimal128(..) => array
            .as_primitive::<Decimal128Type>()
            .iter()
            .map(|value| value.map(|value| hash(&value.to_le_bytes())))
            .collect(),
        DataType::Float64 => {
            let array = canonical(array);
            let hash_of = |value: f64| hash(&value.to_le_bytes());
            array.as_primitive::<Float64Type>().iter().map(|value| value.map(hash_of)).collect()
        }
        DataType::Int64 => array
            .as_primitive::<Int64Type>()
            .iter()
            .map(|value| value.map(|value| hash(&value.to_le_bytes())))
            .collect(),
        _ => array.as_string::<i32>().iter().map(|value| value.map(|value| hash(value.as_bytes()))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_of_decimals_is_that_of_their_exact_sum_in_any_order() {
        use datafusion_physical_expr::expressions::Column;
        let kind = DataType::Decimal128(38, 2);
        let call = |fold| Call { name: "a".to_owned(), fold, arg: None, filter: None, text: "avg(d)".to_owned() };
        let avg = Aggregate::new(&call(Fold::Avg), Some((Arc::new(Column::new("d", 0)), kind.clone())), None).unwrap();
        let mean = |values: &[i128], faults: &mut Vec<(u32, Fault)>| {
            let mut partial = avg.begin();
            let values = Values::Whole(values.iter().copied().map(Some).collect());
            let Values::Whole(all) = &values else { unreachable!() };
            (0..all.len()).for_each(|row| avg.add(&mut partial, &values, row));
            let column = avg.column(&[&partial], faults);
            column.is_valid(0).then(|| column.as_primitive::<Float64Type>().value(0))
        };
        let mut faults = Vec::new();
        let large = 10_i128.pow(22);
        assert_eq!(mean(&[110, 220], &mut faults), Some(1.65));
        assert_eq!(mean(&[large, 100, -large], &mut faults), mean(&[large, -large, 100], &mut faults));
        assert_eq!(mean(&[large, 100, -large], &mut faults), Some(1.0 / 3.0));
        assert_eq!((mean(&[], &mut faults), faults.len()), (None, 0));
        assert_eq!((mean(&[i128::MAX, 1], &mut faults), faults.len()), (None, 1));
        assert_ne!(
            avg.identity(),
            Aggregate::new(&call(Fold::Avg), Some((Arc::new(Column::new("d", 0)), DataType::Float64)), None)
                .unwrap()
                .identity()
        );
    }

    #[test]
    fn there_is_one_nan_and_one_zero() {
        let odd: ArrayRef = Arc::new(Float64Array::from(vec![Some(-f64::NAN), Some(f64::NAN), Some(-0.0), None]));
        let plain = canonical(&odd);
        let plain = plain.as_primitive::<Float64Type>();
        let bits = |at: usize| plain.value(at).to_bits();
        assert_eq!((bits(0), bits(2)), (bits(1), 0));
        assert!(plain.value(0).is_sign_positive() && plain.is_null(3));
    }
}
