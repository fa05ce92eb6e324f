//! The checker: out of a history of what was sent to a log and what was read from it, all that is wrong with the log.
//!
//! After the checker that Jepsen runs against Kafka (jepsen.tests.kafka). It knows no protocol and no disk: who drives a log writes down what
//! it saw. Used by the kill, power-cut and simulator runs in `tests/`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Violations of one kind that are listed; more are counted by the caller's eyes alone.
const LISTED_MAX: usize = 20;

/// What a record carries: who sent it, and its number there. No two sends share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    pub producer: u32,
    pub number: u64,
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered; the offset where the protocol tells it.
    Ok(Option<i64>),
    /// Refused for certain: it must never be read.
    Fail,
    /// No answer, or one that leaves it open.
    Unknown,
}

/// One send, in the order in which its producer sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub value: Value,
    pub partition: i32,
    pub outcome: Outcome,
    /// May be there twice: it was sent again without a sequence that tells copies apart.
    pub may_repeat: bool,
}

/// One record that a reader saw, in the order in which it saw them.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// One pass over a partition without a seek; a new number after each.
    pub pass: u32,
    pub partition: i32,
    pub offset: i64,
    pub value: Value,
}

/// One answer to "where does the log end?", in the order in which one observer asked.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    pub observer: u32,
    pub partition: i32,
    pub offset: i64,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub sent: Vec<Sent>,
    pub reads: Vec<Read>,
    pub tails: Vec<Tail>,
    /// First offset that retention left, where it ran.
    pub starts: BTreeMap<i32, i64>,
}

/// What a log must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// One offset was seen with two values, by answers or by reads.
    InconsistentOffset { partition: i32, offset: i64, values: [Value; 2] },
    /// Answered, at or below what was read of its partition, and read by nobody.
    LostWrite { partition: i32, value: Value, offset: Option<i64> },
    /// Answered, above all that was read: the last read from the start did not reach it.
    Unseen { partition: i32, value: Value, offset: Option<i64> },
    /// One value at two offsets.
    Duplicate { partition: i32, value: Value, offsets: Vec<i64> },
    /// Read, though its send was refused.
    AbortedRead { partition: i32, value: Value },
    /// Read, though nobody sent it, or it was sent to another partition.
    PhantomRead { partition: i32, offset: i64, value: Value },
    /// Answers to one producer fall.
    NonmonotonicSend { partition: i32, value: Value, offsets: [i64; 2] },
    /// A reader jumped over a record that exists.
    PollSkip { pass: u32, partition: i32, from: i64, to: i64, skipped: i64 },
    /// A reader went back, or saw an offset twice.
    PollNonmonotonic { pass: u32, partition: i32, offsets: [i64; 2] },
    /// The log's end went back.
    TailRegress { observer: u32, partition: i32, offsets: [i64; 2] },
    /// Records of one producer stand in another order than they were sent in.
    OutOfOrder { partition: i32, values: [Value; 2] },
}

impl History {
    /// Takes over what another thread saw; the order inside each is kept.
    pub fn merge(&mut self, other: History) {
        self.sent.extend(other.sent);
        self.reads.extend(other.reads);
        self.tails.extend(other.tails);
        for (partition, start) in other.starts {
            let known = self.starts.entry(partition).or_insert(start);
            *known = (*known).max(start);
        }
    }

    /// Sends that were answered.
    pub fn answered(&self) -> usize {
        self.sent.iter().filter(|sent| matches!(sent.outcome, Outcome::Ok(_))).count()
    }

    /// Everything that is wrong; empty if the log kept its word. The last pass of each partition is taken for a read of the whole.
    pub fn check(&self) -> Vec<Violation> {
        let seen = Seen::of(self);
        let mut found = Vec::new();
        limited(&mut found, seen.inconsistent.iter().cloned());
        limited(&mut found, self.missing(&seen));
        limited(&mut found, self.copies(&seen));
        limited(&mut found, self.strangers(&seen));
        limited(&mut found, self.falling_answers());
        limited(&mut found, self.jumps(&seen));
        limited(&mut found, self.falling_tails());
        limited(&mut found, disorder(&seen));
        found
    }

