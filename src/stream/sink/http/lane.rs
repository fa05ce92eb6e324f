//! Rows of one source partition that wait to be sent, and the batches that they make.

use super::settings::HttpOutput;
use crate::record::Record;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// So many batches' bytes or rows wait in a lane, and one read of the log on top.
const BATCHES_WAITING_MAX: usize = 2;

/// All rows at one offset: they are sent, taken and refused together. Of a mark and of windows, which may let go much at one offset, those
/// of one record.
pub(super) struct Unit {
    pub(super) offset: i64,
    pub(super) rows: u64,
    /// A JSON object a line, each with its line end.
    pub(super) lines: Vec<u8>,
    /// What the rows were made of.
    pub(super) records: Vec<Record>,
    /// Time has let the rows go; others with this offset may follow behind a cut.
    pub(super) is_mark: bool,
    /// Among the units of its mark, or of its moment, or 0.
    pub(super) place: u32,
}

/// Units that are sent in one request.
pub(super) struct Batch {
    pub(super) units: Vec<Arc<Unit>>,
    /// Nobody has begun to send it yet, and it is to be noted before.
    pub(super) is_new: bool,
}

/// What waits.
#[derive(Default)]
struct Waiting {
    units: VecDeque<Arc<Unit>>,
    size: usize,
    rows: u64,
    /// Every row below it has come.
    passed: i64,
    /// Batches of a run before this one, ascending: they are made the same way again.
    begun: VecDeque<Range<i64>>,
    is_hurried: bool,
}

/// One partition's queue between the pipeline's thread and the task that sends.
pub(super) struct Lane {
    waiting: Mutex<Waiting>,
    more: Notify,
    rows_max: u64,
    size_max: usize,
    settings: Arc<HttpOutput>,
}

