"""What tools of clients that are not ours do with consumer groups, against a running daemon: list, describe, read, alter and delete offsets,
remove members, delete groups; by confluent-kafka, kafka-python and aiokafka. Usage: group_admin.py HOST:PORT"""

import asyncio
import sys
import time
import uuid

import aiokafka
import aiokafka.admin
import checks
import confluent_kafka
import confluent_kafka.admin
import kafka
import kafka.admin
import kafka.errors
from checks import check
from members import Member

ADDRESS = sys.argv[1]
PARTITIONS = 4
PATIENCE_S = 30
admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": ADDRESS})


def new_group(who):
    """A topic with a hundred records in each partition, and a group in which one has read them all and has left."""
    name = f"{who}-{uuid.uuid4().hex[:8]}"
    admin.create_topics([confluent_kafka.admin.NewTopic(name, PARTITIONS, 1)])[name].result(30)
    producer = confluent_kafka.Producer({"bootstrap.servers": ADDRESS, "linger.ms": 5})
    for n in range(100 * PARTITIONS):
        producer.produce(name, str(n), partition=n % PARTITIONS)
    producer.flush(PATIENCE_S)
    member = reading(name, name)
    member.close(PATIENCE_S)
    return name


def reading(group, topic):
    """A member that has read and committed what there is."""
    member = Member(ADDRESS, "confluent", group, topic)
    until = time.monotonic() + PATIENCE_S
    while len(member.assignment) < PARTITIONS or committed(group, topic) != [100] * PARTITIONS:
        if time.monotonic() > until:
            raise TimeoutError(f"{group}: nobody reads")
        time.sleep(0.1)
    return member


def committed(group, topic):
    parts = [confluent_kafka.TopicPartition(topic, id) for id in range(PARTITIONS)]
    answer = admin.list_consumer_group_offsets([confluent_kafka.ConsumerGroupTopicPartitions(group, parts)])[group].result(PATIENCE_S)
    return [part.offset for part in sorted(answer.topic_partitions, key=lambda part: part.partition)]


def code_of(future):
    """The error that it ended with."""
    try:
        future.result(PATIENCE_S)
    except confluent_kafka.KafkaException as error:
        return error.args[0].code()
    return confluent_kafka.KafkaError.NO_ERROR


def confluent_tools():
    name = new_group("confluent")
    mark, errors = "confluent admin", confluent_kafka.KafkaError
    states = {group.group_id: group.state for group in admin.list_consumer_groups().result(PATIENCE_S).valid}
    check(f"{mark}: listed as empty", states.get(name) == confluent_kafka.ConsumerGroupState.EMPTY)
    described = admin.describe_consumer_groups([name, name + "-none"])
    empty, none = (described[group].result(PATIENCE_S) for group in [name, name + "-none"])
    check(f"{mark}: described as empty", (empty.state, empty.members, empty.coordinator.port) == (confluent_kafka.ConsumerGroupState.EMPTY, [], int(ADDRESS.split(":")[1])))
    check(f"{mark}: one that is not there is dead", none.state == confluent_kafka.ConsumerGroupState.DEAD)
    check(f"{mark}: offsets", committed(name, name) == [100] * PARTITIONS)
    altered = [confluent_kafka.TopicPartition(name, 0, 7), confluent_kafka.TopicPartition(name, 1, 0)]
    admin.alter_consumer_group_offsets([confluent_kafka.ConsumerGroupTopicPartitions(name, altered)])[name].result(PATIENCE_S)
    check(f"{mark}: altered offsets", committed(name, name) == [7, 0, 100, 100])
    member = reading(name, name)
    numbers = sorted(offset for _, partition, offset, _ in member.records if partition == 0)
    check(f"{mark}: read again from there", numbers == list(range(7, 100)) and len(member.records) == 193)
    busy = admin.describe_consumer_groups([name])[name].result(PATIENCE_S)
    check(f"{mark}: described as stable", (busy.state, busy.partition_assignor) == (confluent_kafka.ConsumerGroupState.STABLE, "range"))
    check(f"{mark}: its member", [(one.client_id, one.host, len(one.assignment.topic_partitions)) for one in busy.members] == [("rdkafka", "/127.0.0.1", PARTITIONS)])
    stable = admin.list_consumer_groups(states={confluent_kafka.ConsumerGroupState.STABLE}).result(PATIENCE_S).valid
    check(f"{mark}: listed by state", name in [group.group_id for group in stable] and all(group.state == confluent_kafka.ConsumerGroupState.STABLE for group in stable))
    check(f"{mark}: not deleted with members", code_of(admin.delete_consumer_groups([name])[name]) == errors.NON_EMPTY_GROUP)
    asked = [confluent_kafka.ConsumerGroupTopicPartitions(name, altered)]
    refused = admin.alter_consumer_group_offsets(asked)[name].result(PATIENCE_S).topic_partitions
    check(f"{mark}: not altered with members", [part.error.code() for part in refused if part.error] == [errors.UNKNOWN_MEMBER_ID] * 2)
    check(f"{mark}: so the offsets stay", committed(name, name) == [100] * PARTITIONS)
    member.close(PATIENCE_S)
    check(f"{mark}: deleted", code_of(admin.delete_consumer_groups([name])[name]) == errors.NO_ERROR)
    check(f"{mark}: and gone", code_of(admin.delete_consumer_groups([name])[name]) == errors.GROUP_ID_NOT_FOUND)
    check(f"{mark}: with its offsets", all(offset < 0 for offset in committed(name, name)))
    check(f"{mark}: listed no more", name not in [group.group_id for group in admin.list_consumer_groups().result(PATIENCE_S).valid])


