//! Facts about rows to a topic elsewhere, against a broker that a test plays: it judges sequences as Kafka does.

use super::super::super::life::Seat;
use super::*;
use crate::kafka::tests::fake::{self, Asked};
use crate::record::{BatchBuilder, DECODED_SIZE_MAX, NewRecord, Offset};
use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsResponse, FetchRequest, FetchResponse, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, ProduceRequest, ProduceResponse, ProducerId,
};
use std::sync::Mutex;

const KNOWN: [(ApiKey, i16); 6] = [
    (ApiKey::Metadata, 12),
    (ApiKey::DescribeConfigs, 4),
    (ApiKey::ListOffsets, 7),
    (ApiKey::Fetch, 12),
    (ApiKey::Produce, 11),
    (ApiKey::InitProducerId, 4),
];

/// A broker with one partition.
#[derive(Default)]
struct Log {
    port: u16,
    batches: Vec<Batch>,
    /// Producers that were given out.
    producers: i64,
    /// How often it was read.
    reads: usize,
    /// It answers reads, and shows nothing.
    is_mute: bool,
}

impl Log {
    fn start() -> Arc<Mutex<Log>> {
        let log: Arc<Mutex<Log>> = Arc::default();
        let own = log.clone();
        log.lock().unwrap().port = fake::listen(move |asked| own.lock().unwrap().answer(asked));
        log
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.next_offset().0)
    }

    /// As a partition of Kafka judges sequences; gives a code and where the batch lies.
    fn take(&mut self, batch: Batch) -> (i16, i64) {
        let Some(producer) = batch.header().producer else { return self.put(batch) };
        let of_producer = |known: &&Batch| known.header().producer.is_some_and(|known| known.id == producer.id);
        let mine: Vec<&Batch> = self.batches.iter().rev().filter(of_producer).collect();
        let what = |batch: &Batch| (batch.header().producer.unwrap().base_sequence, batch.header().count);
        if let Some(known) = mine.iter().take(5).find(|known| what(known) == what(&batch)) {
            return (0, known.base_offset().0);
        }
        let next = mine.first().map_or(0, |last| what(last).0 + what(last).1);
        if producer.base_sequence != next {
            return (ResponseError::OutOfOrderSequenceNumber.code(), -1);
        }
        self.put(batch)
    }

    fn put(&mut self, batch: Batch) -> (i16, i64) {
        let at = self.end();
        self.batches.push(batch.stamped(Offset(at), 0));
        (0, at)
    }

    fn answer(&mut self, asked: &mut Asked) -> Option<BytesMut> {
        match asked.api {
            ApiKey::ApiVersions => asked.with_versions(&KNOWN),
            ApiKey::Metadata => asked.with_metadata(&[self.port], &[0]),
            ApiKey::DescribeConfigs => {
                asked.with(&DescribeConfigsResponse::default().with_results(vec![DescribeConfigsResult::default()]))
            }
            ApiKey::InitProducerId => {
                self.producers += 1;
                asked.with(&InitProducerIdResponse::default().with_producer_id(ProducerId(self.producers)))
            }
            ApiKey::ListOffsets => {
                let request: ListOffsetsRequest = asked.body();
                let is_start = request.topics[0].partitions[0].timestamp == START;
                let at = if is_start { 0 } else { self.end() };
                let partition = ListOffsetsPartitionResponse::default().with_offset(at);
                let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
                asked.with(&ListOffsetsResponse::default().with_topics(vec![topic]))
            }
            ApiKey::Fetch => {
                self.reads += 1;
                let request: FetchRequest = asked.body();
                let from = request.topics[0].partitions[0].fetch_offset;
                let found = self.batches.iter().find(|batch| !self.is_mute && batch.next_offset().0 > from);
                let partition = PartitionData::default()
                    .with_high_watermark(self.end())
                    .with_records(found.map(|batch| batch.bytes().clone()));
                let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
                asked.with(&FetchResponse::default().with_responses(vec![topic]))
            }
            ApiKey::Produce => {
                let request: ProduceRequest = asked.body();
                let bytes = request.topic_data[0].partition_data[0].records.clone().unwrap();
                let (code, at) = self.take(Batch::check(bytes).unwrap());
                let partition = PartitionProduceResponse::default().with_error_code(code).with_base_offset(at);
                let topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
                asked.with(&ProduceResponse::default().with_responses(vec![topic]))
            }
            other => panic!("nobody is to ask for {other:?}"),
        }
    }

    /// Values of the pipeline's rows, in order.
    fn rows(&self) -> Vec<String> {
        let own = self.batches.iter().filter(|batch| batch.header().producer.is_some());
        let records = own.flat_map(|batch| batch.records(DECODED_SIZE_MAX).unwrap());
        records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
    }
}