    fn missing(&self, seen: &Seen) -> Vec<Violation> {
        let mut missing = Vec::new();
        for Sent { value, partition, outcome, .. } in &self.sent {
            let Outcome::Ok(offset) = *outcome else { continue };
            let is_retained =
                offset.is_none_or(|offset| self.starts.get(partition).is_none_or(|start| offset >= *start));
            if !is_retained || seen.places.contains_key(&(*partition, *value)) {
                continue;
            }
            let highest = seen.highest_read.get(partition).copied().unwrap_or(-1);
            let (partition, value) = (*partition, *value);
            missing.push(match offset {
                Some(at) if at > highest => Violation::Unseen { partition, value, offset },
                _ => Violation::LostWrite { partition, value, offset },
            });
        }
        missing
    }

    fn copies(&self, seen: &Seen) -> Vec<Violation> {
        let repeated: BTreeSet<Value> =
            self.sent.iter().filter(|sent| sent.may_repeat).map(|sent| sent.value).collect();
        let many = seen.places.iter().filter(|((_, value), offsets)| offsets.len() > 1 && !repeated.contains(value));
        many.map(|((partition, value), offsets)| Violation::Duplicate {
            partition: *partition,
            value: *value,
            offsets: offsets.iter().copied().collect(),
        })
        .collect()
    }

    fn strangers(&self, seen: &Seen) -> Vec<Violation> {
        let sent: HashMap<(i32, Value), Outcome> =
            self.sent.iter().map(|sent| ((sent.partition, sent.value), sent.outcome)).collect();
        let judge = |((partition, value), offsets): (&(i32, Value), &BTreeSet<i64>)| {
            let (partition, value) = (*partition, *value);
            match sent.get(&(partition, value)) {
                Some(Outcome::Fail) => Some(Violation::AbortedRead { partition, value }),
                Some(_) => None,
                None => {
                    Some(Violation::PhantomRead { partition, value, offset: offsets.first().copied().unwrap_or(-1) })
                }
            }
        };
        seen.places.iter().filter_map(judge).collect()
    }

    fn falling_answers(&self) -> Vec<Violation> {
        let mut last: HashMap<(u32, i32), i64> = HashMap::new();
        let mut falls = Vec::new();
        for Sent { value, partition, outcome, .. } in &self.sent {
            let Outcome::Ok(Some(offset)) = *outcome else { continue };
            if let Some(before) = last.insert((value.producer, *partition), offset)
                && before >= offset
            {
                let offsets = [before, offset];
                falls.push(Violation::NonmonotonicSend { partition: *partition, value: *value, offsets });
            }
        }
        falls
    }

    fn jumps(&self, seen: &Seen) -> Vec<Violation> {
        let mut last: HashMap<(u32, i32), i64> = HashMap::new();
        let mut jumps = Vec::new();
        for Read { pass, partition, offset, .. } in &self.reads {
            let (pass, partition, offset) = (*pass, *partition, *offset);
            let Some(before) = last.insert((pass, partition), offset) else { continue };
            if offset <= before {
                jumps.push(Violation::PollNonmonotonic { pass, partition, offsets: [before, offset] });
            } else if let Some(((_, skipped), _)) =
                seen.values.range((partition, before + 1)..(partition, offset)).next()
            {
                jumps.push(Violation::PollSkip { pass, partition, from: before, to: offset, skipped: *skipped });
            }
        }
        jumps
    }

    fn falling_tails(&self) -> Vec<Violation> {
        let mut last: HashMap<(u32, i32), i64> = HashMap::new();
        let mut falls = Vec::new();
        for Tail { observer, partition, offset } in &self.tails {
            if let Some(before) = last.insert((*observer, *partition), *offset)
                && before > *offset
            {
                let (observer, partition, offsets) = (*observer, *partition, [before, *offset]);
                falls.push(Violation::TailRegress { observer, partition, offsets });
            }
        }
        falls
    }
}

/// What answers and reads say together.
struct Seen {
    /// Value by partition and offset.
    values: BTreeMap<(i32, i64), Value>,
    /// Offsets at which a value was read.
    places: BTreeMap<(i32, Value), BTreeSet<i64>>,
    highest_read: HashMap<i32, i64>,
    inconsistent: Vec<Violation>,
}

