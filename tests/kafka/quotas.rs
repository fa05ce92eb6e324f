//! Quotas: who shares one, who is throttled and how, and Kafka's administration of them. The clock of the door stands still, so what is
//! used is not forgotten, and throttle times are exact.

use crate::door::{Client, Door, batch, built, fetch_request, frame_of, produce_request, text};
use inrush::record::Codec;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::protocol::{Decodable, Encodable};
use std::time::{Duration, Instant};

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];
/// `None` takes away.
type Values<'a> = &'a [(&'a str, Option<f64>)];

/// Seconds of a rate that may be used at once.
const BURST: f64 = 10.0;
const INVALID_REQUEST: i16 = 42;

fn entry(parts: Parts<'_>, values: Values<'_>) -> EntryData {
    let part = |(kind, name): &(&str, Option<&str>)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    };
    let op = |(key, value): &(&str, Option<f64>)| {
        OpData::default().with_key(text(key)).with_value(value.unwrap_or_default()).with_remove(value.is_none())
    };
    EntryData::default().with_entity(parts.iter().map(part).collect()).with_ops(values.iter().map(op).collect())
}

/// Error codes of the answer's entries; first it is only looked at, by the other version.
fn alter(door: &Door, entries: Vec<EntryData>, validate_only: bool) -> Vec<i16> {
    let seen = alter_by(door, 0, entries.clone(), true);
    let done = alter_by(door, 1, entries, validate_only);
    assert_eq!(seen, done, "both versions say the same");
    done
}

fn alter_by(door: &Door, version: i16, entries: Vec<EntryData>, validate_only: bool) -> Vec<i16> {
    let request = kp::AlterClientQuotasRequest::default().with_entries(entries).with_validate_only(validate_only);
    let answer: kp::AlterClientQuotasResponse = door.client().call(ApiKey::AlterClientQuotas, version, &request);
    assert!(answer.entries.iter().all(|entry| (entry.error_code == 0) == entry.error_message.is_none()));
    answer.entries.iter().map(|entry| entry.error_code).collect()
}

fn set(door: &Door, parts: Parts<'_>, values: Values<'_>) {
    assert_eq!(alter(door, vec![entry(parts, values)], false), [0]);
}

fn component(kind: &str, match_type: i8, name: Option<&str>) -> ComponentData {
    ComponentData::default().with_entity_type(text(kind)).with_match_type(match_type).with_match(name.map(text))
}

fn describe(door: &Door, components: Vec<ComponentData>, strict: bool) -> Result<Vec<String>, i16> {
    let request = kp::DescribeClientQuotasRequest::default().with_components(components).with_strict(strict);
    let answer: kp::DescribeClientQuotasResponse = door.client().call(ApiKey::DescribeClientQuotas, 1, &request);
    if answer.error_code != 0 {
        assert!(answer.entries.is_none() && answer.error_message.is_some());
        return Err(answer.error_code);
    }
    let told = |entry: &kp::describe_client_quotas_response::EntryData| {
        let part = |part: &kp::describe_client_quotas_response::EntityData| {
            format!("{}={}", &*part.entity_type, part.entity_name.as_deref().unwrap_or("<default>"))
        };
        let value = |value: &kp::describe_client_quotas_response::ValueData| format!("{}:{}", &*value.key, value.value);
        let parts: Vec<_> = entry.entity.iter().map(part).collect();
        let values: Vec<_> = entry.values.iter().map(value).collect();
        format!("{} {}", parts.join(","), values.join(","))
    };
    Ok(answer.entries.unwrap().iter().map(told).collect())
}

/// A request of a client id, and its size as a quota counts it.
fn ask(client: &mut Client, id: &str, api: ApiKey, version: i16, request: &impl Encodable) -> f64 {
    let bytes = frame_of(Some(id), api, version, 7, request);
    client.raw(&bytes);
    (bytes.len() - 4) as f64
}

fn answer<T: Decodable>(client: &mut Client, api: ApiKey, version: i16) -> T {
    client.answer(api, version, 7)
}

/// Produces about `size` bytes as `id`: the request's size and the throttle time of its answer.
fn produce(client: &mut Client, id: &str, size: usize) -> (f64, i32) {
    let request = produce_request("t", -1, built(Codec::None, 1, size / 2, None).bytes().clone());
    let size = ask(client, id, ApiKey::Produce, 9, &request);
    let told: kp::ProduceResponse = answer(client, ApiKey::Produce, 9);
    assert_eq!(told.responses[0].partition_responses[0].error_code, 0);
    (size, told.throttle_time_ms)
}

/// Fetches everything of partition 0 as `id`.
fn fetch(client: &mut Client, id: &str) -> kp::FetchResponse {
    ask(client, id, ApiKey::Fetch, 12, &fetch_request(&[("t", 0, 0, 1 << 20)]));
    answer(client, ApiKey::Fetch, 12)
}

fn wait_ms(excess: f64, rate: f64) -> i32 {
    (excess / rate * 1_000.0).ceil() as i32
}

fn open() -> Door {
    let door = Door::open();
    door.topic("t", &[]);
    door
}

#[test]
fn connections_of_a_client_id_share_its_quota_and_another_is_unaffected() {
    let door = open();
    set(&door, &[("client-id", Some("loud"))], &[("producer_byte_rate", Some(10_000.0))]);
    let (mut first, mut second, mut other) = (door.client(), door.client(), door.client());
    let (size, throttle) = produce(&mut first, "loud", 90_000);
    assert!(size < 10_000.0 * BURST && throttle == 0, "ten seconds of the rate are free");
    let (more, throttle) = produce(&mut second, "loud", 40_000);
    assert_eq!(throttle, wait_ms(size + more - 10_000.0 * BURST, 10_000.0));
    for _ in 0..5 {
        assert_eq!(produce(&mut other, "quiet", 90_000).1, 0);
    }
    // What was used runs out with time, at the rate.
    door.clock.advance(1_000_000);
    assert_eq!(produce(&mut first, "loud", 90_000).1, 0);
}

#[test]
fn each_client_id_has_the_default_for_itself_and_a_users_quota_is_shared_by_all_of_the_user() {
    let door = open();
    set(&door, &[("client-id", None)], &[("producer_byte_rate", Some(10_000.0))]);
    let mut client = door.client();
    for id in ["a", "b", ""] {
        assert_eq!(produce(&mut client, id, 90_000).1, 0, "{id:?}");
    }
    set(&door, &[("user", Some("ANONYMOUS"))], &[("producer_byte_rate", Some(10_000.0))]);
    assert_eq!(produce(&mut client, "a", 90_000).1, 0);
    assert!(produce(&mut door.client(), "b", 90_000).1 > 0, "the user has used it up as another client");
    // The more specific entry holds, though it allows more.
    set(&door, &[("user", None), ("client-id", Some("b"))], &[("producer_byte_rate", Some(1e9))]);
    assert!(produce(&mut door.client(), "b", 90_000).1 > 0, "an entry of the user himself is more specific");
    set(&door, &[("user", Some("ANONYMOUS")), ("client-id", None)], &[("producer_byte_rate", Some(1e9))]);
    assert_eq!(produce(&mut door.client(), "b", 90_000).1, 0);
}

#[test]
fn behaviour_34_the_answer_comes_before_the_mute_and_the_next_request_waits_for_its_end() {
    let door = open();
    set(&door, &[("client-id", Some("loud"))], &[("producer_byte_rate", Some(10_000.0))]);
    let mut client = door.client();
    let (_, throttle) = produce(&mut client, "loud", 105_000);
    assert!((300..3_000).contains(&throttle), "{throttle}");
    let answered = Instant::now();
    // Any request of the connection waits, not only produces; those of others of the client id do not.
    ask(&mut client, "loud", ApiKey::Metadata, 9, &kp::MetadataRequest::default());
    let mut other = door.client();
    ask(&mut other, "loud", ApiKey::Metadata, 9, &kp::MetadataRequest::default());
    let _: kp::MetadataResponse = answer(&mut other, ApiKey::Metadata, 9);
    let of_other = answered.elapsed();
    let _: kp::MetadataResponse = answer(&mut client, ApiKey::Metadata, 9);
    assert!(answered.elapsed() >= Duration::from_millis(throttle as u64 - 50), "{:?}", answered.elapsed());
    assert!(of_other < answered.elapsed());
    // A wait of a quarter of an hour, and the answer is here.
    set(&door, &[("client-id", Some("louder"))], &[("producer_byte_rate", Some(1.0))]);
    assert!(produce(&mut door.client(), "louder", 1_000).1 > 900_000);
}

#[test]
fn behaviour_34_produce_without_an_answer_is_muted_too_and_a_pipeline_keeps_its_order() {
    let door = open();
    set(&door, &[("client-id", Some("loud"))], &[("producer_byte_rate", Some(10_000.0))]);
    let mut client = door.client();
    let began = Instant::now();
    let silent = produce_request("t", 0, built(Codec::None, 1, 52_500, None).bytes().clone());
    let size = ask(&mut client, "loud", ApiKey::Produce, 9, &silent);
    ask(&mut client, "loud", ApiKey::Produce, 9, &produce_request("t", -1, batch(Codec::None, 1).bytes().clone()));
    // It says that nothing more comes, and gets its answer all the same.
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let told: kp::ProduceResponse = answer(&mut client, ApiKey::Produce, 9);
    assert_eq!(told.responses[0].partition_responses[0].base_offset, 1);
    assert!(began.elapsed() >= Duration::from_millis(wait_ms(size - 10_000.0 * BURST, 10_000.0) as u64));
}

#[test]
fn behaviour_34_a_fetch_over_its_quota_is_empty_with_a_throttle_time_and_is_not_counted() {
    let door = open();
    let mut writer = door.client();
    for _ in 0..4 {
        writer.produce("t", built(Codec::Lz4, 1, 0, None).bytes().clone());
    }
    let mut client = door.client();
    let whole = fetch(&mut client, "reader");
    assert_eq!(whole.throttle_time_ms, 0);
    let mut bytes = bytes::BytesMut::new();
    whole.encode(&mut bytes, 12).unwrap();
    // The answer's header: correlation id and no tags. Two answers fit, a third does not.
    let size = (bytes.len() + 5) as f64;
    let rate = (size * 2.5 / BURST).floor();
    set(&door, &[("client-id", Some("reader"))], &[("consumer_byte_rate", Some(rate))]);
    for _ in 0..2 {
        let told = fetch(&mut client, "reader");
        assert_eq!((told.throttle_time_ms, told.responses.len()), (0, 1));
    }
    // Others of the id find the same, whatever comes between: what is not sent is not counted. The first is told when there is room,
    // the others a later time.
    let expected = wait_ms(size * 3.0 - rate * BURST, rate);
    for version in [12, 4, 8] {
        let mut client = door.client();
        ask(&mut client, "reader", ApiKey::Fetch, version, &fetch_request(&[("t", 0, 0, 1 << 20)]));
        let told: kp::FetchResponse = answer(&mut client, ApiKey::Fetch, version);
        assert!(told.responses.is_empty() && told.error_code == 0 && told.throttle_time_ms > 0, "version {version}");
        let is_first = version == 12;
        assert_eq!(told.throttle_time_ms == expected, is_first, "{} and {expected}", told.throttle_time_ms);
        assert!(told.throttle_time_ms >= expected);
    }
    assert_eq!(fetch(&mut door.client(), "another").responses.len(), 1);
    door.clock.advance(i64::from(expected));
    let told = fetch(&mut door.client(), "reader");
    assert_eq!((told.throttle_time_ms, told.responses.len()), (0, 1), "after that time it is there");
}

#[test]
fn a_fetch_brings_no_more_than_its_quota_allows_at_once_and_a_larger_batch_all_the_same() {
    let door = open();
    let mut writer = door.client();
    let one = built(Codec::Lz4, 20, 0, None);
    for _ in 0..20 {
        writer.produce("t", one.bytes().clone());
    }
    let size = one.size() as f64;
    set(&door, &[("client-id", Some("reader"))], &[("consumer_byte_rate", Some((size * 5.9 / BURST).ceil()))]);
    let mut client = door.client();
    let told = fetch(&mut client, "reader");
    let records = told.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!((records.len() as f64, told.throttle_time_ms), (size * 5.0, 0));
    // A batch that is larger than ten seconds of the rate would stop its reader for ever: it is sent to who has used nothing, and owed.
    let rate = (size / 2.0 / BURST).floor();
    set(&door, &[("client-id", Some("slow"))], &[("consumer_byte_rate", Some(rate))]);
    let told = fetch(&mut door.client(), "slow");
    let records = told.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!(records.len() as f64, size);
    assert!(told.throttle_time_ms >= wait_ms(size - rate * BURST, rate), "{}", told.throttle_time_ms);
    assert!(fetch(&mut door.client(), "slow").responses.is_empty());
}

#[test]
fn a_change_holds_at_once_and_ends_the_waits_of_whom_it_concerns() {
    let door = open();
    set(&door, &[("client-id", Some("loud"))], &[("producer_byte_rate", Some(1.0))]);
    let mut client = door.client();
    let (_, throttle) = produce(&mut client, "loud", 1_000);
    assert!(throttle > 900_000, "a quarter of an hour");
    ask(&mut client, "loud", ApiKey::Metadata, 9, &kp::MetadataRequest::default());
    set(&door, &[("client-id", Some("another"))], &[("producer_byte_rate", Some(1.0))]);
    client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err(), "another's quota is none of its business");
    client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    set(&door, &[("client-id", Some("loud"))], &[("producer_byte_rate", None)]);
    let _: kp::MetadataResponse = answer(&mut client, ApiKey::Metadata, 9);
    assert_eq!(produce(&mut client, "loud", 90_000).1, 0);
}