impl Lane {
    pub(super) fn new(settings: &Arc<HttpOutput>, begun: VecDeque<Range<i64>>) -> Lane {
        Lane {
            waiting: Mutex::new(Waiting { begun, ..Waiting::default() }),
            more: Notify::new(),
            rows_max: settings.batch_rows as u64,
            size_max: settings.batch_size,
            settings: settings.clone(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.takes_more(&self.waiting())
    }

    fn takes_more(&self, waiting: &Waiting) -> bool {
        // A batch that was begun comes whole, also if batches have fewer rows by now.
        let first = waiting.units.front();
        let is_begun =
            waiting.begun.front().is_some_and(|range| first.is_some_and(|first| range.contains(&first.offset)));
        let has_few = waiting.rows < self.rows_max * BATCHES_WAITING_MAX as u64;
        waiting.size < self.size_max * BATCHES_WAITING_MAX && (has_few || is_begun)
    }

    /// Takes units behind all others; every row below `passed` has come then.
    pub(super) fn push(&self, units: &[Arc<Unit>], passed: i64) {
        let mut waiting = self.waiting();
        waiting.size += units.iter().map(|unit| unit.lines.len()).sum::<usize>();
        waiting.rows += units.iter().map(|unit| unit.rows).sum::<u64>();
        waiting.units.extend(units.iter().cloned());
        waiting.passed = passed.max(waiting.passed);
        waiting.is_hurried = false;
        drop(waiting);
        self.more.notify_one();
    }

    /// What waits is sent without waiting for more.
    pub(super) fn hurry(&self) {
        self.waiting().is_hurried = true;
        self.more.notify_one();
    }

    /// The next batch, as soon as it is full or its first row has waited long enough.
    pub(super) async fn next(&self) -> Batch {
        let mut since: Option<Instant> = None;
        loop {
            let late = since.map(|since| since + self.settings.linger);
            let is_late = late.is_some_and(|late| Instant::now() >= late);
            {
                let mut waiting = self.waiting();
                if let Some(batch) = self.form(&mut waiting, is_late) {
                    return batch;
                }
                if !waiting.units.is_empty() {
                    since.get_or_insert_with(Instant::now);
                }
            }
            match since.filter(|_| !is_late) {
                Some(since) => {
                    let _ = tokio::time::timeout_at(since + self.settings.linger, self.more.notified()).await;
                }
                None => self.more.notified().await,
            }
        }
    }

    fn form(&self, waiting: &mut Waiting, is_late: bool) -> Option<Batch> {
        let first = waiting.units.front()?.clone();
        while waiting.begun.front().is_some_and(|range| range.end <= first.offset) {
            waiting.begun.pop_front();
        }
        let is_new =
            !first.is_mark && first.place == 0 && waiting.begun.front().is_none_or(|range| first.offset < range.start);
        let count = match waiting.begun.front() {
            Some(range) if !first.is_mark && range.start <= first.offset => {
                let end = range.end;
                let count = waiting.units.iter().take_while(|unit| !unit.is_mark && unit.offset < end).count();
                let is_whole = count < waiting.units.len() || waiting.passed >= end;
                // Without room the rest of it would never come.
                // Nor would it where whoever hurries waits for what is here.
                if !is_whole && !waiting.is_hurried && self.takes_more(waiting) {
                    return None;
                }
                let is_one_offset = waiting.units[count - 1].offset == first.offset;
                let count = if is_one_offset { self.whole(&waiting.units, &first, end).0.min(count) } else { count };
                if waiting.units.get(count).is_none_or(|next| next.offset >= end) {
                    waiting.begun.pop_front();
                }
                count
            }
            next => {
                let end = next.map_or(i64::MAX, |range| range.start);
                let (count, is_full) = self.whole(&waiting.units, &first, end);
                if !is_full && !is_late && !waiting.is_hurried && count == waiting.units.len() && !first.is_mark {
                    return None;
                }
                count
            }
        };
        let units: Vec<Arc<Unit>> = waiting.units.drain(..count).collect();
        waiting.size -= units.iter().map(|unit| unit.lines.len()).sum::<usize>();
        waiting.rows -= units.iter().map(|unit| unit.rows).sum::<u64>();
        Some(Batch { units, is_new })
    }

    /// As [`Lane::fitting`], in whole offsets or a part of one alone: a batch of windows that was begun is known by its offsets, and all rows
    /// of one come at once.
    fn whole(&self, units: &VecDeque<Arc<Unit>>, first: &Unit, end: i64) -> (usize, bool) {
        let (count, is_full) = self.fitting(units, first, end);
        let of_first = units.iter().take(count + 1).take_while(|unit| unit.offset == first.offset).count();
        if first.is_mark {
            (count, is_full)
        } else if first.place > 0 || of_first > count {
            (count.min(of_first), true)
        } else {
            let is_whole = |unit: &&Arc<Unit>| units.get(count).is_none_or(|next| next.offset != unit.offset);
            (units.iter().take(count).filter(is_whole).count(), is_full)
        }
    }

    /// How many of the first units make one batch, at least one, and whether no more would fit.
    fn fitting(&self, units: &VecDeque<Arc<Unit>>, first: &Unit, end: i64) -> (usize, bool) {
        let (mut rows, mut size, mut count) = (0, 0, 0);
        for unit in units.iter().take_while(|unit| unit.is_mark == first.is_mark && unit.offset < end) {
            rows += unit.rows;
            size += unit.lines.len();
            if count > 0 && (rows > self.rows_max || size > self.size_max) {
                return (count, true);
            }
            count += 1;
        }
        (count, rows >= self.rows_max || size >= self.size_max)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, Mistakes};
    use std::path::Path;

    fn settings(more: &str) -> Arc<HttpOutput> {
        let text = format!("http = \"http://127.0.0.1:9\"\n{more}");
        let mistakes = Mistakes::new(Path::new("p.toml"), &text);
        let document = Document::parse(&mistakes).unwrap();
        let read = HttpOutput::read(&document.root(&mistakes));
        assert!(mistakes.is_empty(), "{more}");
        Arc::new(read.unwrap())
    }

    fn unit(offset: i64, rows: u64) -> Arc<Unit> {
        Arc::new(Unit {
            offset,
            rows,
            lines: b"{}\n".repeat(rows as usize),
            records: Vec::new(),
            is_mark: false,
            place: 0,
        })
    }

    fn offsets(batch: &Batch) -> Vec<i64> {
        batch.units.iter().map(|unit| unit.offset).collect()
    }

    fn lane(more: &str, begun: &[(i64, i64)]) -> Lane {
        Lane::new(&settings(more), begun.iter().map(|(first, next)| *first..*next).collect())
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn a_batch_ends_where_it_is_full_and_never_inside_a_record() {
        run(async {
            let lane = lane("batch = \"4\"\nlinger = \"10s\"", &[]);
            lane.push(&[unit(0, 3), unit(1, 1), unit(2, 3), unit(5, 3), unit(6, 9)], 7);
            assert_eq!(offsets(&lane.next().await), [0, 1]);
            assert_eq!(offsets(&lane.next().await), [2]);
            assert_eq!(offsets(&lane.next().await), [5]);
            let long = lane.next().await;
            assert_eq!((offsets(&long), long.is_new), (vec![6], true));
        });
    }

    #[test]
    fn a_row_waits_for_others_for_the_linger_and_no_longer() {
        run(async {
            let lane = lane("linger = \"80ms\"", &[]);
            let began = Instant::now();
            lane.push(&[unit(0, 1)], 1);
            assert_eq!(offsets(&lane.next().await), [0]);
            assert!(began.elapsed().as_millis() >= 80, "{:?}", began.elapsed());
            lane.push(&[unit(1, 1)], 2);
            lane.hurry();
            assert_eq!(offsets(&lane.next().await), [1]);
        });
    }

    #[test]
    fn batches_that_were_begun_are_made_again() {
        run(async {
            let lane = lane("batch = \"100\"\nlinger = \"10ms\"", &[(3, 5), (8, 20)]);
            lane.push(&[unit(3, 1), unit(4, 1), unit(8, 1), unit(10, 1)], 11);
            let first = lane.next().await;
            assert_eq!((offsets(&first), first.is_new), (vec![3, 4], false));
            // What belongs to it may still come.
            let rest = tokio::time::timeout(std::time::Duration::from_millis(100), lane.next()).await;
            assert!(rest.is_err());
            lane.push(&[], 20);
            let second = lane.next().await;
            assert_eq!((offsets(&second), second.is_new), (vec![8, 10], false));
            lane.push(&[unit(25, 1)], 26);
            let third = lane.next().await;
            assert_eq!((offsets(&third), third.is_new), (vec![25], true));
        });
    }

    #[test]
    fn a_moment_of_windows_is_sent_in_parts_and_again_in_the_same_ones() {
        let part = |offset, place| {
            let lines = b"{}\n".to_vec();
            Arc::new(Unit { offset, rows: 1, lines, records: Vec::new(), is_mark: false, place })
        };
        let moments = [(5, 2), (6, 1), (7, 7), (8, 1), (9, 1)];
        let units: Vec<_> =
            moments.iter().flat_map(|(offset, count)| (0..*count).map(|place| part(*offset, place))).collect();
        let wanted = [vec![5, 5, 6], vec![7; 3], vec![7; 3], vec![7], vec![8, 9]];
        run(async {
            let first = lane("batch = \"3\"\nlinger = \"10ms\"", &[]);
            first.push(&units, 10);
            let mut begun = Vec::new();
            for wanted in &wanted {
                let batch = first.next().await;
                assert_eq!(offsets(&batch), *wanted);
                begun.extend(batch.is_new.then(|| (wanted[0], wanted[wanted.len() - 1] + 1)));
            }
            assert_eq!(begun, [(5, 7), (7, 8), (8, 10)]);
            let second = lane("batch = \"3\"\nlinger = \"10ms\"", &begun);
            second.push(&units, 10);
            for wanted in wanted {
                let batch = second.next().await;
                assert_eq!((offsets(&batch), batch.is_new), (wanted, false));
            }
        });
    }

    #[test]
    fn a_begun_batch_whose_rest_does_not_come_goes_when_somebody_waits_for_it() {
        run(async {
            let lane = lane("batch = \"100\"", &[(3, 9)]);
            lane.push(&[unit(3, 1), unit(4, 1)], 5);
            lane.hurry();
            let next = tokio::time::timeout(std::time::Duration::from_secs(5), lane.next()).await;
            assert_eq!(next.map(|batch| offsets(&batch)).ok(), Some(vec![3, 4]));
        });
    }

    #[test]
    fn a_begun_batch_comes_whole_though_batches_have_fewer_rows_by_now() {
        run(async {
            let lane = lane("batch = \"2\"\nlinger = \"10ms\"", &[(0, 20)]);
            lane.push(&(0..10).map(|at| unit(at, 1)).collect::<Vec<_>>(), 10);
            assert!(lane.has_room(), "the rest of it is awaited");
            let early = tokio::time::timeout(std::time::Duration::from_millis(100), lane.next()).await;
            assert!(early.is_err());
            lane.push(&(10..30).map(|at| unit(at, 1)).collect::<Vec<_>>(), 30);
            assert_eq!(offsets(&lane.next().await), (0..20).collect::<Vec<_>>());
            assert!(!lane.has_room(), "ten rows are more than two batches");
            assert_eq!(offsets(&lane.next().await), [20, 21]);
        });
    }

    #[test]
    fn what_comes_before_a_begun_batch_is_not_mixed_with_it() {
        run(async {
            let lane = lane("batch = \"100\"\nlinger = \"10ms\"", &[(8, 20)]);
            lane.push(&[unit(5, 1), unit(8, 1), unit(19, 1), unit(20, 1)], 21);
            assert_eq!(offsets(&lane.next().await), [5]);
            assert_eq!(offsets(&lane.next().await), [8, 19]);
        });
    }
}
