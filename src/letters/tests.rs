//! Letters in a real store: found, counted, noted, sent on, dropped.

pub(crate) mod bench;

use super::*;
use crate::record::{BatchBuilder, Codec, NewRecord};
use crate::store::Append;
use bench::Bench;

impl Bench {
    /// One letter a reason, of the pipeline `p`; their values are their numbers.
    fn send(&self, topic: &Topic, partition: i32, reasons: &[&str]) {
        for (at, reason) in reasons.iter().enumerate() {
            let value = at.to_string();
            let origin = (at as i64 + 100).to_be_bytes();
            let headers: [(&[u8], Option<&[u8]>); 7] = [
                (b"kept", Some(b"yes")),
                (b"kafka_dlt-original-topic", Some(b"in")),
                (b"kafka_dlt-original-offset", Some(&origin)),
                (b"inrush-dlt-pipeline", Some(b"p")),
                (b"inrush-dlt-step", Some(b"columns")),
                (b"inrush-dlt-output", Some(b"topic a, parquet b")),
                (b"inrush-dlt-reason", Some(reason.as_bytes())),
            ];
            let (timestamp, value) = (at as i64 * 1_000, Some(value.as_bytes()));
            self.append(topic, partition, NewRecord { timestamp, key: Some(b"k"), value, headers: &headers });
        }
    }

    fn open(&self, topic: &Topic) -> Vec<i64> {
        let chosen = self.letters.choose(topic, &Filter::default(), false, |_| true).unwrap();
        (0..100).filter(|offset| is_in(&chosen.offsets, 0, *offset)).collect()
    }

    fn drop_some(&self, topic: &Topic, filter: &Filter, is_dry: bool) -> Dropped {
        self.runtime.block_on(self.letters.drop_letters(topic, filter, &self.letters.ends(topic), is_dry)).unwrap()
    }
}

fn of(reason: &str) -> Filter {
    Filter { reason: Some(reason.to_owned()), ..Filter::default() }
}

#[test]
fn each_filter_chooses_its_letters() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 2);
    bench.send(&topic, 0, &["not-json", "overflow", "not-json"]);
    bench.send(&topic, 1, &["overflow"]);
    let count = |filter: Filter| bench.letters.choose(&topic, &filter, false, |_| true).unwrap().count;
    assert_eq!(count(Filter::default()), 4);
    assert_eq!(count(of("overflow")), 2);
    assert_eq!(count(Filter { partition: Some(0), ..of("overflow") }), 1);
    assert_eq!(count(Filter { since: Some(1_000), until: Some(2_000), ..Filter::default() }), 1);
    assert_eq!(count(Filter { partition: Some(0), from: Some(1), to: Some(3), ..Filter::default() }), 2);
    assert_eq!(count(Filter { output: Some("parquet b".to_owned()), ..Filter::default() }), 4);
    assert_eq!(count(Filter { output: Some("parquet".to_owned()), ..Filter::default() }), 0);
    assert_eq!(count(Filter { pipeline: Some("q".to_owned()), ..Filter::default() }), 0);
    assert_eq!(count(Filter { step: Some("columns".to_owned()), ..Filter::default() }), 4);
}

#[test]
fn what_is_handled_is_chosen_again_only_if_asked_for_and_counted_as_such() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1);
    bench.send(&topic, 0, &["not-json", "overflow", "not-json"]);
    let chosen = bench.letters.choose(&topic, &of("not-json"), false, |_| true).unwrap();
    bench.letters.handle(&topic, &chosen.offsets).unwrap();
    assert_eq!(bench.open(&topic), [1]);
    assert_eq!(bench.letters.choose(&topic, &Filter::default(), true, |_| true).unwrap().count, 3);
    let groups = bench.letters.list(Some("p"), &[], 10_000).unwrap();
    let told: Vec<_> = groups.iter().map(|group| (group.reason.as_str(), group.letters, group.open)).collect();
    assert_eq!(told, [("not-json", 2, 0), ("overflow", 1, 1)]);
    assert_eq!((groups[0].oldest_open_seconds, groups[1].oldest_open_seconds), (None, Some(9.0)));
    assert_eq!(
        (groups[0].first.as_str(), groups[0].last.as_str()),
        ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:02.000Z")
    );
    // By the name of the source, where no pipeline has it.
    assert_eq!(bench.letters.list(Some("in"), &[], 0).unwrap().len(), 2);
    assert!(matches!(bench.letters.list(Some("nothing"), &[], 0), Err(Error::Unknown { .. })));
}