/// A connection that the door takes, once one that left has been noticed.
fn admitted(door: &Door) -> Client {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut client = door.client();
        ask(&mut client, "x", ApiKey::Metadata, 9, &kp::MetadataRequest::default());
        if client.read_frame().is_some() {
            return client;
        }
        assert!(Instant::now() < until, "the place never came back");
    }
}

#[test]
fn who_hangs_up_while_muted_is_noticed_and_a_stop_waits_for_nobody() {
    let mut door = Door::with(|door| door.connections_max = 3);
    door.topic("t", &[]);
    set(&door, &[("client-id", Some("loud"))], &[("producer_byte_rate", Some(1.0))]);
    let mut muted: Vec<Client> = (0..3).map(|_| admitted(&door)).collect();
    for client in &mut muted {
        assert!(produce(client, "loud", 1_000).1 > 900_000);
    }
    // All places are taken by clients that are not listened to: each that leaves gives its own back.
    for _ in 0..3 {
        muted.remove(0);
        let mut next = admitted(&door);
        assert!(produce(&mut next, "loud", 10).1 > 900_000);
        muted.push(next);
    }
    let began = Instant::now();
    door.close();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(muted.iter_mut().all(Client::is_closed));
}

#[test]
fn an_address_has_byte_rates_beside_its_clients_and_a_rate_of_connections() {
    let door = open();
    set(&door, &[("ip", Some("127.0.0.1"))], &[("producer_byte_rate", Some(10_000.0))]);
    assert_eq!(produce(&mut door.client(), "a", 90_000).1, 0);
    let (_, throttle) = produce(&mut door.client(), "b", 90_000);
    assert!(throttle > 5_000, "the address has used it up, whatever its clients are called: {throttle}");
    // The stricter of the two is told.
    set(&door, &[("client-id", Some("c"))], &[("producer_byte_rate", Some(10.0))]);
    assert!(produce(&mut door.client(), "c", 90_000).1 > 8_000_000);
    set(&door, &[("ip", None)], &[("connection_creation_rate", Some(1.0))]);
    let mut taken: Vec<Client> = (0..10).map(|_| door.client()).collect();
    for client in &mut taken {
        ask(client, "x", ApiKey::Metadata, 9, &kp::MetadataRequest::default());
        let _: kp::MetadataResponse = answer(client, ApiKey::Metadata, 9);
    }
    let began = Instant::now();
    let mut refused = door.client();
    assert!(refused.is_closed());
    assert!(began.elapsed() >= Duration::from_millis(900), "it is kept for a second, or it would come at once again");
    door.clock.advance(1_000);
    let mut again = door.client();
    ask(&mut again, "x", ApiKey::Metadata, 9, &kp::MetadataRequest::default());
    let _: kp::MetadataResponse = answer(&mut again, ApiKey::Metadata, 9);
}

