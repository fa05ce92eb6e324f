// kafkajs against a running daemon: topics, produce (it compresses with gzip only), what it reads about offsets.
// It consumes by groups alone (groups.js); what it produced here is read by HTTP.
// Usage: node main.js HOST:PORT HTTP_HOST:PORT

const { Kafka, CompressionTypes, logLevel } = require("kafkajs");

const [address, http] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "inrush-check", brokers: [address], logLevel: logLevel.NOTHING });
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

async function bothWays(admin, codec, idempotent) {
  const mark = `kafkajs ${codec}${idempotent ? " idempotent" : ""}`;
  const topic = `js-${codec}-${idempotent}-${Math.random().toString(36).slice(2, 8)}`;
  await admin.createTopics({ topics: [{ topic, numPartitions: 2, configEntries: [{ name: "max.message.bytes", value: "9000000" }] }] });
  const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : 5 });
  await producer.connect();
  const now = Date.now();
  const messages = [
    { key: null, value: "tiny", partition: 0, timestamp: String(now) },
    { key: "k", value: null, partition: 0, timestamp: String(now + 10) },
    { key: "", value: "", partition: 0, headers: { h: "1" }, timestamp: String(now + 20) },
    { key: "large", value: "y".repeat(900_000), partition: 0, timestamp: String(now + 30) },
    { key: "larger", value: "z".repeat(7_900_000), partition: 0, timestamp: String(now + 40) },
  ];
  const compression = codec === "gzip" ? CompressionTypes.GZIP : CompressionTypes.None;
  const sent = await producer.send({ topic, acks: -1, compression, messages });
  check(`${mark}: sent`, sent[0].errorCode === 0 && sent[0].baseOffset === "0");
  for (let n = 0; n < 20; n += 1) {
    await producer.send({ topic, acks: -1, compression, messages: Array.from({ length: 50 }, (_, at) => ({ value: String(n * 50 + at), partition: 1 })) });
  }
  await producer.disconnect();
  const offsets = await admin.fetchTopicOffsets(topic);
  check(`${mark}: offsets`, offsets.find((one) => one.partition === 0).high === "5" && offsets.find((one) => one.partition === 1).high === "1000");
  const at = await admin.fetchTopicOffsetsByTimestamp(topic, now + 15);
  check(`${mark}: from a time`, at.find((one) => one.partition === 0).offset === "2");
  const read = async (partition, from, limit) => {
    const answer = await fetch(`http://${http}/v1/topics/${topic}/events?partition=${partition}&from=${from}&limit=${limit}`);
    return (await answer.json()).events;
  };
  const numbers = await read(1, "start", 1000);
  check(`${mark}: a thousand in order`, numbers.length === 1000 && numbers.every((event, n) => event.value === n));
  const second = await read(0, "2", 1);
  check(`${mark}: headers`, second[0].headers.h === "1");
}

async function administration(admin) {
  const topic = `js-admin-${Math.random().toString(36).slice(2, 8)}`;
  check("admin: made", await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] }));
  check("admin: a second one is not", !(await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] })));
  const meta = await admin.fetchTopicMetadata({ topics: [topic] });
  check("admin: three partitions", meta.topics[0].partitions.length === 3);
  const configs = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type: 2, name: topic }] });
  check("admin: settings", configs.resources[0].configEntries.some((entry) => entry.configName === "retention.ms"));
  check("admin: the cluster", (await admin.describeCluster()).brokers.length === 1);
  await admin.deleteTopics({ topics: [topic] });
  check("admin: gone", !(await admin.listTopics()).includes(topic));
}

async function main() {
  const admin = kafka.admin();
  await admin.connect();
  for (const [codec, idempotent] of [["none", false], ["gzip", false], ["gzip", true]]) {
    await bothWays(admin, codec, idempotent).catch((error) => check(`${codec}: ${error}`, false));
  }
  await administration(admin).catch((error) => check(`admin: ${error}`, false));
  await admin.disconnect();
  console.log(`kafkajs: ${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

main();
