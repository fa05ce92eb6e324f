//! Quotas in the catalog: what was answered is there after a crash, all of it or none, and a program that does not know them stays out.

use super::*;
use std::path::Path;

fn change(client: &str, values: &[(&str, Option<f64>)]) -> QuotaChange {
    QuotaChange {
        entity: [("client-id".to_owned(), Some(client.to_owned()))].into(),
        values: values.iter().map(|(key, value)| (key.to_string(), *value)).collect(),
    }
}

fn values(store: &Store, client: &str) -> Vec<(String, f64)> {
    let entity = [("client-id".to_owned(), Some(client.to_owned()))].into();
    let found = store.quotas().records.into_iter().find(|record| record.entity == entity);
    found.map(|record| record.values.into_iter().collect()).unwrap_or_default()
}

fn format(sim: &Sim) -> u64 {
    let meta = String::from_utf8(sim.disk().read_whole(Path::new("/data/inrush.meta"), 1 << 20).unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_str(meta.split_once('\n').unwrap().1).unwrap();
    json["format"].as_u64().unwrap()
}

#[test]
fn quotas_outlive_a_kill_and_a_restart_and_merge_with_what_is_there() {
    let sim = Sim::new(5);
    let store = open_still(&sim);
    wait(
        store.alter_quotas(vec![
            change("a", &[("in", Some(1.0)), ("out", Some(2.0))]),
            change("b", &[("in", Some(3.5))]),
        ]),
    )
    .unwrap();
    wait(store.alter_quotas(vec![change("a", &[("in", None), ("out", Some(4.0))])])).unwrap();
    sim.kill();
    drop(store);
    let store = open(&sim);
    assert_eq!(values(&store, "a"), [("out".to_owned(), 4.0)]);
    assert_eq!(values(&store, "b"), [("in".to_owned(), 3.5)]);
    wait(store.alter_quotas(vec![change("a", &[("out", None)])])).unwrap();
    wait(store.close(Duration::from_secs(10))).unwrap();
    let store = open(&sim);
    assert_eq!(store.quotas().records.len(), 1, "an entity without a quota is none");
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let sim = Sim::new(5);
    let store = open_still(&sim);
    wait(store.alter_quotas(vec![change("a", &[("in", None)])])).unwrap();
    assert_eq!(format(&sim), 2);
    wait(store.alter_quotas(vec![change("a", &[("in", Some(1.0))])])).unwrap();
    let catalog = || sim.disk().read_whole(Path::new("/data/catalog"), 1 << 20).unwrap();
    let before = catalog();
    wait(store.alter_quotas(vec![change("a", &[("in", Some(1.0))]), change("b", &[("in", None)])])).unwrap();
    assert_eq!(catalog(), before);
}

#[test]
fn the_first_quota_gives_the_folder_the_number_that_older_programs_refuse() {
    let sim = Sim::new(5);
    let store = open_still(&sim);
    topic(&store, "t", &[]);
    assert_eq!(format(&sim), 2, "without quotas an older program reads the folder");
    wait(store.alter_quotas(vec![change("a", &[("in", Some(1.0))])])).unwrap();
    assert_eq!(format(&sim), 3);
    wait(store.close(Duration::from_secs(10))).unwrap();
    let store = open(&sim);
    assert_eq!(format(&sim), 3, "and it keeps it");
    assert!(store.topic("t").is_some() && store.quotas().records.len() == 1);
}

#[test]
fn a_quota_whose_write_fails_is_none() {
    let sim = Sim::new(5);
    let store = open_still(&sim);
    wait(store.alter_quotas(vec![change("a", &[("in", Some(1.0))])])).unwrap();
    sim.fail(Fault { call: Call::Sync, nth: 1, error: 5 });
    assert!(wait(store.alter_quotas(vec![change("a", &[("in", Some(9.0))])])).is_err());
    assert_eq!(values(&store, "a"), [("in".to_owned(), 1.0)]);
    assert!(store.health().poisoned.is_some());
}

#[test]
fn there_are_only_so_many_entities() {
    let sim = Sim::new(5);
    let store = open_still(&sim);
    let many = (0..QUOTA_ENTITIES_MAX).map(|n| change(&n.to_string(), &[("in", Some(1.0))])).collect();
    wait(store.alter_quotas(many)).unwrap();
    let one_more = || change("more", &[("in", Some(1.0))]);
    assert!(matches!(wait(store.alter_quotas(vec![one_more()])), Err(TopicError::Invalid(_))));
    wait(store.alter_quotas(vec![change("7", &[("in", Some(2.0))])])).unwrap();
    wait(store.alter_quotas(vec![change("7", &[("in", None)])])).unwrap();
    wait(store.alter_quotas(vec![one_more()])).unwrap();
}