#[test]
fn quotas_are_durable_when_they_are_answered() {
    let door = open();
    let both: Parts<'_> = &[("user", Some("u")), ("client-id", None)];
    set(&door, both, &[("producer_byte_rate", Some(1024.0)), ("consumer_byte_rate", Some(2048.0))]);
    set(&door, &[("client-id", Some("loud"))], &[("producer_byte_rate", Some(1.0))]);
    let expected = [
        "user=u,client-id=<default> producer_byte_rate:1024,consumer_byte_rate:2048",
        "client-id=loud producer_byte_rate:1",
    ];
    let told = |door: &Door| {
        let mut told = describe(door, vec![], false).unwrap();
        told.sort();
        told
    };
    let mut sorted: Vec<String> =
        expected.iter().map(|text| text.replace("user=u,client-id=<default>", "client-id=<default>,user=u")).collect();
    sorted.sort();
    assert_eq!(told(&door), sorted);
    let door = door.kill();
    assert_eq!(told(&door), sorted);
    assert!(produce(&mut door.client(), "loud", 1_000).1 > 900_000);
    set(&door, both, &[("producer_byte_rate", None), ("consumer_byte_rate", None)]);
    let door = door.restart();
    assert_eq!(told(&door), ["client-id=loud producer_byte_rate:1"]);
}

