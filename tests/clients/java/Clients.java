// The Java client against a running daemon: produce with every codec, consume from the start, an offset and a time, topics, quotas.
// Usage: java -cp 'FOLDER_OF_JARS/*' Clients.java HOST:PORT

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.serialization.*;

public class Clients {
    static String address;
    static int passed = 0;
    static final List<String> failed = new ArrayList<>();
    static final long NOW = System.currentTimeMillis();

    static void check(String what, boolean isRight) {
        if (isRight) {
            passed++;
        } else {
            failed.add(what);
            System.out.println("failed: " + what);
        }
    }

    static Properties properties() {
        Properties p = new Properties();
        p.put("bootstrap.servers", address);
        return p;
    }

    static byte[] large(int size) {
        byte[] bytes = new byte[size];
        for (int n = 0; n < size; n++) bytes[n] = (byte) (n * 31 + n / 255);
        return bytes;
    }

    static void bothWays(Admin admin, String codec) throws Exception {
        String topic = "java-" + codec + "-" + UUID.randomUUID().toString().substring(0, 6);
        NewTopic asked = new NewTopic(topic, 2, (short) 1).configs(Map.of("max.message.bytes", "9000000"));
        admin.createTopics(List.of(asked)).all().get(20, TimeUnit.SECONDS);
        Properties p = properties();
        p.put("compression.type", codec);
        p.put("max.request.size", 9_000_000);
        p.put("linger.ms", 5);
        List<byte[]> values = new ArrayList<>(Arrays.asList("x".getBytes(), null, new byte[0], large(1_000_000), large(8_000_000)));
        List<byte[]> keys = Arrays.asList(null, "k".getBytes(), new byte[0], new byte[] {0, -1}, "large".getBytes());
        // Idempotent and acks=all: the client's default.
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Header> headers = List.of(new RecordHeader("h", "1".getBytes()), new RecordHeader("h", null));
            for (int n = 0; n < values.size(); n++) {
                RecordMetadata sent = producer.send(new ProducerRecord<>(topic, 0, NOW + n * 10, keys.get(n), values.get(n), n == 2 ? headers : null)).get(30, TimeUnit.SECONDS);
                check(codec + ": offset " + n, sent.offset() == n && sent.timestamp() == NOW + n * 10);
            }
            List<Future<RecordMetadata>> many = new ArrayList<>();
            for (int n = 0; n < 5000; n++) many.add(producer.send(new ProducerRecord<>(topic, 1, NOW, null, Integer.toString(n).getBytes())));
            producer.flush();
            long last = many.get(4999).get(30, TimeUnit.SECONDS).offset();
            check(codec + ": five thousand, in flight together", last == 4999);
        }
        p = properties();
        p.put("enable.auto.commit", "false");
        p.put("max.partition.fetch.bytes", 1_000_000);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1);
            consumer.assign(List.of(zero));
            consumer.seekToBeginning(List.of(zero));
            List<ConsumerRecord<byte[], byte[]>> got = read(consumer, values.size());
            boolean same = got.size() == values.size();
            for (int n = 0; same && n < values.size(); n++)
                same = Arrays.equals(got.get(n).key(), keys.get(n)) && Arrays.equals(got.get(n).value(), values.get(n)) && got.get(n).timestamp() == NOW + n * 10;
            check(codec + ": keys, values, times", same);
            Header[] headers = same ? got.get(2).headers().toArray() : new Header[0];
            check(codec + ": headers", headers.length == 2 && headers[0].key().equals("h") && headers[1].value() == null);
            consumer.seek(zero, 3);
            check(codec + ": from an offset", read(consumer, 2).get(0).offset() == 3);
            Map<TopicPartition, OffsetAndTimestamp> times = consumer.offsetsForTimes(Map.of(zero, NOW + 15));
            check(codec + ": from a time", times.get(zero).offset() == 2 && times.get(zero).timestamp() == NOW + 20);
            check(codec + ": after the last time", consumer.offsetsForTimes(Map.of(zero, NOW + 99_999)).get(zero) == null);
            check(codec + ": end offsets", consumer.endOffsets(List.of(zero, one)).equals(Map.of(zero, 5L, one, 5000L)));
            consumer.assign(List.of(one));
            consumer.seekToBeginning(List.of(one));
            got = read(consumer, 5000);
            same = got.size() == 5000;
            for (int n = 0; same && n < 5000; n++) same = new String(got.get(n).value()).equals(Integer.toString(n));
            check(codec + ": five thousand in order", same);
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        long until = System.currentTimeMillis() + 30_000;
        while (got.size() < count && System.currentTimeMillis() < until) consumer.poll(Duration.ofMillis(500)).forEach(got::add);
        return got;
    }

    static void administration(Admin admin) throws Exception {
        String topic = "java-admin-" + UUID.randomUUID().toString().substring(0, 6);
        CreateTopicsResult made = admin.createTopics(List.of(new NewTopic(topic, Optional.of(3), Optional.empty()).configs(Map.of("retention.ms", "1000000"))));
        made.all().get(20, TimeUnit.SECONDS);
        check("admin: told what was made", made.numPartitions(topic).get() == 3 && made.config(topic).get().get("retention.ms").value().equals("1000000"));
        TopicDescription described = admin.describeTopics(List.of(topic)).allTopicNames().get(20, TimeUnit.SECONDS).get(topic);
        check("admin: described", described.partitions().size() == 3 && described.topicId().equals(made.topicId(topic).get()));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config config = admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all().get(20, TimeUnit.SECONDS).get(resource);
        check("admin: a set value", config.get("retention.ms").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG && config.get("retention.ms").synonyms().size() == 2);
        check("admin: a default", config.get("segment.bytes").isDefault() && config.get("segment.bytes").type() == ConfigEntry.ConfigType.INT);
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        check("admin: the node", admin.describeConfigs(List.of(broker)).all().get(20, TimeUnit.SECONDS).get(broker).get("num.partitions").isReadOnly());
        check("admin: the cluster", admin.describeCluster().nodes().get(20, TimeUnit.SECONDS).size() == 1 && admin.describeCluster().clusterId().get() != null);
        try {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get(20, TimeUnit.SECONDS);
            check("admin: a second one is refused", false);
        } catch (ExecutionException error) {
            check("admin: a second one is refused", error.getCause() instanceof TopicExistsException);
        }
        try {
            admin.createTopics(List.of(new NewTopic(topic + "x", 1, (short) 3)), new CreateTopicsOptions().validateOnly(true)).all().get(20, TimeUnit.SECONDS);
            check("admin: three replicas are refused", false);
        } catch (ExecutionException error) {
            check("admin: three replicas are refused", error.getCause() instanceof InvalidReplicationFactorException);
        }
        TopicPartition zero = new TopicPartition(topic, 0);
        check("admin: offsets", admin.listOffsets(Map.of(zero, OffsetSpec.latest())).all().get(20, TimeUnit.SECONDS).get(zero).offset() == 0);
        check("admin: the greatest time of nothing", admin.listOffsets(Map.of(zero, OffsetSpec.maxTimestamp())).all().get(20, TimeUnit.SECONDS).get(zero).offset() == -1);
        admin.deleteTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(described.topicId()))).all().get(20, TimeUnit.SECONDS);
        check("admin: gone", !admin.listTopics().names().get(20, TimeUnit.SECONDS).contains(topic));
    }

    // Set, described and removed by the client's own calls; a producer and a consumer over theirs are told so, and everything arrives.
    static void quotas(Admin admin) throws Exception {
        String id = "java-loud-" + UUID.randomUUID().toString().substring(0, 6), topic = id;
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, id));
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get(20, TimeUnit.SECONDS);
        alter(admin, entity, new ClientQuotaAlteration.Op("producer_byte_rate", 50_000.0), new ClientQuotaAlteration.Op("consumer_byte_rate", 50_000.0));
        Map<ClientQuotaEntity, Map<String, Double>> told = admin.describeClientQuotas(ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, id)))).entities().get(20, TimeUnit.SECONDS);
        check("quotas: described", told.equals(Map.of(entity, Map.of("producer_byte_rate", 50_000.0, "consumer_byte_rate", 50_000.0))));
        check("quotas: among all", admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get(20, TimeUnit.SECONDS).containsKey(entity));
        try {
            alter(admin, entity, new ClientQuotaAlteration.Op("no_such_rate", 1.0));
            check("quotas: an unknown key is refused", false);
        } catch (ExecutionException error) {
            check("quotas: an unknown key is refused", error.getCause() instanceof InvalidRequestException);
        }
        Properties p = properties();
        p.put("client.id", id);
        p.put("compression.type", "none");
        long began = System.currentTimeMillis();
        Random random = new Random(7);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            // 600,000 bytes where 500,000 are free: two seconds more.
            for (int n = 0; n < 60; n++) {
                byte[] value = new byte[10_000];
                random.nextBytes(value);
                producer.send(new ProducerRecord<>(topic, value));
            }
            producer.flush();
            producer.send(new ProducerRecord<>(topic, new byte[1])).get(30, TimeUnit.SECONDS);
            check("quotas: the producer is told", throttled(producer.metrics(), "produce-throttle-time-max"));
        }
        check("quotas: and waits", System.currentTimeMillis() - began >= 1_500);
        p = properties();
        p.put("client.id", id);
        p.put("enable.auto.commit", "false");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            TopicPartition zero = new TopicPartition(topic, 0);
            consumer.assign(List.of(zero));
            consumer.seekToBeginning(List.of(zero));
            check("quotas: all is read", read(consumer, 61).size() == 61);
            check("quotas: the consumer is told", throttled(consumer.metrics(), "fetch-throttle-time-max"));
        }
        alter(admin, entity, new ClientQuotaAlteration.Op("producer_byte_rate", null), new ClientQuotaAlteration.Op("consumer_byte_rate", null));
        check("quotas: removed", !admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get(20, TimeUnit.SECONDS).containsKey(entity));
    }

    static void alter(Admin admin, ClientQuotaEntity entity, ClientQuotaAlteration.Op... ops) throws Exception {
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(ops)))).all().get(20, TimeUnit.SECONDS);
    }

    static boolean throttled(Map<org.apache.kafka.common.MetricName, ? extends org.apache.kafka.common.Metric> metrics, String name) {
        return metrics.entrySet().stream().anyMatch(one -> one.getKey().name().equals(name) && one.getValue().metricValue() instanceof Double value && value > 0);
    }

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        try (Admin admin = Admin.create(properties())) {
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                try {
                    bothWays(admin, codec);
                } catch (Exception error) {
                    check(codec + ": " + error, false);
                }
            }
            try {
                administration(admin);
            } catch (Exception error) {
                check("admin: " + error, false);
            }
            try {
                quotas(admin);
            } catch (Exception error) {
                check("quotas: " + error, false);
            }
        }
        System.out.println("java: " + passed + " passed, " + failed.size() + " failed");
        System.exit(failed.isEmpty() ? 0 : 1);
    }
}
