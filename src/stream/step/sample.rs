//! `sample`: keeps a share of the rows, the same ones whenever a record is read again.

use super::{Found, Rows, Sieve};
use arrow::array::BooleanArray;
use arrow::row::RowConverter;
use std::sync::Arc;

/// Of how many rows `share` is kept.
pub(in crate::stream) const SAMPLE_WHOLE: u64 = 1_000_000;

/// Keeps `share` of [`SAMPLE_WHOLE`] by a hash of the key's columns, which must be there: rows that are alike in them stay or go together.
#[derive(Clone)]
pub(in crate::stream) struct Sample {
    pub(in crate::stream) share: u32,
    /// Places of the key's columns.
    pub(in crate::stream) key: Vec<usize>,
    pub(in crate::stream) converter: Arc<RowConverter>,
}

impl Sample {
    pub(in crate::stream) fn run(&self, rows: Rows, found: &mut Found) -> Rows {
        let columns: Vec<_> = self.key.iter().map(|at| rows.batch.column(*at).clone()).collect();
        let keys = self.converter.convert_columns(&columns).expect("the converter was made for these columns");
        let keep: BooleanArray =
            keys.iter().map(|key| Some(hash(key.as_ref()) % SAMPLE_WHOLE < u64::from(self.share))).collect();
        found.filtered.add(Sieve::Sample, rows.len() - keep.true_count());
        rows.filter(&keep).expect("there is an answer a row")
    }
}

/// FNV-1a, then the finisher of splitmix64, since the low bits decide. It must never change: a replay would keep other rows.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mixed = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_same_for_ever_and_about_as_large_as_was_asked() {
        assert_eq!(hash(b"inrush"), 9_192_977_767_133_186_316);
        let kept = (0..100_000_u32).filter(|n| hash(&n.to_be_bytes()) % SAMPLE_WHOLE < 100_000).count();
        assert!((9_500..10_500).contains(&kept), "{kept}");
    }
}
