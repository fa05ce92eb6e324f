//! How many different values, about: all hashes while they are few, then HyperLogLog (Flajolet and others, 2007) with Ertl's estimator
//! ("New cardinality estimation algorithms for HyperLogLog sketches", 2017), which needs no tables.
//!
//! What it says depends on the set of values alone: not on their order, nor on how parts were merged.

/// Registers are 2 to this; the error is 1.04 by its root: 1.6 %.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// Bits of a hash that a register counts in.
const BITS: u32 = 64 - PRECISION;
/// So many values are counted exactly.
const FEW_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Distinct {
    /// Hashes, ascending.
    Few(Vec<u64>),
    Many(Box<[u8]>),
}

impl Distinct {
    pub(super) fn new() -> Distinct {
        Distinct::Few(Vec::new())
    }

    pub(super) fn add(&mut self, hash: u64) {
        match self {
            Distinct::Few(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                    self.spread();
                }
            }
            Distinct::Many(registers) => note(registers, hash),
        }
    }

    pub(super) fn merge(&mut self, other: &Distinct) {
        match (&mut *self, other) {
            (_, Distinct::Few(hashes)) => hashes.iter().for_each(|hash| self.add(*hash)),
            (Distinct::Few(hashes), Distinct::Many(registers)) => {
                let mut registers = registers.clone();
                hashes.iter().for_each(|hash| note(&mut registers, *hash));
                *self = Distinct::Many(registers);
            }
            (Distinct::Many(own), Distinct::Many(others)) => {
                own.iter_mut().zip(others).for_each(|(own, other)| *own = (*own).max(*other));
            }
        }
    }

    /// To registers, if there are too many hashes.
    fn spread(&mut self) {
        if let Distinct::Few(hashes) = self
            && hashes.len() > FEW_MAX
        {
            let mut registers = vec![0; REGISTERS].into_boxed_slice();
            hashes.iter().for_each(|hash| note(&mut registers, *hash));
            *self = Distinct::Many(registers);
        }
    }

    pub(super) fn count(&self) -> i64 {
        let registers = match self {
            Distinct::Few(hashes) => return hashes.len() as i64,
            Distinct::Many(registers) => registers,
        };
        let mut counts = [0.0_f64; BITS as usize + 2];
        registers.iter().for_each(|register| counts[*register as usize] += 1.0);
        let all = REGISTERS as f64;
        let mut z = all * tau(1.0 - counts[BITS as usize + 1] / all);
        for rank in (1..=BITS as usize).rev() {
            z = 0.5 * (z + counts[rank]);
        }
        z += all * sigma(counts[0] / all);
        (all * all / (2.0 * std::f64::consts::LN_2 * z)).round() as i64
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        match self {
            Distinct::Few(hashes) => hashes.len() * size_of::<u64>(),
            Distinct::Many(registers) => registers.len(),
        }
    }

    /// A byte that says which, then the hashes in little endian, or the registers.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Distinct::Few(hashes) => [0].into_iter().chain(hashes.iter().flat_map(|hash| hash.to_le_bytes())).collect(),
            Distinct::Many(registers) => [1].into_iter().chain(registers.iter().copied()).collect(),
        }
    }

    /// `None` if these are no such bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Distinct> {
        match bytes.split_first()? {
            (0, hashes) => {
                let (hashes, []) = hashes.as_chunks::<8>() else { return None };
                Some(Distinct::Few(hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect()))
            }
            (1, registers) => {
                let is_right =
                    registers.len() == REGISTERS && registers.iter().all(|rank| u32::from(*rank) <= BITS + 1);
                is_right.then(|| Distinct::Many(registers.into()))
            }
            _ => None,
        }
    }
}

fn note(registers: &mut [u8], hash: u64) {
    let rank = ((hash << PRECISION).leading_zeros().min(BITS) + 1) as u8;
    let register = &mut registers[(hash >> BITS) as usize];
    *register = rank.max(*register);
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample::hash;
    use super::*;

    fn of(values: impl Iterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::new();
        values.for_each(|value| distinct.add(hash(&value.to_le_bytes())));
        distinct
    }

    #[test]
    fn few_are_counted_exactly_and_many_within_three_sigma() {
        for count in [0, 1, 200, 256] {
            assert_eq!(of((0..count).chain(0..count)).count(), count as i64);
        }
        for count in [257_u64, 1_000, 5_000, 20_000, 200_000, 1_000_000] {
            let error = of(0..count).count() as f64 / count as f64 - 1.0;
            assert!(error.abs() < 0.05, "{count}: {error}");
        }
    }

    #[test]
    fn parts_in_any_order_make_the_same_as_the_whole() {
        for (first, second) in [(0..100, 50..120), (0..200, 150..400), (0..3_000, 0..50), (0..3_000, 2_000..9_000)] {
            let whole = of((first.start..first.end).chain(second.start..second.end));
            let (a, b) = (of(first), of(second));
            let merged = |one: &Distinct, other: &Distinct| {
                let mut merged = one.clone();
                merged.merge(other);
                merged
            };
            assert_eq!(merged(&a, &b), whole);
            assert_eq!(merged(&b, &a), whole);
            assert_eq!(Distinct::of_bytes(&whole.bytes()), Some(whole));
        }
        assert_eq!(Distinct::of_bytes(&[0, 1, 2]), None);
        assert_eq!(Distinct::of_bytes(&[1; 4_000]), None);
    }
}