#[test]
fn a_damaged_note_of_what_is_handled_is_told() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1);
    bench.send(&topic, 0, &["not-json"]);
    let chosen = bench.letters.choose(&topic, &Filter::default(), false, |_| true).unwrap();
    bench.letters.handle(&topic, &chosen.offsets).unwrap();
    let path = bench.folder.path().join("dead-letters").join(topic.id.to_string());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[0,1]", "[0,2]")).unwrap();
    assert!(bench.letters.handled(&topic).unwrap_err().to_string().contains("damaged"));
}

#[test]
fn letters_are_shown_page_by_page_with_all_that_they_say() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 2);
    bench.send(&topic, 0, &["not-json", "overflow", "not-json"]);
    bench.send(&topic, 1, &["not-json", "not-json"]);
    let (mut shown, mut place, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bench.letters.page(&topic, &of("not-json"), place, 1).unwrap();
        assert!(page.letters.len() <= 1);
        shown.extend(page.letters);
        pages += 1;
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    assert!(pages >= 4);
    let places: Vec<_> = shown.iter().map(|letter| (letter["partition"].clone(), letter["offset"].clone())).collect();
    assert_eq!(places, [(0.into(), 0.into()), (0.into(), 2.into()), (1.into(), 0.into()), (1.into(), 1.into())]);
    let letter = &shown[1];
    assert_eq!((letter["value"].as_str(), letter["key"].as_str()), (Some("2"), Some("k")));
    assert_eq!((letter["from"]["topic"].as_str(), letter["from"]["offset"].as_i64()), (Some("in"), Some(102)));
    assert_eq!(letter["headers"], serde_json::json!({ "kept": "yes" }));
}

#[test]
fn a_prefix_is_deleted_and_what_stands_behind_others_is_hidden() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1);
    bench.send(&topic, 0, &["not-json", "not-json", "overflow", "not-json"]);
    let planned = Dropped { deleted: 2, hidden: 1, handled: 0, replayed: 0 };
    assert_eq!(bench.drop_some(&topic, &of("not-json"), true), planned);
    assert_eq!(bench.open(&topic), [0, 1, 2, 3], "a trial run drops nothing");
    assert_eq!(bench.drop_some(&topic, &of("not-json"), false), planned);
    assert_eq!(topic.partition(PartitionId(0)).unwrap().start(), Offset(2));
    assert_eq!(bench.open(&topic), [2]);
    assert_eq!(bench.drop_some(&topic, &of("not-json"), false), Dropped::default());
    // The hidden one goes with it, and is told.
    assert_eq!(
        bench.drop_some(&topic, &Filter::default(), false),
        Dropped { deleted: 1, hidden: 0, handled: 1, replayed: 0 }
    );
    assert_eq!(topic.partition(PartitionId(0)).unwrap().start(), Offset(4));
}

