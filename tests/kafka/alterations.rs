//! AlterConfigs and IncrementalAlterConfigs.

use crate::door::{Client, Door, batch, text};
use inrush::record::Codec;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::{alter_configs_request as whole, incremental_alter_configs_request as incremental};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);

fn resource(kind: i8, resource: &str, changes: &[Change]) -> incremental::AlterConfigsResource {
    let change = |(key, operation, value): &Change| {
        incremental::AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(changes.iter().map(change).collect())
}

/// Code and reason of each resource, which the answer names in the order asked.
fn alter(
    client: &mut Client,
    resources: Vec<incremental::AlterConfigsResource>,
    only_check: bool,
) -> Vec<(i16, String)> {
    let asked: Vec<_> = resources.iter().map(|one| (one.resource_type, one.resource_name.clone())).collect();
    let request =
        kp::IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(only_check);
    let answer: kp::IncrementalAlterConfigsResponse = client.call(ApiKey::IncrementalAlterConfigs, 1, &request);
    let told: Vec<_> = answer.responses.iter().map(|one| (one.resource_type, one.resource_name.clone())).collect();
    assert_eq!(told, asked);
    let reason = |reason: Option<_>| {
        reason.map_or(String::new(), |reason: kafka_protocol::protocol::StrBytes| reason.to_string())
    };
    answer.responses.into_iter().map(|one| (one.error_code, reason(one.error_message))).collect()
}

fn alter_topic(client: &mut Client, changes: &[Change]) -> (i16, String) {
    alter(client, vec![resource(TOPIC, "t", changes)], false).remove(0)
}

fn replace(client: &mut Client, kind: i8, name: &str, values: &[(&str, Option<&str>)], only_check: bool) -> i16 {
    let config = |(key, value): &(&str, Option<&str>)| {
        whole::AlterableConfig::default().with_name(text(key)).with_value(value.map(text))
    };
    let resource = whole::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(values.iter().map(config).collect());
    let request = kp::AlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(only_check);
    let answer: kp::AlterConfigsResponse = client.call(ApiKey::AlterConfigs, 2, &request);
    let told = &answer.responses[0];
    assert_eq!((told.resource_type, told.resource_name.as_str()), (kind, name));
    assert_eq!(told.error_message.is_some(), told.error_code != 0, "{told:?}");
    told.error_code
}

fn overrides(door: &Door) -> Vec<(String, String)> {
    let mut overrides = door.store.topic("t").unwrap().overrides().to_vec();
    overrides.sort();
    overrides
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn behaviour_30_settings_are_set_deleted_added_to_and_taken_from_and_hold_at_once() {
    let door = Door::open();
    door.topic("t", &[("retention.ms", "1000")]);
    let mut client = door.client();
    let changes: &[Change] = &[
        ("max.message.bytes", SET, Some("200")),
        ("retention.ms", DELETE, None),
        ("inrush.http.capture", APPEND, Some("ip, dnt,referer")),
    ];
    assert_eq!(alter_topic(&mut client, changes), (0, String::new()));
    let capture = ("inrush.http.capture", "user-agent,referer,origin,ip,dnt");
    assert_eq!(overrides(&door), pairs(&[capture, ("max.message.bytes", "200")]));
    assert_eq!(client.produce("t", batch(Codec::None, 50).bytes().clone()).error_code, 10);
    let less: Change = ("inrush.http.capture", SUBTRACT, Some("origin,ip,nobody"));
    assert_eq!(alter_topic(&mut client, &[less]).0, 0);
    let capture = ("inrush.http.capture", "user-agent,referer,dnt");
    assert_eq!(overrides(&door), pairs(&[capture, ("max.message.bytes", "200")]));
    // A list that has its default, and one of which all but one is taken.
    for (operation, value, left) in [(APPEND, "compact", "delete,compact"), (SUBTRACT, "delete", "compact")] {
        assert_eq!(alter_topic(&mut client, &[("cleanup.policy", operation, Some(value))]), (0, String::new()));
        assert_eq!(overrides(&door)[0], ("cleanup.policy".to_owned(), left.to_owned()));
    }
    let door = door.kill();
    assert_eq!(overrides(&door), pairs(&[("cleanup.policy", "compact"), capture, ("max.message.bytes", "200")]));
}

#[test]
fn a_resource_takes_all_of_its_changes_or_none_and_says_why() {
    let door = Door::open();
    door.topic("t", &[("retention.ms", "1000")]);
    let mut client = door.client();
    let good: Change = ("segment.ms", SET, Some("5000"));
    let cases: [(Change, i16, &str); 10] = [
        (("retention.ms", SET, Some("soon")), 40, "whole number"),
        (("retention.ms", SET, Some("-2")), 40, "between"),
        (("retention.msec", SET, Some("5")), 40, "did you mean retention.ms?"),
        (("retention.msec", APPEND, Some("5")), 40, "retention.msec"),
        (("retention.ms", APPEND, Some("5")), 40, "no list"),
        (("retention.ms", SUBTRACT, Some("1000")), 40, "no list"),
        (("cleanup.policy", SUBTRACT, Some("delete")), 40, "cleanup.policy"),
        (("retention.ms", SET, None), 42, "no value"),
        (("retention.ms", 9, Some("5")), 42, "operation 9"),
        (("segment.ms", DELETE, None), 42, "more than once"),
    ];
    for only_check in [true, false] {
        for (bad, code, reason) in &cases {
            let told = alter(&mut client, vec![resource(TOPIC, "t", &[good, *bad])], only_check).remove(0);
            assert!(told.0 == *code && told.1.contains(reason), "{bad:?}: {told:?}");
            assert_eq!(overrides(&door), pairs(&[("retention.ms", "1000")]), "{bad:?}");
        }
    }
}

#[test]
fn each_resource_is_judged_alone_and_one_that_is_named_twice_is_refused_twice() {
    let door = Door::open();
    door.topic("t", &[]);
    door.topic("u", &[]);
    let good: &[Change] = &[("segment.ms", SET, Some("5000"))];
    let named = [
        (TOPIC, "u", 42),
        (TOPIC, "t", 0),
        (TOPIC, "u", 42),
        (TOPIC, "none", 3),
        (TOPIC, "a/b", 17),
        (TOPIC, "", 42),
        (0, "t", 42),
        (99, "t", 42),
    ];
    let resources = named.iter().map(|(kind, name, _)| resource(*kind, name, good)).collect();
    let told = alter(&mut door.client(), resources, false);
    for (told, (kind, name, code)) in told.iter().zip(named) {
        assert_eq!((told.0, told.1.is_empty()), (code, code == 0), "{kind} {name}: {told:?}");
    }
    assert_eq!(overrides(&door), pairs(&[("segment.ms", "5000")]));
    assert!(door.store.topic("u").unwrap().overrides().is_empty());
}

#[test]
fn the_deletion_of_what_no_topic_has_changes_nothing_as_in_kafka() {
    let door = Door::open();
    door.topic("t", &[("retention.ms", "1000")]);
    let mut client = door.client();
    assert_eq!(alter_topic(&mut client, &[("max.compaction.lag.msec", DELETE, None)]).0, 0);
    assert_eq!(alter_topic(&mut client, &[("segment.ms", DELETE, None)]).0, 0);
    assert_eq!(alter_topic(&mut client, &[]).0, 0);
    assert_eq!(overrides(&door), pairs(&[("retention.ms", "1000")]));
}

#[test]
fn what_is_only_checked_changes_nothing() {
    let door = Door::open();
    door.topic("t", &[("retention.ms", "1000")]);
    let mut client = door.client();
    let changes: &[Change] = &[("segment.ms", SET, Some("5000"))];
    let asked = vec![resource(TOPIC, "t", changes), resource(TOPIC, "none", changes)];
    let told: Vec<i16> = alter(&mut client, asked, true).into_iter().map(|one| one.0).collect();
    assert_eq!(told, [0, 3]);
    assert_eq!(replace(&mut client, TOPIC, "t", &[], true), 0);
    assert_eq!(overrides(&door), pairs(&[("retention.ms", "1000")]));
}

#[test]
fn alter_configs_puts_back_to_its_default_what_it_does_not_name() {
    let door = Door::open();
    door.topic("t", &[("retention.ms", "1000"), ("max.message.bytes", "200")]);
    let mut client = door.client();
    for (bad, code) in [
        (&[("segment.ms", Some("5000")), ("retention.ms", Some("x"))][..], 40),
        (&[("retention.msec", Some("5"))], 40),
        (&[("retention.ms", None)], 42),
        (&[("segment.ms", Some("1")), ("segment.ms", Some("2"))], 42),
    ] {
        assert_eq!(replace(&mut client, TOPIC, "t", bad, false), code, "{bad:?}");
    }
    assert_eq!(replace(&mut client, TOPIC, "none", &[], false), 3);
    assert_eq!(overrides(&door), pairs(&[("max.message.bytes", "200"), ("retention.ms", "1000")]));
    assert_eq!(replace(&mut client, TOPIC, "t", &[("segment.ms", Some("5000"))], false), 0);
    assert_eq!(overrides(&door), pairs(&[("segment.ms", "5000")]));
    assert_eq!(replace(&mut client, TOPIC, "t", &[], false), 0);
    assert_eq!(overrides(&door), pairs(&[]));
}

#[test]
fn settings_of_the_node_are_refused_and_never_taken_in_silence() {
    let door = Door::open();
    let mut client = door.client();
    for only_check in [true, false] {
        for (name, key, operation) in [
            ("1", "num.partitions", SET),
            ("", "num.partitions", SET),
            ("1", "no.such", SET),
            ("1", "log.retention.ms", APPEND),
            ("7", "num.partitions", SET),
            ("x", "num.partitions", SET),
        ] {
            let asked = vec![resource(BROKER, name, &[(key, operation, Some("9"))])];
            let (code, reason) = alter(&mut client, asked, only_check).remove(0);
            assert!(code == 42 && (reason.contains("config file") || reason.contains("only node")), "{name}: {reason}");
            assert_eq!(replace(&mut client, BROKER, name, &[(key, Some("9"))], only_check), 42);
        }
    }
    // Nothing was asked, or of what is not there: kafka-reassign-partitions takes limits away that it never set.
    let deletions: &[Change] = &[("leader.replication.throttled.rate", DELETE, None), ("num.partitions", DELETE, None)];
    for (name, changes) in [("1", &[][..]), ("1", deletions), ("", deletions)] {
        assert_eq!(alter(&mut client, vec![resource(BROKER, name, changes)], false).remove(0).0, 0);
    }
    assert_eq!(alter(&mut client, vec![resource(BROKER, "7", deletions)], false).remove(0).0, 42);
}