/// What others write.
fn foreign() -> Batch {
    let mut builder = BatchBuilder::new();
    for _ in 0..100 {
        builder.push(NewRecord { timestamp: 0, key: None, value: Some(b"theirs"), headers: &[] });
    }
    builder.build(crate::record::Codec::None).unwrap()
}

fn out(port: u16) -> KafkaOutput {
    let topic = crate::record::TopicName::new("t").unwrap();
    KafkaOutput { topic, key: None, codec: crate::record::Codec::None, cluster: fake::settings(port) }
}

const SOURCE: SourceTopic = SourceTopic { pipeline: Uuid::from_u128(1), topic: Uuid::from_u128(2) };

/// A run of the pipeline, of two source partitions, from a checkpoint on.
fn run(log: &Arc<Mutex<Log>>, known: Option<&KafkaState>, floor: &[(i32, i64)]) -> (KafkaSink, KafkaState) {
    let out = out(log.lock().unwrap().port);
    let life = super::super::super::life::Life::begin(&Arc::new(Seat::default())).unwrap();
    let (cluster, state) = settle(&out, known, sources(2, false), &life).unwrap();
    let floor = floor.iter().copied().collect();
    (KafkaSink::open(cluster, &state, &out, SOURCE, &floor, Hooks::default()).unwrap(), state)
}

/// Rows of one source partition, one for each of its offsets.
fn write(sink: &mut KafkaSink, source: i32, offsets: std::ops::Range<i64>) {
    let record = |offset: i64| Record {
        offset: Offset(offset),
        timestamp: 0,
        key: None,
        value: Some(Bytes::new()),
        headers: Vec::new(),
    };
    let records: Vec<Record> = offsets.clone().map(record).collect();
    let numbers: Int64Array = offsets.map(|offset| i64::from(source) * 1_000 + offset).collect();
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers)]).unwrap();
    let indices: Vec<u32> = (0..records.len() as u32).collect();
    let (lines, unfit) = sink.shape(rows, &indices, &records);
    assert!(unfit.is_empty());
    let name = CutName { generation: 0, cut: 0, now_ms: 0, last: Last::Whole };
    sink.write(source, &lines, &indices, &records, &name).unwrap();
}

/// What a checkpoint says of it.
fn state_of(sink: &KafkaSink) -> KafkaState {
    let mut state = OutputState::default();
    Sink::note(sink, &mut state, &BTreeMap::new());
    state.kafka.unwrap()
}

/// A checkpoint at these positions; gives what it says of the output.
fn cut(sink: &mut KafkaSink, positions: &[(i32, i64)]) -> KafkaState {
    let mut state = OutputState { positions: positions.iter().copied().collect(), ..OutputState::default() };
    let floor = state.positions.clone();
    Sink::note(sink, &mut state, &floor);
    sink.cut(&state, &floor);
    state.kafka.unwrap()
}

fn numbers(all: impl IntoIterator<Item = i64>) -> Vec<String> {
    all.into_iter().map(|n| format!("{{\"n\":{n}}}")).collect()
}

#[test]
fn a_late_batch_of_a_dead_run_is_found_behind_batches_of_others_of_its_partition() {
    let log = Log::start();
    let (mut dead, state) = run(&log, None, &[]);
    let (mut sink, _) = run(&log, Some(&state), &[]);
    // Rows of source partition 0 of the run that died; then those of partition 1 of this run come behind them.
    write(&mut dead, 0, 0..2);
    write(&mut sink, 1, 0..3);
    assert_eq!(state_of(&sink).ends[&0], 0, "the next start has to find it too");
    write(&mut sink, 0, 0..3);
    assert_eq!(log.lock().unwrap().rows(), numbers([0, 1, 1_000, 1_001, 1_002, 2]));
    assert_eq!(sink.looked_at(0), 6, "of each a batch of this run is there: nothing late is taken any more");
}

