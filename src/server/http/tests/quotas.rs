//! Quotas of addresses.

use super::*;
use crate::access::{ANONYMOUS, Alteration, Entity};

impl Open {
    /// What each address may do in a second; nothing said takes the quota away.
    async fn hold(&self, key: &str, rate: Option<f64>) {
        let entity = Entity::new([("ip", None)]).unwrap();
        self.quotas.alter(vec![Alteration { entity, values: vec![(key.to_owned(), rate)] }]).await.unwrap();
    }
}

/// Sends a POST of `size` bytes of body on a kept connection, and does not wait for the answer.
async fn send(stream: &mut TcpStream, headers: &str, size: usize) {
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n{headers}\r\n");
    let body = format!("\"{}\"", "x".repeat(size - 2));
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
}

const RATE: &str = "producer_byte_rate";

#[tokio::test]
async fn who_is_past_its_quota_is_answered_and_then_not_listened_to() {
    // By both ways of reading: a chunked request before them goes to hyper, and the connection with it.
    for before in [
        "",
        "POST /v1/topics/t/events HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
    ] {
        let door = open().await;
        door.hold(RATE, Some(1_000.0)).await;
        let mut stream = door.connect().await;
        if !before.is_empty() {
            stream.write_all(before.as_bytes()).await.unwrap();
            assert_eq!(answer(&mut stream).await.status, 200);
        }
        send(&mut stream, "", 110_000).await;
        assert_eq!(
            answer(&mut stream).await.status,
            200,
            "ten seconds' worth may come at once, and what is larger too"
        );
        send(&mut stream, "", 100).await;
        let mut waiting = Box::pin(answer(&mut stream));
        assert!(tokio::time::timeout(SOON, &mut waiting).await.is_err(), "100 seconds are owed");
        // On a new connection it hears of it, and is not listened to there either.
        let mut second = door.connect().await;
        send(&mut second, "", 10).await;
        let refused = answer(&mut second).await;
        assert_eq!((refused.status, refused.has("retry-after: 10")), (429, true), "{}", refused.head);
        assert!(refused.json()["error"].as_str().unwrap().contains("quota"), "{}", refused.json());
        send(&mut second, "", 10).await;
        assert!(tokio::time::timeout(SOON, second.peek(&mut [0])).await.is_err());
        // What it was judged by holds no longer.
        door.hold(RATE, None).await;
        assert_eq!((waiting.await.status, answer(&mut second).await.status), (200, 200));
        assert_eq!(door.post("", b"1").await.status, 200);
    }
}

#[tokio::test]
async fn what_is_owed_is_forgotten_with_time_and_a_muted_client_that_leaves_gives_its_place_back() {
    let door = open_with(limited(|limits| limits.connections_max = 1), 64 << 20).await;
    door.hold(RATE, Some(1_000.0)).await;
    let mut stream = door.connect().await;
    send(&mut stream, "", 110_000).await;
    assert_eq!(answer(&mut stream).await.status, 200);
    drop(stream);
    door.clock.advance(99_000);
    let refused = loop {
        // The place of the first may not be free yet; then there is no answer.
        let mut stream = door.connect().await;
        send(&mut stream, "", 10).await;
        if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
            break answer(&mut stream).await;
        }
    };
    assert_eq!((refused.status, refused.has("retry-after: 1\r\n")), (429, true), "{}", refused.head);
    door.clock.advance(1_000);
    assert_eq!(door.post("", b"1").await.status, 200);
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_its_own_quota_and_no_connection_is_muted() {
    let proxies = Proxies::parse(&["127.0.0.0/8".to_owned()]).unwrap();
    let door = open_with(Options { proxies, ..options() }, 64 << 20).await;
    door.hold(RATE, Some(1_000.0)).await;
    let mut stream = door.connect().await;
    let [one, other] = ["x-forwarded-for: 192.0.2.1\r\n", "x-forwarded-for: 192.0.2.2\r\n"];
    for (client, size, status) in [(one, 110_000, 200), (other, 100, 200), (one, 100, 429)] {
        send(&mut stream, client, size).await;
        assert_eq!(answer(&mut stream).await.status, status, "{client}");
    }
}

#[tokio::test]
async fn readers_are_held_to_a_quota_too() {
    let door = open().await;
    door.post("", format!("\"{}\"", "x".repeat(90_000)).as_bytes()).await;
    door.hold("consumer_byte_rate", Some(10_000.0)).await;
    let path = format!("{EVENTS}?from=start");
    assert_eq!(door.call("GET", &path, "", b"").await.status, 200);
    let refused = door.call("GET", &path, "", b"").await;
    assert_eq!(refused.status, 429);
    // A live tail waits, and goes on when there is room.
    let mut live = tail(&door, "?from=start", "").await;
    let mut seen = Box::pin(tail_until(&mut live, "xxx"));
    assert!(tokio::time::timeout(SOON, &mut seen).await.is_err());
    door.clock.advance(100_000);
    seen.await;
    door.clock.advance(100_000);
    assert_eq!(door.call("GET", &path, "", b"").await.status, 200);
}

#[tokio::test]
async fn who_closed_its_sending_side_is_answered_to_the_end_also_while_it_is_muted() {
    let door = open().await;
    door.hold(RATE, Some(1_000.0)).await;
    let mut stream = door.connect().await;
    let request = |size: usize| {
        let body = format!("\"{}\"", "x".repeat(size - 2));
        format!("POST {EVENTS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n{body}")
    };
    // Three at once: the first uses up the quota, and the others are read with it.
    door.post("", format!("\"{}\"", "x".repeat(9_990)).as_bytes()).await;
    stream.write_all([request(12_000), request(10), request(10)].concat().as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    for _ in 0..3 {
        assert_eq!(answer(&mut stream).await.status, 200);
    }
    closed(&mut stream).await;
    assert_eq!(door.stored().await.len(), 4);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_who_is_muted() {
    let door = open().await;
    door.hold(RATE, Some(1_000.0)).await;
    let mut stream = door.connect().await;
    send(&mut stream, "", 110_000).await;
    assert_eq!(answer(&mut stream).await.status, 200);
    door.stop.send_replace(true);
    closed(&mut stream).await;
}

#[tokio::test]
async fn what_a_refused_client_sent_counts_however_it_came() {
    // At once, and with a body that comes later.
    for parts in [1, 2] {
        let door = open_with(Options { auto_create: false, ..options() }, 64 << 20).await;
        door.hold(RATE, Some(100.0)).await;
        let mut stream = door.connect().await;
        let request = [
            format!("POST {EVENTS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11000\r\n\r\n").into_bytes(),
            vec![b'1'; 11_000],
        ]
        .concat();
        for part in request.chunks(request.len().div_ceil(parts)) {
            stream.write_all(part).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(answer(&mut stream).await.status, 404);
        let refused = door.post("", b"1").await;
        assert_eq!((refused.status, refused.has("retry-after: 100\r\n")), (429, true), "{}", refused.head);
    }
}

#[tokio::test]
async fn quotas_of_users_and_client_ids_are_the_kafka_doors() {
    let door = open().await;
    for entity in [[("user", None)], [("user", Some(ANONYMOUS))], [("client-id", None)]] {
        let entity = Entity::new(entity).unwrap();
        let values = vec![(RATE.to_owned(), Some(1.0))];
        door.quotas.alter(vec![Alteration { entity, values }]).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(door.post("", &[b"\"", vec![b'x'; 1_000].as_slice(), b"\""].concat()).await.status, 200);
    }
}
