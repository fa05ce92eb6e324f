//! Static members (KIP-345): they keep their place over a restart.

use super::*;

/// What a member tells its leader beside its topics.
const NEWER: &[u8] = b"newer words";

fn newer(topics: &[&str]) -> Bytes {
    let mut out = subscription(topics).to_vec();
    // In place of none.
    out.truncate(out.len() - 4);
    out.extend((NEWER.len() as i32).to_be_bytes());
    out.extend(NEWER);
    out.into()
}

#[test]
fn behaviour_26_a_static_member_that_restarts_keeps_its_place() {
    let mut table = Table::new();
    let (mut a, mut b) = (table.join(instance("i")), table.join(instance("j")));
    table.pass(6_000);
    let (a, b) = (got(&mut a).unwrap(), got(&mut b).unwrap());
    let (leader, other) = if a.leader == a.member { (a, b) } else { (b, a) };
    table.share_out(&leader, &other);
    let name = |joined: &Joined| joined.member.split('-').next().unwrap().to_owned();

    // The follower: a new id, the same generation, no word to the others.
    let mut back = table.join(instance(&name(&other)));
    assert!(waits(&mut back), "its new id is durable before it is told");
    table.land();
    let back = got(&mut back).unwrap();
    assert_eq!((back.generation, &back.leader), (1, &leader.member));
    assert_ne!(back.member, other.member);
    assert_eq!(table.beat(&leader), Ok(()));
    assert_eq!(&got(&mut table.sync(&back, &[])).unwrap().assignment[..], b"two");
    // The one that it replaced is fenced.
    let (group, member) = ("g".into(), other.member.clone());
    let instance_name = Some(name(&other).into());
    let beat = Request::Heartbeat { group, member, instance: instance_name, generation: 1, answer: channel().0 };
    let Request::Heartbeat { group, member, instance: of, generation, .. } = beat else { unreachable!() };
    let beat = |answer| Request::Heartbeat { group, member, instance: of, generation, answer };
    assert_eq!(got(&mut table.ask(beat)), Err(Error::FencedInstance));

    // The leader, of a client that can skip: it leads on and assigns nothing. Of an older one: it is told that the old id leads.
    let mut back = table.join(Join { may_skip: true, ..instance(&name(&leader)) });
    table.land();
    let back = got(&mut back).unwrap();
    assert_eq!((&back.leader, back.skip_assignment, back.members.len()), (&back.member, true, 2));
    let mut older = table.join(instance(&name(&leader)));
    table.land();
    let older = got(&mut older).unwrap();
    assert_eq!((&older.leader, older.skip_assignment, older.members.len()), (&back.member, false, 0));

    // Another subscription is a reason to share out anew.
    let other_topics = vec![("range".into(), subscription(&["t", "u"])), ("sticky".into(), subscription(&["t", "u"]))];
    let mut changed = table.join(Join { protocols: other_topics, ..instance(&name(&leader)) });
    table.land();
    assert!(waits(&mut changed));
    assert_eq!(table.state(), Some(State::Preparing));
    // Who is away keeps its place until its session is over, and leaves by its name.
    assert_eq!(table.leave("", Some(&name(&other))), Ok(()));
    assert_eq!(table.leave("", Some("nobody")), Err(Error::UnknownMember));
    assert_eq!(got(&mut changed).unwrap().members.len(), 1);
}

#[test]
fn behaviour_26_a_static_member_that_restarts_before_the_assignment_begins_a_new_generation() {
    let mut table = Table::new();
    let (mut a, mut b) = (table.join(instance("i")), table.join(instance("j")));
    table.pass(6_000);
    let (a, b) = (got(&mut a).unwrap(), got(&mut b).unwrap());
    let (leader, other) = if a.leader == a.member { (a, b) } else { (b, a) };
    let mut waiting = table.sync(&other, &[]);
    let mut back = table.join(instance(other.member.split('-').next().unwrap()));
    assert_eq!(got(&mut waiting), Err(Error::FencedInstance));
    assert!(waits(&mut back));
    assert_eq!(got(&mut table.sync(&leader, &[(&other.member, b"two")])), Err(Error::RebalanceInProgress));
    let leads = got(&mut table
        .join(Join { instance: Some(leader.member.split('-').next().unwrap().into()), ..member(&leader.member) }));
    assert_eq!((leads.unwrap().generation, got(&mut back).unwrap().generation), (2, 2));
}

#[test]
fn behaviour_26_what_a_static_member_tells_when_it_comes_back_holds_from_then_on() {
    let mut table = Table::new();
    let (mut a, mut b) = (table.join(instance("i")), table.join(member("")));
    table.pass(6_000);
    let (a, b) = (got(&mut a).unwrap(), got(&mut b).unwrap());
    let (leader, other) = if a.leader == a.member { (&a, &b) } else { (&b, &a) };
    table.share_out(leader, other);
    // Another version of the program: other names, other times, the same topics.
    let protocols = ["range", "sticky"].map(|name| (name.into(), newer(&["t"]))).to_vec();
    let mut back = table.join(Join {
        client_id: "new".into(),
        client_host: "/10.0.0.2".into(),
        session_ms: 20_000,
        rebalance_ms: 7_000,
        protocols,
        ..instance("i")
    });
    table.land();
    let back = got(&mut back).unwrap();
    assert_eq!((table.state(), back.generation), (Some(State::Stable), 1));
    for table in [&mut table.restarted(Options::default()), &mut table] {
        let found = got(&mut table.ask(|answer| Request::Describe { group: "g".into(), answer })).unwrap();
        let told = found.members.iter().find(|one| one.instance.is_some()).unwrap();
        assert_eq!((&told.id, &*told.client_id, &*told.client_host), (&back.member, "new", "/10.0.0.2"));
        assert!(told.metadata.ends_with(NEWER), "what the leader shares out by is what it told last");
        // Its session is the new one: the dynamic member with the old one is dropped, it stays.
        assert_eq!(table.beat(&b), Ok(()));
        table.pass(SESSION_MS + 1);
        assert_eq!(table.beat(&b), Err(Error::UnknownMember));
        // And so is the time that others wait for it to join again.
        let mut c = table.join(member(""));
        table.pass(6_998);
        assert!(waits(&mut c));
        table.pass(1);
        assert_eq!(got(&mut c).unwrap().generation, 2);
    }
}
