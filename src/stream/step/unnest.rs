//! `unnest`: a row for each element of a list.

use super::super::fault::{Fault, Reason};
use super::{Found, Rows, Sieve};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

/// One list of the rows, by the place of its column.
#[derive(Clone)]
pub(in crate::stream) struct Unnest {
    pub(in crate::stream) list: usize,
    pub(in crate::stream) keep_empty: bool,
    /// The elements stand in the list's place.
    pub(in crate::stream) output: SchemaRef,
}

/// Bytes of the rows that one record may become, and that the records of one batch may become together.
const RECORD_SIZE_MAX: usize = 64 << 20;
const ROWS_SIZE_MAX: usize = 128 << 20;

impl Unnest {
    pub(in crate::stream) fn run(&self, rows: Rows, found: &mut Found) -> Rows {
        let rows = match self.fitting(rows, found) {
            Ok(rows) => rows,
            Err(nothing) => return nothing,
        };
        let lists = rows.batch.column(self.list).as_list::<i32>();
        let mut places = Vec::with_capacity(lists.values().len());
        // Of the list's elements; `None` stands for a row that has none.
        let mut elements: Vec<Option<u32>> = Vec::with_capacity(lists.values().len());
        for row in 0..lists.len() {
            let (from, to) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
            if lists.is_null(row) || from == to {
                if self.keep_empty {
                    places.push(row as u32);
                    elements.push(None);
                } else {
                    found.filtered.add(Sieve::Empty, 1);
                }
                continue;
            }
            places.extend(std::iter::repeat_n(row as u32, (to - from) as usize));
            elements.extend((from as u32..to as u32).map(Some));
        }
        let sources = places.iter().map(|place| rows.sources[*place as usize]).collect();
        let places = UInt32Array::from(places);
        let elements = UInt32Array::from(elements);
        let column = |(at, column): (usize, &ArrayRef)| match at == self.list {
            // Not the lists themselves: each would be repeated by its own length.
            true => take(lists.values(), &elements, None).expect("places are of elements"),
            false => take(column, &places, None).expect("places are of rows"),
        };
        let columns = rows.batch.columns().iter().enumerate().map(column).collect();
        let batch = RecordBatch::try_new(self.output.clone(), columns).expect("the element's type is in the schema");
        Rows { batch, sources }
    }

    /// The rows without those that would become too many: a long list beside a long text repeats the text. `Err` if all together do, with
    /// no rows in it.
    fn fitting(&self, rows: Rows, found: &mut Found) -> Result<Rows, Rows> {
        let lists = rows.batch.column(self.list).as_list::<i32>();
        let count = |row: usize| if lists.is_null(row) { 0 } else { lists.value_length(row) as usize };
        let size = |batch: &RecordBatch| -> usize {
            let others = batch.columns().iter().enumerate().filter(|(at, _)| *at != self.list);
            others.map(|(_, column)| size_of(column)).fold(0, usize::saturating_add)
        };
        let longest = (0..rows.len()).map(count).max().unwrap_or(0);
        if size(&rows.batch).saturating_mul(longest) <= RECORD_SIZE_MAX {
            return Ok(rows);
        }
        let mut of_records: Vec<(u32, usize, usize)> = Vec::new();
        for (row, source) in rows.sources.iter().enumerate() {
            let made = size(&rows.batch.slice(row, 1)).saturating_mul(count(row));
            match of_records.last_mut().filter(|(record, ..)| record == source) {
                Some((_, size, elements)) => (*size, *elements) = (size.saturating_add(made), *elements + count(row)),
                None => of_records.push((*source, made, count(row))),
            }
        }
        let (large, small): (Vec<_>, Vec<_>) = of_records.into_iter().partition(|(_, size, _)| *size > RECORD_SIZE_MAX);
        if small.len() > 1 && small.iter().map(|(_, size, _)| size).sum::<usize>() > ROWS_SIZE_MAX {
            found.is_too_wide = true;
            return Err(Rows { batch: RecordBatch::new_empty(self.output.clone()), sources: Vec::new() });
        }
        for (record, size, elements) in &large {
            let message = format!("its {elements} elements make rows of {size} bytes, more than {RECORD_SIZE_MAX}");
            let fault = Fault { reason: Reason::TooLarge, column: None, message: message.into() };
            found.faults.push((*record, fault));
        }
        let is_small = |source: &u32| large.binary_search_by_key(source, |(record, ..)| *record).is_err();
        let keep: BooleanArray = rows.sources.iter().map(|source| Some(is_small(source))).collect();
        Ok(rows.filter(&keep).expect("there is an answer a row"))
    }
}

