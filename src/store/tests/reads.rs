//! What a reader that catches up takes from the disk.

use super::*;

/// A store with twelve batches of 100 kB, none of them recent, and nothing else to do.
fn stored(sim: &Sim) -> (Store, Partition) {
    let store = open_still(sim);
    topic(&store, "t", &[]);
    let t = partition(&store, "t");
    for value in 0..12 {
        append(&t, batch(value, 1, 100_000, None)).unwrap();
    }
    settle(&t);
    t.read_blocking(Offset(0), 1).unwrap();
    (store, t)
}

/// Batches of one read and how many calls to the disk it took.
fn read(sim: &Sim, partition: &Partition, from: i64, size_max: usize) -> (Vec<i64>, u64) {
    let before = sim.calls();
    let slice = partition.read_blocking(Offset(from), size_max).unwrap();
    (slice.batches.iter().map(|batch| batch.base_offset().0).collect(), sim.calls() - before)
}

#[test]
fn what_does_not_fit_into_an_answer_is_not_fetched() {
    let sim = Sim::new(1);
    let (_store, t) = stored(&sim);
    let (batches, calls) = read(&sim, &t, 2, 350_000);
    assert_eq!((batches, calls), (vec![2, 3, 4], 1));
    // One batch always, however large.
    let (batches, calls) = read(&sim, &t, 2, 10);
    assert_eq!((batches, calls), (vec![2], 1));
    let (batches, _) = read(&sim, &t, 5, 0);
    assert_eq!(batches, [5]);
}

#[test]
fn an_answer_is_filled_though_a_piece_ends_within_a_batch() {
    let sim = Sim::new(1);
    let (_store, t) = stored(&sim);
    // The index has an entry each 64 KiB at most, so a walk may begin before the batch that is asked for.
    for from in 0..9 {
        let (batches, calls) = read(&sim, &t, from, 301_000);
        assert_eq!(batches, [from, from + 1, from + 2]);
        assert!(calls <= 2, "{calls}");
    }
}