impl Seen {
    fn of(history: &History) -> Seen {
        let mut seen = Seen {
            values: BTreeMap::new(),
            places: BTreeMap::new(),
            highest_read: HashMap::new(),
            inconsistent: Vec::new(),
        };
        for Read { partition, offset, value, .. } in &history.reads {
            seen.note(*partition, *offset, *value);
            seen.places.entry((*partition, *value)).or_default().insert(*offset);
            let highest = seen.highest_read.entry(*partition).or_insert(*offset);
            *highest = (*highest).max(*offset);
        }
        for Sent { value, partition, outcome, .. } in &history.sent {
            if let Outcome::Ok(Some(offset)) = outcome {
                seen.note(*partition, *offset, *value);
            }
        }
        seen
    }

    fn note(&mut self, partition: i32, offset: i64, value: Value) {
        let known = *self.values.entry((partition, offset)).or_insert(value);
        if known != value {
            self.inconsistent.push(Violation::InconsistentOffset { partition, offset, values: [known, value] });
        }
    }
}

/// First copies of each producer's records, by offset: their numbers must rise.
fn disorder(seen: &Seen) -> Vec<Violation> {
    let first =
        seen.places.iter().filter_map(|((partition, value), offsets)| Some((*partition, *offsets.first()?, *value)));
    let mut by_offset: Vec<(i32, i64, Value)> = first.collect();
    by_offset.sort_unstable();
    let mut last: HashMap<(i32, u32), Value> = HashMap::new();
    let mut wrong = Vec::new();
    for (partition, _, value) in by_offset {
        if let Some(before) = last.insert((partition, value.producer), value)
            && before.number > value.number
        {
            wrong.push(Violation::OutOfOrder { partition, values: [before, value] });
        }
    }
    wrong
}