#[test]
fn letters_sent_to_a_topic_are_the_records_that_they_were_and_are_handled() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1);
    let to = bench.topic("mended", 3);
    bench.send(&topic, 0, &["not-json", "overflow", "not-json"]);
    let chosen = bench.letters.choose(&topic, &of("not-json"), false, |_| true).unwrap();
    assert_eq!(bench.letters.send_to(&topic, &chosen, &to).unwrap(), Sent { letters: 2 });
    let mut values = Vec::new();
    bench
        .letters
        .scan(&to, &Filter::default(), |letter| {
            let record = letter.record;
            assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
            assert_eq!(record.headers.len(), 1, "what failing added is gone: {:?}", record.headers);
            values.push((record.value.clone().unwrap(), record.timestamp));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(values, [("0".into(), 0), ("2".into(), 2_000)]);
    assert_eq!(bench.open(&topic), [1]);
}

#[test]
fn a_record_is_as_it_was_before_it_failed_in_this_source_however_often() {
    let header = |name: &'static str, value: &'static str| (name.into(), Some(value.into()));
    let record = Record {
        offset: Offset(5),
        timestamp: 0,
        key: None,
        value: None,
        headers: vec![
            header("a", "1"),
            header("kafka_dlt-original-topic", "first"),
            header("kafka_dlt-original-offset", "\0\0\0\0\0\0\0\u{1}"),
            header("kafka_dlt-original-topic", "first-dlt"),
            header("kafka_dlt-original-offset", "\0\0\0\0\0\0\0\u{2}"),
            header("kafka_dlt-original-topic", "second-dlt"),
            header("inrush-dlt-reason", "overflow"),
            header("inrush-source", "x"),
        ],
    };
    assert_eq!(before_failing(&record, Some("first")).headers.len(), 1);
    // A pipeline whose source is a dead letter topic itself saw those of the first failure.
    assert_eq!(before_failing(&record, Some("first-dlt")).headers.len(), 3);
    assert_eq!(Letter::of(0, &record).origin(Some("first-dlt")).offset, Some(2));
    assert_eq!(Letter::of(0, &record).origin(Some("first")).offset, Some(1));
    assert_eq!(Letter::of(0, &record).origin(None).offset, Some(1));
}

#[test]
fn letters_of_a_begun_replay_are_chosen_by_nobody_else() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1);
    bench.send(&topic, 0, &["not-json", "overflow", "not-json"]);
    let folder = replay_folder(bench.folder.path(), "p");
    std::fs::create_dir_all(&folder).unwrap();
    let begin = |topic: uuid::Uuid| {
        let job = serde_json::json!({ "pipeline": "p", "topic": topic, "chosen": { "0": [[0, 2]] } });
        std::fs::write(replay_job(&folder), job.to_string()).unwrap();
    };
    begin(topic.id);
    assert_eq!(bench.open(&topic), [2]);
    assert_eq!(bench.letters.choose(&topic, &Filter::default(), true, |_| true).unwrap().count, 1);
    for is_dry in [true, false] {
        let dropped = bench.drop_some(&topic, &Filter::default(), is_dry);
        assert_eq!(dropped, Dropped { deleted: 0, hidden: 1, handled: 0, replayed: 2 });
    }
    assert_eq!(topic.partition(PartitionId(0)).unwrap().start(), Offset(0), "the replay still reads them");
    begin(uuid::Uuid::nil());
    assert_eq!(bench.open(&topic), [0, 1], "one of another topic");
}

#[test]
fn one_at_a_time_hands_letters_of_a_topic_on() {
    let bench = Bench::new();
    let (topic, other) = (bench.topic("in-dlt", 1), bench.topic("other-dlt", 1));
    let turn = bench.letters.turn(&topic).unwrap();
    assert!(matches!(bench.letters.turn(&topic), Err(Error::Busy(_))));
    assert!(bench.letters.turn(&other).is_ok());
    drop(turn);
    assert!(bench.letters.turn(&topic).is_ok());
}

#[test]
fn what_came_after_somebody_agreed_is_not_dropped() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1);
    bench.send(&topic, 0, &["overflow", "not-json", "not-json"]);
    let ends = bench.letters.ends(&topic);
    bench.send(&topic, 0, &["not-json", "not-json"]);
    let drop =
        |filter: &Filter| bench.runtime.block_on(bench.letters.drop_letters(&topic, filter, &ends, false)).unwrap();
    assert_eq!(drop(&of("not-json")), Dropped { deleted: 0, hidden: 2, handled: 0, replayed: 0 });
    assert_eq!(bench.open(&topic), [0, 3, 4]);
    assert_eq!(drop(&Filter::default()), Dropped { deleted: 1, hidden: 0, handled: 2, replayed: 0 });
    assert_eq!(bench.open(&topic), [3, 4]);
}

#[test]
fn a_batch_that_cannot_be_decoded_is_not_deleted_with_letters_around_it() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1);
    bench.send(&topic, 0, &["not-json"]);
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { timestamp: 0, key: None, value: Some(b"x"), headers: &[] });
    let mut bytes = builder.build(Codec::None).unwrap().bytes().to_vec();
    // It says that it is gzip, and its checksum is right.
    bytes[22] |= 1;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let batch = crate::record::Batch::check(bytes.into()).unwrap();
    assert!(batch.records(DECODED_SIZE_MAX).is_err());
    let home = topic.partition(PartitionId(0)).unwrap();
    home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    bench.send(&topic, 0, &["not-json"]);
    assert_eq!(
        bench.drop_some(&topic, &Filter::default(), false),
        Dropped { deleted: 1, hidden: 1, handled: 0, replayed: 0 }
    );
    assert_eq!(home.start(), Offset(1), "somebody may still want it");
}
