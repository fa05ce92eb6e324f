// Consumer groups of kafkajs against a running daemon: reading on after a restart, sharing, leaving, being killed, patterns, and the admin
// client's tools. It has eager assignors only and no static members. Scenarios run side by side.
// Usage: node groups.js HOST:PORT; with "member GROUP TOPIC" behind it, one member that is there to be killed.

const { fork } = require("child_process");
const { Kafka, logLevel } = require("kafkajs");

const [address, ...rest] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "inrush-check", brokers: [address], logLevel: logLevel.NOTHING });
const admin = kafka.admin();
const producer = kafka.producer();
const PARTITIONS = 4;
const SESSION_MS = 6_000;
const PATIENCE_MS = 60_000;
let passed = 0;
let failed = 0;

function check(what, isRight) {
  if (isRight) {
    passed += 1;
  } else {
    failed += 1;
    console.log("failed:", what);
  }
}

// Waits until it is true; how long that took.
async function waitFor(what, isTrue) {
  const began = Date.now();
  while (!(await isTrue())) {
    if (Date.now() - began > PATIENCE_MS) throw new Error(`${what}: not in time`);
    await new Promise((done) => setTimeout(done, 20));
  }
  check(what, true);
  return Date.now() - began;
}

const fresh = (name) => `${name}-${Math.random().toString(36).slice(2, 10)}`;
const numbers = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

async function newTopic(topic) {
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: PARTITIONS }] });
  return topic;
}

async function send(topic, from, to) {
  await producer.send({ topic, messages: numbers(from, to).map((n) => ({ value: String(n), partition: n % PARTITIONS })) });
}

// A member. Commits what it read, with words beside the offsets.
class Member {
  constructor(groupId) {
    this.consumer = kafka.consumer({ groupId, sessionTimeout: SESSION_MS, heartbeatInterval: 300, metadataMaxAge: 1000, maxWaitTimeInMs: 200 });
    this.values = [];
    this.parts = 0;
    this.consumer.on("consumer.group_join", ({ payload }) => {
      this.parts = Object.values(payload.memberAssignment).reduce((count, ids) => count + ids.length, 0);
    });
  }

  async start(topic) {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [topic], fromBeginning: true });
    await this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: true,
      eachBatch: async ({ batch, heartbeat }) => {
        this.values.push(...batch.messages.map((message) => Number(message.value)));
        const offset = String(Number(batch.lastOffset()) + 1);
        await this.consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset, metadata: `up to «${offset}»` }]);
        await heartbeat();
      },
    });
    return this;
  }

  // As a program does that ends in order: it leaves the group.
  leave() {
    return this.consumer.disconnect();
  }
}

const read = (...members) => members.flatMap((member) => member.values).sort((one, other) => one - other);

async function committed(groupId, topic) {
  const found = await admin.fetchOffsets({ groupId, topics: [topic] });
  return found[0].partitions.sort((one, other) => one.partition - other.partition);
}

const areCommitted = async (group, topic, end) => (await committed(group, topic)).every(({ offset }) => offset === String(end));

async function resumes() {
  const topic = await newTopic(fresh("js-resumes"));
  await send(topic, 0, 40);
  const first = await new Member(topic).start(topic);
  await waitFor("all from the start", () => same(read(first), numbers(0, 40)));
  await waitFor("committed", () => areCommitted(topic, topic, 10));
  check("offsets with words", (await committed(topic, topic)).every(({ metadata }) => metadata === "up to «10»"));
  await first.leave();
  await send(topic, 40, 80);
  const second = await new Member(topic).start(topic);
  await waitFor("goes on", () => second.values.length >= 40);
  check("nothing that was committed again", same(read(second), numbers(40, 80)));
  await second.leave();
}

async function shares() {
  const topic = await newTopic(fresh("js-shares"));
  const [one, two] = await Promise.all([new Member(topic).start(topic), new Member(topic).start(topic)]);
  await waitFor("two share", () => one.parts === 2 && two.parts === 2);
  await send(topic, 0, 200);
  await waitFor("two read", () => one.values.length + two.values.length >= 200);
  check("each record goes to one of them", same(read(one, two), numbers(0, 200)) && one.values.length === 100);
  await waitFor("two have committed", () => areCommitted(topic, topic, 50));
  await one.leave();
  let took = await waitFor("takes over from one that left", () => two.parts === PARTITIONS);
  check(`and at once: ${took}`, took < SESSION_MS - 1_000);
  await send(topic, 200, 240);
  await waitFor("reads what that one would have", () => same(read(one, two), numbers(0, 240)));
  const third = fork(__filename, [address, "member", topic, topic]);
  await waitFor("a third comes in", () => two.parts === 2);
  third.kill("SIGKILL");
  took = await waitFor("takes over from one that was killed", () => two.parts === PARTITIONS);
  check(`after its session: ${took}`, took > SESSION_MS - 2_000);
  await send(topic, 240, 280);
  await waitFor("reads all", () => same(read(one, two), numbers(0, 280)));
  await two.leave();
}

async function matches() {
  const prefix = fresh("js-match");
  const first = await newTopic(`${prefix}-a`);
  const second = await newTopic(`${prefix}-b`);
  await send(first, 0, 40);
  await send(second, 40, 80);
  const member = await new Member(fresh("js-matches")).start(new RegExp(`^${prefix}-.*`));
  await waitFor("by pattern", () => same(read(member), numbers(0, 80)));
  await member.leave();
}

async function tools() {
  const topic = await newTopic(fresh("js-tools"));
  await send(topic, 0, 40);
  const member = await new Member(topic).start(topic);
  await waitFor("tools: committed", () => areCommitted(topic, topic, 10));
  const [busy] = (await admin.describeGroups([topic])).groups;
  check("tools: described as stable", busy.state === "Stable" && busy.protocol === "RoundRobinAssigner" && busy.members.length === 1);
  check("tools: its member", busy.members[0].clientId === "inrush-check" && busy.members[0].clientHost === "/127.0.0.1");
  const refused = await admin.deleteGroups([topic]).catch((error) => error.groups);
  check("tools: not deleted with members", refused.length === 1 && refused[0].error.type === "NON_EMPTY_GROUP");
  await member.leave();
  const listed = (await admin.listGroups()).groups.find(({ groupId }) => groupId === topic);
  check("tools: listed", listed.protocolType === "consumer");
  await admin.setOffsets({ groupId: topic, topic, partitions: [{ partition: 0, offset: "7" }] });
  check("tools: altered", (await committed(topic, topic))[0].offset === "7");
  await admin.resetOffsets({ groupId: topic, topic, earliest: true });
  // It commits -2, which stands for the start; resolved it is 0.
  const [reset] = await admin.fetchOffsets({ groupId: topic, topics: [topic], resolveOffsets: true });
  check(`tools: reset: ${JSON.stringify(reset.partitions)}`, reset.partitions.every(({ offset }) => offset === "0"));
  const deleted = await admin.deleteGroups([topic]);
  check("tools: deleted", deleted.length === 1 && deleted[0].errorCode === 0);
  check("tools: without offsets", await areCommitted(topic, topic, -1));
  check("tools: gone", !(await admin.listGroups()).groups.some(({ groupId }) => groupId === topic));
}

async function main() {
  if (rest[0] === "member") {
    await new Member(rest[1]).start(rest[2]);
    return;
  }
  await Promise.all([admin.connect(), producer.connect()]);
  await Promise.all([shares, resumes, matches, tools].map((scenario) => scenario().catch((error) => check(`${scenario.name}: ${error}`, false))));
  console.log(`kafkajs groups: ${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

main();