#[test]
fn a_late_batch_is_found_by_the_run_after_the_next() {
    let log = Log::start();
    let (mut dead, state) = run(&log, None, &[]);
    let (mut sink, _) = run(&log, Some(&state), &[]);
    write(&mut dead, 0, 0..2);
    write(&mut sink, 1, 0..3);
    cut(&mut sink, &[(0, 0), (1, 3)]);
    let (mut next, _) = run(&log, Some(&state_of(&sink)), &[(0, 0), (1, 3)]);
    write(&mut next, 0, 0..3);
    write(&mut next, 1, 3..4);
    assert_eq!(log.lock().unwrap().rows(), numbers([0, 1, 1_000, 1_001, 1_002, 2, 1_003]));
}

#[test]
fn a_partition_that_does_not_show_what_it_has_is_not_taken_for_one_that_has_nothing() {
    let log = Log::start();
    let (mut dead, state) = run(&log, None, &[]);
    write(&mut dead, 0, 0..2);
    log.lock().unwrap().is_mute = true;
    let out = out(log.lock().unwrap().port);
    let life = super::super::super::life::Life::begin(&Arc::new(Seat::default())).unwrap();
    let (cluster, _) = settle(&out, Some(&state), sources(2, false), &life).unwrap();
    let opened = KafkaSink::open(cluster, &state, &out, SOURCE, &BTreeMap::new(), Hooks::default());
    let told = opened.map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("t/0") && told.contains("from 0 to 2"), "{told}");
    log.lock().unwrap().is_mute = false;
    let (mut sink, _) = run(&log, Some(&state), &[]);
    write(&mut sink, 0, 0..3);
    assert_eq!(log.lock().unwrap().rows(), numbers(0..3));
}

#[test]
fn a_start_reads_nothing_that_others_wrote_before_the_checkpoint() {
    let log = Log::start();
    let (mut sink, _) = run(&log, None, &[]);
    for _ in 0..1_000 {
        log.lock().unwrap().put(foreign());
    }
    sink.look_around();
    assert!(!sink.has_news(), "it looks now and then");
    sink.ends_at = Instant::now().checked_sub(ENDS_AGE_MAX).unwrap();
    sink.look_around();
    assert_eq!((sink.has_news(), state_of(&sink).ends[&0]), (false, 0), "a late batch may be among them");
    sink.ends_at = Instant::now().checked_sub(ENDS_AGE_MAX).unwrap();
    sink.opened_at = Instant::now().checked_sub(LATE_MAX * 2).unwrap();
    sink.look_around();
    assert!(sink.has_news());
    let cut = cut(&mut sink, &[]);
    assert_eq!(cut.ends[&0], 100_000);
    assert!(!sink.has_news());
    log.lock().unwrap().reads = 0;
    drop(run(&log, Some(&cut), &[]));
    assert_eq!(log.lock().unwrap().reads, 0);
    // What a start has looked at itself the next one does not read either.
    log.lock().unwrap().put(foreign());
    let (next, _) = run(&log, Some(&cut), &[]);
    assert_eq!((log.lock().unwrap().reads, state_of(&next).ends[&0]), (1, 100_100));
}

#[test]
fn what_goes_beyond_the_positions_of_a_cut_is_found_by_the_next_start() {
    let log = Log::start();
    let (mut sink, _) = run(&log, None, &[]);
    write(&mut sink, 0, 0..3);
    // Another output partition refused row 1, which is tried again: the cut is before it.
    let known = cut(&mut sink, &[(0, 1), (1, 0)]);
    let (mut next, _) = run(&log, Some(&known), &[(0, 1), (1, 0)]);
    write(&mut next, 0, 1..4);
    assert_eq!(log.lock().unwrap().rows(), numbers(0..4));
    cut(&mut next, &[(0, 4), (1, 0)]);
    assert_eq!(state_of(&next).ends[&0], next.looked_at(0), "it is covered now");
}

#[test]
fn rows_without_a_key_stay_for_a_while_and_are_spread_alike_again() {
    assert_eq!((sticky(1, 0, 3), sticky(1, STICKY_OFFSETS - 1, 3), sticky(1, STICKY_OFFSETS, 3)), (1, 1, 2));
    let used: BTreeSet<i32> = (0..12).map(|n| sticky(0, n * STICKY_OFFSETS, 4)).collect();
    assert_eq!(used.len(), 4);
}

#[test]
fn rows_of_windows_have_a_producer_of_their_own() {
    assert!(sources(2, false).eq([0, 1]) && sources(2, true).eq([0, 1, WINDOWS]));
}
