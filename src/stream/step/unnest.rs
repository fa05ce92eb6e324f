//! `unnest`: a row for each element of a list.

use super::{Found, Rows, Sieve};
use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// One list of the rows, by the place of its column.
#[derive(Clone)]
pub(in crate::stream) struct Unnest {
    pub(in crate::stream) list: usize,
    pub(in crate::stream) keep_empty: bool,
    /// The elements stand in the list's place.
    pub(in crate::stream) output: SchemaRef,
}

impl Unnest {
    pub(in crate::stream) fn run(&self, rows: Rows, found: &mut Found) -> Rows {
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
        let columns = take_record_batch(&rows.batch, &UInt32Array::from(places)).expect("places are of rows");
        let elements: ArrayRef =
            take(lists.values(), &UInt32Array::from(elements), None).expect("places are of elements");
        let mut columns = columns.columns().to_vec();
        columns[self.list] = elements;
        let batch = RecordBatch::try_new(self.output.clone(), columns).expect("the element's type is in the schema");
        Rows { batch, sources }
    }
}