#[test]
fn mistakes_are_told_by_entity_and_the_others_are_done() {
    let door = open();
    let rate: Values<'_> = &[("producer_byte_rate", Some(5.0))];
    let entries = vec![
        entry(&[("client-id", Some("good"))], rate),
        entry(&[], rate),
        entry(&[("group", Some("x"))], rate),
        entry(&[("client-id", Some(""))], rate),
        entry(&[("user", None), ("ip", None)], rate),
        entry(&[("ip", Some("no-address"))], rate),
        entry(&[("user", Some("u1"))], &[("no_such_key", Some(1.0))]),
        entry(&[("user", Some("u2"))], &[("connection_creation_rate", Some(1.0))]),
        entry(&[("user", Some("u3"))], &[("request_percentage", Some(50.0))]),
        entry(&[("user", Some("u4"))], &[("producer_byte_rate", Some(0.0))]),
        entry(&[("user", Some("u5"))], &[("producer_byte_rate", Some(1.5))]),
        entry(&[("user", Some("u6"))], &[("producer_byte_rate", Some(f64::NAN))]),
        // One mistake, and nothing of the entity is done.
        entry(&[("user", Some("u7"))], &[("producer_byte_rate", Some(7.0)), ("consumer_byte_rate", Some(-7.0))]),
        // A key twice.
        entry(&[("user", Some("u8"))], &[("producer_byte_rate", Some(7.0)), ("producer_byte_rate", None)]),
        // Taking away what nobody knows is no mistake.
        entry(&[("client-id", Some("fine"))], &[("no_such_key", None)]),
    ];
    let codes = alter(&door, entries, false);
    let expected: Vec<i16> = (0..15).map(|at| if at == 0 || at == 14 { 0 } else { INVALID_REQUEST }).collect();
    assert_eq!(codes, expected);
    assert_eq!(describe(&door, vec![], false).unwrap(), ["client-id=good producer_byte_rate:5"]);
    // An entity twice is told once, and neither entry is done.
    let twice = |value| entry(&[("user", Some("u")), ("client-id", Some("c"))], &[("producer_byte_rate", Some(value))]);
    let turned = entry(&[("client-id", Some("c")), ("user", Some("u"))], rate);
    assert_eq!(
        alter(&door, vec![twice(1.0), entry(&[("user", Some("v"))], rate), turned], false),
        [INVALID_REQUEST, 0]
    );
    // Only looked at.
    assert_eq!(alter(&door, vec![twice(1.0)], true), [0]);
    assert_eq!(
        describe(&door, vec![], false).unwrap(),
        ["client-id=good producer_byte_rate:5", "user=v producer_byte_rate:5"]
    );
}

