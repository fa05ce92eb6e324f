//! Percentiles of numbers, about: a count for each stretch of a 64th of a power of two, as HdrHistogram and DDSketch have it, so that a
//! value is off by 0.8 % at most. Stretches are a float's own first bits: no logarithm, which two machines might round differently.
//!
//! What it says depends on the values alone: not on their order, nor on how parts were merged.

use std::collections::BTreeMap;

/// Bits of a float that are left out: of its 52 bits of fraction the first 6 count.
const DROPPED: u32 = 52 - 6;
/// What a product of floats may be off by, and more.
const ROUNDING: f64 = 1e-12;
/// Memory of one count, about.
const COUNT_SIZE: usize = 24;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Percentile {
    /// By stretch, those below zero negative. Zero is one of its own, with what is nearly zero.
    counts: BTreeMap<i32, u64>,
}

impl Percentile {
    /// A number; NaN counts as the greatest.
    pub(super) fn add(&mut self, value: f64) {
        let value = if value.is_nan() { f64::INFINITY } else { value };
        let stretch = (value.abs().to_bits() >> DROPPED) as i32;
        *self.counts.entry(if value < 0.0 { -stretch } else { stretch }).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Percentile) {
        for (stretch, count) in &other.counts {
            *self.counts.entry(*stretch).or_default() += count;
        }
    }

    /// The value that `share` of the values do not exceed; none of none.
    pub(super) fn at(&self, share: f64) -> Option<f64> {
        let all: u64 = self.counts.values().sum();
        // 0.07 of 100 is a little more than 7 in floats.
        let exact = share * all as f64;
        let rank = ((exact - exact * ROUNDING).ceil() as u64).clamp(1, all.max(1));
        let mut below = 0;
        let stretch = self.counts.iter().find_map(|(stretch, count)| {
            below += count;
            (below >= rank).then_some(*stretch)
        })?;
        let edge = |stretch: u64| f64::from_bits(stretch << DROPPED);
        let from = edge(u64::from(stretch.unsigned_abs()));
        let to = edge(u64::from(stretch.unsigned_abs()) + 1);
        let middle = if stretch == 0 || !to.is_finite() { from } else { from + (to - from) / 2.0 };
        Some(if stretch < 0 { -middle } else { middle })
    }

    /// Bytes on the heap, about.
    pub(super) fn size(&self) -> usize {
        self.counts.len() * COUNT_SIZE
    }

    /// Stretch (4 bytes) and count (8) of each, in little endian.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let one = |(stretch, count): (&i32, &u64)| [&stretch.to_le_bytes()[..], &count.to_le_bytes()[..]].concat();
        self.counts.iter().flat_map(one).collect()
    }

    /// `None` if these are no such bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Percentile> {
        let (all, []) = bytes.as_chunks::<12>() else { return None };
        let one = |bytes: &[u8; 12]| {
            let (stretch, count) = bytes.split_at(4);
            Some((i32::from_le_bytes(stretch.try_into().ok()?), u64::from_le_bytes(count.try_into().ok()?)))
        };
        Some(Percentile { counts: all.iter().map(one).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Percentile {
        let mut percentile = Percentile::default();
        values.iter().for_each(|value| percentile.add(*value));
        percentile
    }

    #[test]
    fn it_is_off_by_less_than_a_hundredth_wherever_the_values_lie() {
        let mut random = fastrand::Rng::with_seed(3);
        for scale in [1e-9, 1.0, 1e12] {
            let mut values: Vec<f64> = (0..10_001).map(|_| (random.f64() - 0.3) * random.f64() * scale).collect();
            let found = of(&values);
            values.sort_unstable_by(f64::total_cmp);
            for share in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0] {
                let right = values[((share * 10_001.0_f64).ceil() as usize).clamp(1, 10_001) - 1];
                let told = found.at(share).unwrap();
                assert!((told - right).abs() <= right.abs() * 0.01, "{share}: {told} for {right}");
            }
        }
    }

    #[test]
    fn what_is_no_common_number_has_its_place() {
        assert_eq!(of(&[]).at(0.5), None);
        assert_eq!(of(&[0.0, -0.0]).at(0.5), Some(0.0));
        assert_eq!(of(&[1.0, f64::NAN]).at(1.0), Some(f64::INFINITY));
        assert_eq!(of(&[f64::NEG_INFINITY, 1.0]).at(0.0), Some(f64::NEG_INFINITY));
        assert!(of(&[f64::MAX]).at(0.5).unwrap().is_finite());
    }

    #[test]
    fn a_rank_is_not_moved_by_how_floats_round() {
        // Each number lies in a stretch of its own.
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        for percent in 1..=100_u32 {
            let told = of(&values).at(f64::from(percent) / 100.0).unwrap();
            assert!((told - f64::from(percent)).abs() < 0.5 + f64::from(percent) / 128.0, "p{percent}: {told}");
        }
        assert!((of(&values).at(0.07).unwrap() - 7.0).abs() < 0.5);
    }

    #[test]
    fn parts_make_the_same_as_the_whole() {
        let values: Vec<f64> = (0..500).map(|n| f64::from(n * 37 % 101) - 20.0).collect();
        let mut merged = of(&values[300..]);
        merged.merge(&of(&values[..300]));
        assert_eq!(merged, of(&values));
        assert_eq!(Percentile::of_bytes(&merged.bytes()), Some(merged));
        assert_eq!(Percentile::of_bytes(&[0; 13]), None);
    }
}