/// Bytes of a column's values, about; of a part of a column only that part's.
fn size_of(column: &ArrayRef) -> usize {
    match column.data_type() {
        // Views share their bytes until they are written.
        DataType::Utf8View => column.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::BinaryView => column.as_binary_view().lengths().map(|length| length as usize).sum(),
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let (from, to) = (lists.value_offsets()[0], lists.value_offsets()[lists.len()]);
            4 * lists.len() + size_of(&lists.values().slice(from as usize, (to - from) as usize))
        }
        DataType::Struct(_) => column.as_struct().columns().iter().map(size_of).fold(0, usize::saturating_add),
        _ => column.to_data().get_slice_memory_size().unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ListArray, StringArray};
    use arrow::datatypes::{Field, Int32Type, Schema};
    use std::sync::Arc;

    fn unnested(text_size: usize, counts: &[usize]) -> (Rows, Found) {
        let list = |count: &usize| Some((0..*count as i32).map(Some).collect::<Vec<_>>());
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(counts.iter().map(list));
        let texts = StringArray::from_iter_values(counts.iter().map(|_| "x".repeat(text_size)));
        let fields = vec![Field::new("n", lists.data_type().clone(), true), Field::new("text", DataType::Utf8, true)];
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(lists), Arc::new(texts)]).unwrap();
        let fields = vec![Field::new("n", DataType::Int32, true), Field::new("text", DataType::Utf8, true)];
        let step = Unnest { list: 0, keep_empty: false, output: Arc::new(Schema::new(fields)) };
        let mut found = Found::default();
        let rows = Rows { batch, sources: (0..counts.len() as u32).collect() };
        (step.run(rows, &mut found), found)
    }

    #[test]
    fn a_long_list_beside_a_long_text_does_not_fill_the_memory() {
        let (rows, found) = unnested(1 << 20, &[20, 0, 300, 40]);
        assert_eq!((rows.len(), found.is_too_wide, found.filtered.of(Sieve::Empty)), (60, false, 1));
        assert_eq!((found.faults.len(), found.faults[0].0, found.faults[0].1.reason), (1, 2, Reason::TooLarge));
        let (rows, found) = unnested(1 << 20, &[50, 50, 50]);
        assert_eq!((rows.len(), found.is_too_wide, found.faults.len()), (0, true, 0));
    }

    #[test]
    fn a_very_long_list_is_not_repeated_by_its_own_length() {
        let (rows, found) = unnested(1, &[200_000, 3]);
        assert_eq!((rows.len(), found.is_too_wide, found.faults.len()), (200_003, false, 0));
    }

    #[test]
    fn a_row_has_only_the_size_of_its_own_lists() {
        let list = |count: usize| Some((0..count as i32).map(Some).collect::<Vec<_>>());
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([list(100_000), list(2), list(0)]));
        assert!(size_of(&lists) > 400_000);
        assert!(size_of(&lists.slice(1, 1)) < 100, "{}", size_of(&lists.slice(1, 1)));
    }

    #[test]
    fn rows_of_one_record_that_are_too_large_together_are_its_dead_letter() {
        let (rows, _) = unnested(1 << 20, &[1; 60]);
        // As behind another unnest: all rows are of one record.
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>((0..60).map(|_| Some(vec![Some(1), Some(2)])));
        let fields = vec![Field::new("n", lists.data_type().clone(), true), Field::new("text", DataType::Utf8, true)];
        let columns = vec![Arc::new(lists) as ArrayRef, rows.batch.column(1).clone()];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let output = rows.batch.schema();
        let mut found = Found::default();
        let step = Unnest { list: 0, keep_empty: false, output };
        let rows = step.run(Rows { batch, sources: vec![7; 60] }, &mut found);
        assert_eq!((rows.len(), found.is_too_wide, found.faults[0].0), (0, false, 7));
    }
}