fn limited(found: &mut Vec<Violation>, more: impl IntoIterator<Item = Violation>) {
    found.extend(more.into_iter().take(LISTED_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(producer: u32, number: u64) -> Value {
        Value { producer, number }
    }

    fn sent(producer: u32, number: u64, outcome: Outcome) -> Sent {
        Sent { value: value(producer, number), partition: 0, outcome, may_repeat: false }
    }

    fn read(pass: u32, offset: i64, value: Value) -> Read {
        Read { pass, partition: 0, offset, value }
    }

    /// Two producers, four records, read twice, the end asked for three times.
    fn right() -> History {
        let log = [value(1, 0), value(2, 0), value(1, 1), value(2, 1)];
        let pass = |pass| log.iter().enumerate().map(move |(offset, value)| read(pass, offset as i64, *value));
        History {
            sent: vec![
                sent(1, 0, Outcome::Ok(Some(0))),
                sent(1, 1, Outcome::Ok(Some(2))),
                sent(2, 0, Outcome::Ok(None)),
                sent(2, 1, Outcome::Unknown),
                sent(2, 2, Outcome::Fail),
                sent(2, 3, Outcome::Unknown),
            ],
            reads: pass(0).chain(pass(1)).collect(),
            tails: [1, 1, 4].map(|offset| Tail { observer: 0, partition: 0, offset }).into(),
            starts: BTreeMap::new(),
        }
    }

    /// What the checker says about the right history after `injure`.
    fn after(injure: impl FnOnce(&mut History)) -> Vec<Violation> {
        let mut history = right();
        injure(&mut history);
        history.check()
    }

    #[test]
    fn a_right_history_has_no_violation() {
        assert_eq!(right().check(), []);
        assert_eq!(right().answered(), 3);
        let mut both = right();
        both.merge(History { starts: BTreeMap::from([(0, 0)]), ..History::default() });
        assert_eq!(both.check(), []);
    }

    #[test]
    fn two_values_at_one_offset_are_inconsistent() {
        let by_reads = after(|history| history.reads[6].value = value(2, 3));
        let values = [value(1, 1), value(2, 3)];
        assert!(by_reads.contains(&Violation::InconsistentOffset { partition: 0, offset: 2, values }), "{by_reads:?}");
        let by_answer = after(|history| history.sent[3].outcome = Outcome::Ok(Some(2)));
        let values = [value(1, 1), value(2, 1)];
        assert!(
            by_answer.contains(&Violation::InconsistentOffset { partition: 0, offset: 2, values }),
            "{by_answer:?}"
        );
    }

    #[test]
    fn an_answered_write_that_nobody_reads_is_lost() {
        let with_offset = after(|history| history.reads.retain(|read| read.value != value(1, 1)));
        assert_eq!(with_offset[0], Violation::LostWrite { partition: 0, value: value(1, 1), offset: Some(2) });
        // The answer told where it stands: who read on both sides of it jumped over it.
        assert_eq!(with_offset[1], Violation::PollSkip { pass: 0, partition: 0, from: 1, to: 3, skipped: 2 });
        let without = after(|history| history.reads.retain(|read| read.value != value(2, 0)));
        assert_eq!(without, [Violation::LostWrite { partition: 0, value: value(2, 0), offset: None }]);
    }

    #[test]
    fn an_answered_write_above_all_reads_is_unseen() {
        let found = after(|history| history.sent.push(sent(1, 2, Outcome::Ok(Some(4)))));
        assert_eq!(found, [Violation::Unseen { partition: 0, value: value(1, 2), offset: Some(4) }]);
    }

    #[test]
    fn what_retention_took_is_not_lost() {
        let cut = |history: &mut History| history.reads.retain(|read| read.offset > 0);
        assert_eq!(after(cut), [Violation::LostWrite { partition: 0, value: value(1, 0), offset: Some(0) }]);
        let known = after(|history| {
            cut(history);
            history.starts.insert(0, 1);
        });
        assert_eq!(known, []);
    }

    #[test]
    fn one_value_at_two_offsets_is_a_duplicate_unless_it_may_repeat() {
        let again = |history: &mut History| history.reads.push(read(1, 4, value(2, 1)));
        assert_eq!(after(again), [Violation::Duplicate { partition: 0, value: value(2, 1), offsets: vec![3, 4] }]);
        let allowed = after(|history| {
            again(history);
            history.sent[3].may_repeat = true;
        });
        assert_eq!(allowed, []);
    }

    #[test]
    fn a_refused_write_that_is_read_is_an_aborted_read() {
        let found = after(|history| history.reads.push(read(1, 4, value(2, 2))));
        assert_eq!(found, [Violation::AbortedRead { partition: 0, value: value(2, 2) }]);
    }

    #[test]
    fn what_nobody_sent_there_is_a_phantom() {
        let found = after(|history| history.reads.push(read(1, 4, value(9, 9))));
        assert_eq!(found, [Violation::PhantomRead { partition: 0, offset: 4, value: value(9, 9) }]);
        let elsewhere = Read { pass: 0, partition: 7, offset: 0, value: value(1, 0) };
        let found = after(|history| history.reads.push(elsewhere));
        assert_eq!(found, [Violation::PhantomRead { partition: 7, offset: 0, value: value(1, 0) }]);
    }

    #[test]
    fn answers_of_one_producer_must_rise() {
        let found = after(|history| history.sent.swap(0, 1));
        assert_eq!(found, [Violation::NonmonotonicSend { partition: 0, value: value(1, 0), offsets: [2, 0] }]);
    }

    #[test]
    fn a_reader_neither_skips_nor_goes_back() {
        let skip = after(|history| {
            history.reads.remove(5);
        });
        assert_eq!(skip, [Violation::PollSkip { pass: 1, partition: 0, from: 0, to: 2, skipped: 1 }]);
        let back = after(|history| history.reads.push(read(1, 3, value(2, 1))));
        assert_eq!(back, [Violation::PollNonmonotonic { pass: 1, partition: 0, offsets: [3, 3] }]);
    }

    #[test]
    fn the_end_of_the_log_never_falls() {
        let found = after(|history| history.tails.push(Tail { observer: 0, partition: 0, offset: 3 }));
        assert_eq!(found, [Violation::TailRegress { observer: 0, partition: 0, offsets: [4, 3] }]);
        assert_eq!(after(|history| history.tails.push(Tail { observer: 1, partition: 0, offset: 3 })), []);
    }

    #[test]
    fn records_of_one_producer_stand_in_the_order_they_were_sent_in() {
        let found = after(|history| {
            for read in &mut history.reads {
                read.value = match read.value {
                    Value { producer: 2, number: 0 } => value(2, 1),
                    Value { producer: 2, number: 1 } => value(2, 0),
                    other => other,
                };
            }
        });
        assert_eq!(found, [Violation::OutOfOrder { partition: 0, values: [value(2, 1), value(2, 0)] }]);
    }
}