#[test]
fn a_disk_that_fails_is_told_and_the_quota_does_not_hold() {
    let door = open();
    set(&door, &[("client-id", Some("a"))], &[("producer_byte_rate", Some(5.0))]);
    // A checkpoint may meet the fault in its place: then the change is done, and the next one's turn comes.
    for rate in 6..100 {
        door.sim.fail(inrush::disk::sim::Fault { call: inrush::disk::sim::Call::Sync, nth: 1, error: 5 });
        let change = entry(&[("client-id", Some("a"))], &[("producer_byte_rate", Some(f64::from(rate)))]);
        let codes = alter_by(&door, 1, vec![change], false);
        if codes == [0] {
            continue;
        }
        assert_eq!(codes, [56]);
        let told = describe(&door, vec![], false).unwrap();
        assert_eq!(told, [format!("client-id=a producer_byte_rate:{}", rate - 1)]);
        return;
    }
    panic!("a failed sync was never told");
}

#[test]
fn a_filter_matches_by_name_default_and_type_and_its_mistakes_are_kafkas() {
    let door = open();
    let rate: Values<'_> = &[("producer_byte_rate", Some(5.0))];
    let all: [Parts<'_>; 5] = [
        &[("user", Some("u"))],
        &[("user", None)],
        &[("user", Some("u")), ("client-id", Some("c"))],
        &[("client-id", Some("c"))],
        &[("ip", Some("10.0.0.1"))],
    ];
    assert_eq!(alter(&door, all.iter().map(|parts| entry(parts, rate)).collect(), false), [0; 5]);
    let found = |components, strict| describe(&door, components, strict).map(|found| found.len());
    let (exact, default, any) = (0, 1, 2);
    let user = |match_type, name| vec![component("user", match_type, name)];
    assert_eq!(found(vec![], false), Ok(5));
    assert_eq!(found(vec![], true), Ok(0));
    assert_eq!(found(user(exact, Some("u")), false), Ok(2));
    assert_eq!(found(user(exact, Some("u")), true), Ok(1));
    assert_eq!(found(user(default, None), false), Ok(1));
    assert_eq!(found(user(any, None), false), Ok(3));
    assert_eq!(found(user(any, None), true), Ok(2));
    assert_eq!(found(vec![component("user", any, None), component("client-id", exact, Some("c"))], true), Ok(1));
    assert_eq!(found(vec![component("ip", any, None)], true), Ok(1));
    for wrong in [
        user(exact, None),
        user(default, Some("u")),
        user(any, Some("u")),
        user(9, None),
        vec![component("user", any, None), component("user", exact, Some("u"))],
        vec![component("", any, None)],
        vec![component("ip", any, None), component("user", any, None)],
    ] {
        assert_eq!(found(wrong.clone(), false), Err(INVALID_REQUEST), "{wrong:?}");
    }
    assert_eq!(found(vec![component("group", any, None)], false), Err(35), "UNSUPPORTED_VERSION, as Kafka says");
}
