//! A real store on a simulated disk, and what is noted of letters in it, for tests here and of the door that asks for them.

use crate::clock::Clock;
use crate::disk::sim::Sim;
use crate::letters::Letters;
use crate::record::{BatchBuilder, Codec, NewRecord, PartitionId, TopicName};
use crate::store::{Append, NewTopic, Options, Store, Topic};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Bench {
    pub(crate) letters: Letters,
    pub(crate) store: Store,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.store.close(Duration::from_secs(10)));
    }
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let options = Options {
            data: "/data".into(),
            writers: 1,
            reader_threads: 1,
            tail_cache_bytes: 1 << 20,
            low_disk_bytes: Some(0),
            checkpoint_interval: Duration::from_millis(5),
        };
        let store = Store::open(options, Sim::new(7).disk(), Clock::System).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let letters = Letters::new(store.clone(), folder.path().to_owned());
        Bench { letters, store, folder, runtime }
    }

    pub(crate) fn topic(&self, name: &str, partitions: i32) -> Arc<Topic> {
        let new = NewTopic { name: TopicName::new(name).unwrap(), partitions, config: Vec::new() };
        self.runtime.block_on(self.store.create_topic(new)).unwrap()
    }

    pub(crate) fn append(&self, topic: &Topic, partition: i32, record: NewRecord<'_>) {
        let mut builder = BatchBuilder::new();
        builder.push(record);
        let home = topic.partition(PartitionId(partition)).unwrap();
        let batch = builder.build(Codec::None).unwrap();
        home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    }
}
