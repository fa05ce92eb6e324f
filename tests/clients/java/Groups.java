// Consumer groups of the Java client against a running daemon: reading on after a restart, sharing, leaving, being killed, static members,
// eager and cooperative assignors, patterns, and the admin client's tools. Scenarios run side by side.
// Usage: java -cp 'FOLDER_OF_JARS/*' Groups.java HOST:PORT; with "member GROUP TOPIC" behind it, one member that is there to be killed.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

public class Groups {
    static final int PARTITIONS = 4;
    static final long SESSION_MS = 6_000, PATIENCE_MS = 60_000;
    static String address;
    static Admin admin;
    static KafkaProducer<String, String> producer;
    static int passed = 0;
    static final List<String> failed = new ArrayList<>();

    static synchronized void check(String what, boolean isRight) {
        if (isRight) {
            passed++;
        } else {
            failed.add(what);
            System.out.println("failed: " + what);
        }
    }

    /** Waits until it is true; how long that took. */
    static long waitFor(String what, BooleanSupplier isTrue) throws Exception {
        long began = System.currentTimeMillis();
        while (!isTrue.getAsBoolean()) {
            if (System.currentTimeMillis() - began > PATIENCE_MS) throw new java.util.concurrent.TimeoutException(what);
            Thread.sleep(20);
        }
        check(what, true);
        return System.currentTimeMillis() - began;
    }