def kafka_python_tools():
    name, mark = new_group("kafka-python"), "kafka-python admin"
    tools = kafka.KafkaAdminClient(bootstrap_servers=ADDRESS)
    parts = [kafka.TopicPartition(name, id) for id in range(PARTITIONS)]

    def offsets():
        return [place.offset for _, place in sorted(tools.list_group_offsets({name: None})[name].items())]

    listed = {group["group_id"]: group for group in tools.list_groups()}
    check(f"{mark}: listed", (listed[name]["group_state"], listed[name]["protocol_type"], listed[name]["group_type"]) == ("Empty", "consumer", "classic"))
    check(f"{mark}: listed by state", name not in [group["group_id"] for group in tools.list_groups(states_filter=["Stable"])])
    check(f"{mark}: described", tools.describe_groups([name])[name]["group_state"] == "Empty")
    check(f"{mark}: all offsets", offsets() == [100] * PARTITIONS)
    tools.alter_group_offsets(name, {parts[0]: kafka.OffsetAndMetadata(7, "back «there»", 0), parts[1]: kafka.OffsetAndMetadata(0, "", -1)})
    found = tools.list_group_offsets({name: parts[:2]})[name]
    check(f"{mark}: altered, with words and epoch", [tuple(found[part]) for part in parts[:2]] == [(7, "back «there»", 0), (0, "", -1)])
    tools.reset_group_offsets(name, {parts[2]: kafka.admin.OffsetSpec.EARLIEST, parts[3]: kafka.admin.OffsetSpec.LATEST})
    check(f"{mark}: reset", offsets() == [7, 0, 0, 100])
    deleted = tools.delete_group_offsets(name, [parts[0], kafka.TopicPartition(name, 99)])
    check(f"{mark}: offsets deleted", deleted == {parts[0]: kafka.errors.NoError, kafka.TopicPartition(name, 99): kafka.errors.UnknownTopicOrPartitionError})
    check(f"{mark}: and no others", offsets() == [0, 0, 100])
    member = reading(name, name)
    check(f"{mark}: read again from there", len(member.records) == 300)
    check(f"{mark}: offsets that are in use stay", set(tools.delete_group_offsets(name, parts).values()) == {kafka.errors.GroupSubscribedToTopicError})
    described = tools.describe_groups([name])[name]
    ids = [one["member_id"] for one in described["members"]]
    check(f"{mark}: described with its member", (described["group_state"], described["protocol_data"], len(ids)) == ("Stable", "range", 1))
    check(f"{mark}: not deleted with members", tools.delete_groups([name])[name] == "NonEmptyGroupError")
    member.kill()
    tools.remove_group_members(name, [kafka.admin.MemberToRemove(member_id=ids[0])])
    check(f"{mark}: its member removed", tools.describe_groups([name])[name]["group_state"] == "Empty")
    check(f"{mark}: deleted, one that was and one that was not there", tools.delete_groups([name, name + "-none"]) == {name: "OK", name + "-none": "GroupIdNotFoundError"})
    check(f"{mark}: gone", name not in [group["group_id"] for group in tools.list_groups()])
    tools.close()


async def with_aiokafka(name):
    mark, tools = "aiokafka admin", aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=ADDRESS)
    await tools.start()
    check(f"{mark}: listed", (name, "consumer") in await tools.list_consumer_groups())
    described = (await tools.describe_consumer_groups([name]))[0].groups[0]
    check(f"{mark}: described", described[:4] == (0, name, "Empty", "consumer"))
    check(f"{mark}: finds the coordinator", await tools.find_coordinator(name) == 1)
    parts = [aiokafka.TopicPartition(name, id) for id in range(PARTITIONS)]
    wanted = dict.fromkeys(parts, 100)
    check(f"{mark}: all offsets", {part: place.offset for part, place in (await tools.list_consumer_group_offsets(name)).items()} == wanted)
    some = await tools.list_consumer_group_offsets(name, partitions=parts[:1])
    check(f"{mark}: offsets of one partition", {part: place.offset for part, place in some.items()} == {parts[0]: 100})
    await tools.close()


def aiokafka_tools():
    asyncio.run(with_aiokafka(new_group("aiokafka")))


for tools in [confluent_tools, kafka_python_tools, aiokafka_tools]:
    checks.attempt(tools)
checks.end("group tools")