    static String fresh(String name) {
        return name + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    static String newTopic(String name) throws Exception {
        admin.createTopics(List.of(new NewTopic(name, PARTITIONS, (short) 1))).all().get(30, TimeUnit.SECONDS);
        return name;
    }

    static void send(String topic, int from, int to) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int n = from; n < to; n++) sent.add(producer.send(new ProducerRecord<>(topic, n % PARTITIONS, null, Integer.toString(n))));
        producer.flush();
        for (Future<RecordMetadata> one : sent) one.get(30, TimeUnit.SECONDS);
    }

    static Properties properties(String group, Map<String, String> options) {
        Properties p = new Properties();
        p.put("bootstrap.servers", address);
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("session.timeout.ms", Long.toString(SESSION_MS));
        p.put("heartbeat.interval.ms", "300");
        p.put("metadata.max.age.ms", "1000");
        p.putAll(options);
        return p;
    }

    static Map<String, String> assignor(String name) {
        return Map.of("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + name);
    }

    /** A member on a thread of its own. Commits what it read, with words beside the offsets. */
    static class Member extends Thread implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final List<ConsumerRecord<String, String>> records = new CopyOnWriteArrayList<>();
        final List<Collection<TopicPartition>> revoked = new CopyOnWriteArrayList<>();
        final Set<TopicPartition> assignment = ConcurrentHashMap.newKeySet();
        final AtomicBoolean isClosing = new AtomicBoolean();
        volatile int rebalances = 0;
        volatile Exception broke;

        Member(String group, Object topics, Map<String, String> options) {
            consumer = new KafkaConsumer<>(properties(group, options), new StringDeserializer(), new StringDeserializer());
            if (topics instanceof Pattern pattern) {
                consumer.subscribe(pattern, this);
            } else {
                consumer.subscribe(List.of((String) topics), this);
            }
            start();
        }

        public void onPartitionsAssigned(Collection<TopicPartition> parts) {
            rebalances++;
            assignment.addAll(parts);
        }

        public void onPartitionsRevoked(Collection<TopicPartition> parts) {
            rebalances++;
            if (!isClosing.get()) revoked.add(parts);
            assignment.removeAll(parts);
        }

        @Override
        public void run() {
            try {
                while (!isClosing.get()) {
                    ConsumerRecords<String, String> batch = consumer.poll(Duration.ofMillis(100));
                    if (batch.isEmpty()) continue;
                    batch.forEach(records::add);
                    Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
                    batch.forEach(one -> ends.put(new TopicPartition(one.topic(), one.partition()), new OffsetAndMetadata(one.offset() + 1, one.leaderEpoch(), words(one.offset() + 1))));
                    try {
                        consumer.commitSync(ends);
                    } catch (CommitFailedException | RebalanceInProgressException error) {
                        // Its partitions are another's, or about to be.
                    }
                }
                consumer.close();
            } catch (Exception error) {
                broke = error;
            }
        }

        void leave() throws Exception {
            isClosing.set(true);
            join(PATIENCE_MS);
            check("closed in order: " + broke, !isAlive() && broke == null);
        }

        List<Integer> values() {
            return records.stream().map(one -> Integer.parseInt(one.value())).toList();
        }
    }

    static String words(long offset) {
        return "up to «" + offset + "»";
    }

    static List<Integer> numbers(int from, int to) {
        return IntStream.range(from, to).boxed().toList();
    }

    static List<Integer> values(Member... members) {
        return Stream.of(members).flatMap(member -> member.values().stream()).sorted().toList();
    }

    static long waitShared(String what, String topic, Member... members) throws Exception {
        return waitFor(what, () -> {
            Set<TopicPartition> all = new HashSet<>();
            boolean isEven = true;
            for (Member member : members) {
                isEven &= member.assignment.size() == PARTITIONS / members.length;
                all.addAll(member.assignment);
            }
            return isEven && all.size() == PARTITIONS;
        });
    }

    static Map<TopicPartition, OffsetAndMetadata> committed(String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS);
    }

    static void waitCommitted(String what, String group, long end) throws Exception {
        waitFor(what, () -> {
            try {
                Map<TopicPartition, OffsetAndMetadata> found = committed(group);
                return found.size() == PARTITIONS && found.values().stream().allMatch(one -> one.offset() == end);
            } catch (Exception error) {
                throw new RuntimeException(error);
            }
        });
    }

    static void resumes() throws Exception {
        String topic = newTopic(fresh("java-resumes")), group = topic;
        send(topic, 0, 40);
        Member first = new Member(group, topic, Map.of());
        waitFor("all from the start", () -> first.records.size() >= 40);
        waitCommitted("committed", group, 10);
        first.leave();
        boolean areRight = committed(group).values().stream().allMatch(one -> one.metadata().equals(words(10)) && one.leaderEpoch().isPresent());
        check("offsets with words and leader epochs", areRight);
        send(topic, 40, 80);
        Member second = new Member(group, topic, Map.of());
        waitFor("goes on", () -> second.records.size() >= 40);
        check("nothing that was committed again", values(second).equals(numbers(40, 80)));
        second.leave();
    }

    static void shares() throws Exception {
        String topic = newTopic(fresh("java-shares")), group = topic;
        Member one = new Member(group, topic, Map.of()), two = new Member(group, topic, Map.of());
        waitShared("two share", topic, one, two);
        send(topic, 0, 200);
        waitFor("two read", () -> one.records.size() + two.records.size() >= 200);
        check("each record goes to one of them", values(one, two).equals(numbers(0, 200)) && one.records.size() == 100);
        waitCommitted("two have committed", group, 50);
        one.leave();
        long tookMs = waitShared("takes over from one that left", topic, two);
        check("and at once: " + tookMs, tookMs < SESSION_MS - 1_000);
        send(topic, 200, 240);
        waitFor("reads what that one would have", () -> values(one, two).equals(numbers(0, 240)));
        Process third = new ProcessBuilder(Path.java(), "-cp", System.getProperty("java.class.path"), Path.source(), address, "member", group, topic).inheritIO().start();
        waitFor("a third comes in", () -> two.assignment.size() == PARTITIONS / 2);
        third.destroyForcibly().waitFor();
        tookMs = waitShared("takes over from one that was killed", topic, two);
        check("after its session: " + tookMs, tookMs > SESSION_MS - 2_000);
        send(topic, 240, 280);
        waitFor("reads all", () -> values(one, two).equals(numbers(0, 280)));
        two.leave();
    }

    /** Where this program is, to be started again. */
    static class Path {
        static String java() {
            return System.getProperty("java.home") + "/bin/java";
        }

        static String source() {
            return System.getProperty("jdk.launcher.sourcefile", "tests/clients/java/Groups.java");
        }
    }

    static void statics() throws Exception {
        String topic = newTopic(fresh("java-static")), group = topic;
        Member one = new Member(group, topic, Map.of("group.instance.id", "one")), two = new Member(group, topic, Map.of("group.instance.id", "two"));
        waitShared("static members share", topic, one, two);
        Set<TopicPartition> before = Set.copyOf(one.assignment);
        int told = two.rebalances;
        one.leave();
        Member again = new Member(group, topic, Map.of("group.instance.id", "one"));
        waitFor("its old place", () -> again.assignment.equals(before));
        send(topic, 0, 40);
        waitFor("both read on", () -> values(again, two).equals(numbers(0, 40)));
        check("the other saw no rebalance", two.rebalances == told);
        // A second one of the same name takes the place; the first is told that it is fenced.
        Member twin = new Member(group, topic, Map.of("group.instance.id", "one"));
        waitFor("a twin fences the first", () -> again.broke instanceof FencedInstanceIdException);
        waitFor("and has its place", () -> twin.assignment.equals(before));
        twin.leave();
        admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("one")))).all().get(30, TimeUnit.SECONDS);
        waitShared("a static member is removed", topic, two);
        two.leave();
    }

    static void assigns(String name) throws Exception {
        String topic = newTopic(fresh("java-assigns")), group = topic;
        Member one = new Member(group, topic, assignor(name));
        waitShared(name + ": one has all", topic, one);
        Member two = new Member(group, topic, assignor(name));
        waitShared(name + ": two share", topic, one, two);
        int given = name.startsWith("Cooperative") ? PARTITIONS / 2 : PARTITIONS;
        List<Integer> sizes = one.revoked.stream().map(Collection::size).filter(size -> size > 0).toList();
        check(name + ": gave back " + sizes, sizes.equals(List.of(given)));
        send(topic, 0, 200);
        waitFor(name + ": both read", () -> one.records.size() + two.records.size() >= 200);
        check(name + ": each record goes to one of them", values(one, two).equals(numbers(0, 200)));
        one.leave();
        waitShared(name + ": the other takes over", topic, two);
        two.leave();
    }

    static void matches() throws Exception {
        String prefix = fresh("java-match");
        send(newTopic(prefix + "-a"), 0, 40);
        Member member = new Member(fresh("java-matches"), Pattern.compile(prefix + "-.*"), Map.of());
        waitFor("by pattern", () -> member.records.size() >= 40);
        send(newTopic(prefix + "-b"), 40, 80);
        waitFor("a topic that came later", () -> values(member).equals(numbers(0, 80)));
        member.leave();
    }

    static Throwable causeOf(org.apache.kafka.common.KafkaFuture<?> future) throws Exception {
        try {
            future.get(30, TimeUnit.SECONDS);
            return null;
        } catch (ExecutionException error) {
            return error.getCause();
        }
    }

    static void tools() throws Exception {
        String topic = newTopic(fresh("java-tools")), group = topic;
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1);
        send(topic, 0, 40);
        Member member = new Member(group, topic, Map.of());
        waitCommitted("tools: committed", group, 10);
        ConsumerGroupDescription busy = admin.describeConsumerGroups(List.of(group), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all().get(30, TimeUnit.SECONDS).get(group);
        check("tools: described as stable", busy.groupState() == GroupState.STABLE && busy.members().size() == 1 && busy.partitionAssignor().equals("range"));
        MemberDescription own = busy.members().iterator().next();
        check("tools: its member", own.assignment().topicPartitions().size() == PARTITIONS && own.host().equals("/127.0.0.1"));
        check("tools: what one may do is told", busy.authorizedOperations() != null && !busy.authorizedOperations().isEmpty());
        check("tools: not deleted with members", causeOf(admin.deleteConsumerGroups(List.of(group)).all()) instanceof GroupNotEmptyException);
        check("tools: offsets in use stay", causeOf(admin.deleteConsumerGroupOffsets(group, Set.of(zero)).partitionResult(zero)) instanceof GroupSubscribedToTopicException);
        check("tools: not altered with members", causeOf(admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(1))).partitionResult(zero)) instanceof UnknownMemberIdException);
        member.leave();
        Set<GroupState> states = Set.of(GroupState.EMPTY);
        List<GroupListing> listed = admin.listGroups(new ListGroupsOptions().inGroupStates(states)).all().get(30, TimeUnit.SECONDS).stream().filter(found -> found.groupId().equals(group)).toList();
        check("tools: listed as empty", listed.size() == 1 && listed.get(0).protocol().equals("consumer") && listed.get(0).type().orElseThrow().toString().equals("Classic"));
        admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(7, Optional.of(0), "back"), one, new OffsetAndMetadata(0))).all().get(30, TimeUnit.SECONDS);
        Map<TopicPartition, OffsetAndMetadata> found = committed(group);
        check("tools: altered", found.get(zero).equals(new OffsetAndMetadata(7, Optional.of(0), "back")) && found.get(one).offset() == 0);
        admin.deleteConsumerGroupOffsets(group, Set.of(one)).all().get(30, TimeUnit.SECONDS);
        check("tools: offsets deleted", !committed(group).containsKey(one) && committed(group).size() == PARTITIONS - 1);
        check("tools: offsets of two groups", admin.listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec(), group + "-none", new ListConsumerGroupOffsetsSpec())).all().get(30, TimeUnit.SECONDS).get(group).size() == PARTITIONS - 1);
        admin.deleteConsumerGroups(List.of(group)).all().get(30, TimeUnit.SECONDS);
        check("tools: deleted", causeOf(admin.describeConsumerGroups(List.of(group)).describedGroups().get(group)) instanceof GroupIdNotFoundException);
        check("tools: deleted once", causeOf(admin.deleteConsumerGroups(List.of(group)).all()) instanceof GroupIdNotFoundException);
        check("tools: without offsets", committed(group).isEmpty());
    }

    interface Scenario {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        if (arguments.length == 4) {
            new Member(arguments[2], arguments[3], Map.of()).join();
            return;
        }
        Properties p = new Properties();
        p.put("bootstrap.servers", address);
        admin = Admin.create(p);
        producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
        Map<String, Scenario> scenarios = new LinkedHashMap<>();
        scenarios.put("shares", Groups::shares);
        scenarios.put("static", Groups::statics);
        scenarios.put("resumes", Groups::resumes);
        scenarios.put("matches", Groups::matches);
        scenarios.put("tools", Groups::tools);
        for (String name : List.of("RangeAssignor", "RoundRobinAssignor", "StickyAssignor", "CooperativeStickyAssignor")) scenarios.put(name, () -> assigns(name));
        ExecutorService pool = Executors.newFixedThreadPool(scenarios.size());
        scenarios.forEach((name, scenario) -> pool.submit(() -> {
            try {
                scenario.run();
            } catch (Throwable error) {
                check(name + ": " + error, false);
            }
        }));
        pool.shutdown();
        pool.awaitTermination(5, TimeUnit.MINUTES);
        System.out.println("java groups: " + passed + " passed, " + failed.size() + " failed");
        System.exit(failed.isEmpty() ? 0 : 1);
    }
}
