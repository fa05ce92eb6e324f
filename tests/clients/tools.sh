#!/usr/bin/env bash
# Kafka's own command-line tools (4.1) against a daemon of this tree, or against a broker that runs already: with Kafka's own broker every
# step passes too, which says that what is expected here is Kafka's and not ours. Fetches the tools by mvn; needs Java 17.
# Usage: tests/clients/tools.sh [PATH_TO_INRUSH | HOST:PORT]
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/clients/daemon.sh
target=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
needs_tools
if [[ $target == *:* ]]; then
  kafka=$target
else
  built "$target"
  start "$target"
fi

# The classes behind the scripts of Kafka's bin folder.
kafka-topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
kafka-configs() { tool kafka.admin.ConfigCommand "$@"; }
kafka-log-dirs() { tool org.apache.kafka.tools.LogDirsCommand "$@"; }
kafka-delete-records() { tool org.apache.kafka.tools.DeleteRecordsCommand "$@"; }
kafka-get-offsets() { tool org.apache.kafka.tools.GetOffsetShell "$@"; }
kafka-console-producer() { tool org.apache.kafka.tools.ConsoleProducer "$@"; }
kafka-console-consumer() { tool org.apache.kafka.tools.consumer.ConsoleConsumer "$@"; }
kafka-leader-election() { tool org.apache.kafka.tools.LeaderElectionCommand "$@"; }
kafka-reassign-partitions() { tool org.apache.kafka.tools.reassign.ReassignPartitionsCommand "$@"; }
kafka-metadata-quorum() { tool org.apache.kafka.tools.MetadataQuorumCommand "$@"; }
kafka-transactions() { tool org.apache.kafka.tools.TransactionsCommand "$@"; }
kafka-broker-api-versions() { tool org.apache.kafka.tools.BrokerApiVersionsCommand "$@"; }

tab=$'\t'
error='!(Exception|Error|error)'
t=tools-$RANDOM-a u=tools-$RANDOM-b

# A real broker lists more; of what both list the ranges are the same.
step "kafka-broker-api-versions: the ranges of 4.1" 'Produce\(0\): 0 to 13 ' 'Metadata\(3\): 0 to 13 ' 'DeleteRecords\(21\): 0 to 2 ' 'DescribeConfigs\(32\): 1 to 4 ' 'AlterConfigs\(33\): 0 to 2 ' \
  'DescribeLogDirs\(35\): 1 to 4 ' 'CreatePartitions\(37\): 0 to 3 ' 'ElectLeaders\(43\): 0 to 2 ' 'IncrementalAlterConfigs\(44\): 0 to 1 ' 'AlterPartitionReassignments\(45\): 0 to 1 ' \
  'ListPartitionReassignments\(46\): 0 ' 'DescribeQuorum\(55\): 0 to 2 ' 'DescribeProducers\(61\): 0 ' 'ListConfigResources\(74\): 0 to 1 ' 'DescribeTopicPartitions\(75\): 0 ' "$error" -- kafka-broker-api-versions

step "kafka-topics --create" "Created topic $t" "$error" -- kafka-topics --create --topic "$t" --partitions 2 --replication-factor 1 --config retention.ms=100000000
step "kafka-topics --create with a replica assignment" "Created topic $u" "$error" -- kafka-topics --create --topic "$u" --replica-assignment 1,1,1
step "kafka-topics --create again is refused" "already exists|exists already" -- kafka-topics --create --topic "$t" --partitions 2
step "kafka-topics --create --if-not-exists" "$error" -- kafka-topics --create --topic "$t" --partitions 2 --if-not-exists
step "kafka-topics --create with two replicas is refused" "only 1 broker|one node keeps one replica" -- kafka-topics --create --topic "$t-2" --partitions 1 --replication-factor 2
step "kafka-topics --list" "^$t\$" "^$u\$" "$error" -- kafka-topics --list
step "kafka-topics --describe" "Topic: ${t}.*PartitionCount: 2.*ReplicationFactor: 1.*retention.ms=100000000" "Partition: 1${tab}Leader: 1${tab}Replicas: 1${tab}Isr: 1" '!Partition: 2' "$error" -- kafka-topics --describe --topic "$t"
step "kafka-topics --describe of all, in pages of two partitions" "Topic: ${t}.*PartitionCount: 2" "Topic: ${u}.*PartitionCount: 3" "Topic: $u${tab}Partition: 2" "$error" -- kafka-topics --describe --partition-size-limit-per-response 2
step "kafka-topics --describe of a topic that is not there" "does not exist" -- kafka-topics --describe --topic none-of-these
step "kafka-topics --describe of what lacks replicas: nothing" '!Topic:' "$error" -- kafka-topics --describe --under-replicated-partitions
step "kafka-topics --alter --partitions" "$error" -- kafka-topics --alter --topic "$t" --partitions 4
step "kafka-topics --describe after it grew" "Topic: ${t}.*PartitionCount: 4" "Partition: 3${tab}Leader: 1" "$error" -- kafka-topics --describe --topic "$t"
step "kafka-topics --alter to fewer partitions is refused" "would not be an increase|has 4 partitions .* not to 3" -- kafka-topics --alter --topic "$t" --partitions 3
step "kafka-topics --alter onto another broker is refused" "no such broker is registered|every partition is on node 1" -- kafka-topics --alter --topic "$t" --partitions 5 --replica-assignment 1,1,1,1,2

step "kafka-console-producer" "$error" -- kafka-console-producer --topic "$u" --property parse.key=true --property key.separator=: <<<$'one:1\none:2\none:3'
step "kafka-get-offsets latest" "^$u:[012]:3\$" "$error" -- kafka-get-offsets --topic "$u"
# One key, one partition: which of the three is for the partitioner to know.
p=$(kafka-get-offsets --topic "$u" 2>/dev/null | sed -n "s/^$u:\([012]\):3\$/\1/p")
p=${p:-0}
step "kafka-get-offsets earliest" "^$u:0:0\$" "^$u:2:0\$" "$error" -- kafka-get-offsets --topic "$u" --time earliest
step "kafka-get-offsets max-timestamp" "^$u:$p:[012]\$" "$error" -- kafka-get-offsets --topic "$u" --time max-timestamp
step "kafka-get-offsets of a time" "^$u:$p:0\$" "$error" -- kafka-get-offsets --topic "$u" --time 1000
step "kafka-get-offsets of what is not there" "Could not match any topic-partitions" -- kafka-get-offsets --topic none-of-these
step "kafka-console-consumer of a partition from its start" "^one${tab}1\$" "^one${tab}3\$" "Processed a total of 3 messages" "$error" -- kafka-console-consumer --topic "$u" --partition "$p" --offset earliest --max-messages 3 --timeout-ms 20000 --property print.key=true
step "kafka-console-consumer from an offset" '!^2$' "^3\$" "Processed a total of 1 messages" "$error" -- kafka-console-consumer --topic "$u" --partition "$p" --offset 2 --max-messages 1 --timeout-ms 20000

step "kafka-configs --describe of a topic" "retention.ms=100000000 sensitive=false synonyms=\\{DYNAMIC_TOPIC_CONFIG:retention.ms=100000000" '!segment.ms' "$error" -- kafka-configs --describe --entity-type topics --entity-name "$t"
step "kafka-configs --describe --all of a topic" "segment.ms=604800000 " "cleanup.policy=delete" "$error" -- kafka-configs --describe --all --entity-type topics --entity-name "$t"
step "kafka-configs --alter --add-config" "Completed updating config for topic $t" "$error" -- kafka-configs --alter --entity-type topics --entity-name "$t" --add-config segment.ms=5000,max.message.bytes=2000000
step "kafka-configs --alter --delete-config" "Completed updating config for topic $t" "$error" -- kafka-configs --alter --entity-type topics --entity-name "$t" --delete-config segment.ms
step "kafka-configs --describe after both" "max.message.bytes=2000000" "retention.ms=100000000" '!segment.ms' "$error" -- kafka-configs --describe --entity-type topics --entity-name "$t"
step "kafka-configs --alter with a wrong value and a right one takes none" "InvalidConfigurationException" -- kafka-configs --alter --entity-type topics --entity-name "$t" --add-config retention.ms=soon,segment.bytes=1048576
step "kafka-configs --alter with a name that no topic has is refused" "InvalidConfigurationException.*retention.msec" -- kafka-configs --alter --entity-type topics --entity-name "$t" --add-config retention.msec=5
step "kafka-configs --describe: what was refused changed nothing" "retention.ms=100000000" '!segment.bytes' "$error" -- kafka-configs --describe --entity-type topics --entity-name "$t"
step "kafka-configs --alter of a topic that is not there" "UnknownTopicOrPartitionException" -- kafka-configs --alter --entity-type topics --entity-name none-of-these --add-config segment.ms=5000
step "kafka-configs --describe --all of the broker" "num.partitions=[0-9]" "node.id=1" "$error" -- kafka-configs --describe --all --entity-type brokers --entity-name 1
step "kafka-configs --describe of groups: none has settings" '!configs for' "$error" -- kafka-configs --describe --entity-type groups
step "kafka-configs --alter of the broker's static settings is refused" "InvalidRequestException" -- kafka-configs --alter --entity-type brokers --entity-name 1 --add-config num.partitions=3
step "kafka-configs --alter of all brokers' static settings is refused" "InvalidRequestException" -- kafka-configs --alter --entity-type brokers --entity-default --add-config num.partitions=3

step "kafka-log-dirs" "\"broker\":1.*\"partition\":\"$u-$p\",\"size\":[1-9][0-9]*,\"offsetLag\":0,\"isFuture\":false.*\"error\":null" "!$t" -- kafka-log-dirs --describe --topic-list "$u"
step "kafka-log-dirs of all topics" "\"partition\":\"$t-3\",\"size\":0" "\"partition\":\"$u-$p\"" -- kafka-log-dirs --describe

step "kafka-transactions describe-producers" "^[0-9]+[ ${tab}]+0[ ${tab}]+-1[ ${tab}]+[02][ ${tab}]+1[0-9]{12}[ ${tab}]+None" "$error" -- kafka-transactions describe-producers --topic "$u" --partition "$p"

echo "{\"version\":1,\"partitions\":[{\"topic\":\"$u\",\"partition\":$p,\"offset\":2}]}" >"$folder/two.json"
echo "{\"version\":1,\"partitions\":[{\"topic\":\"$u\",\"partition\":$p,\"offset\":-1},{\"topic\":\"$t\",\"partition\":0,\"offset\":9}]}" >"$folder/all.json"
step "kafka-delete-records up to an offset" "partition: $u-$p${tab}low_watermark: 2" "$error" -- kafka-delete-records --offset-json-file "$folder/two.json"
step "kafka-console-consumer sees the rest" '!^2$' "^3\$" "Processed a total of 1 messages" "$error" -- kafka-console-consumer --topic "$u" --partition "$p" --offset earliest --max-messages 1 --timeout-ms 20000
step "kafka-delete-records of all, and beyond the end" "partition: $u-$p${tab}low_watermark: 3" "partition: $t-0${tab}error: .*OffsetOutOfRangeException" -- kafka-delete-records --offset-json-file "$folder/all.json"
step "kafka-get-offsets earliest afterwards" "^$u:$p:3\$" "$error" -- kafka-get-offsets --topic "$u" --time earliest

step "kafka-leader-election of a partition" "Valid replica already elected for partitions $u-0" "$error" -- kafka-leader-election --election-type preferred --topic "$u" --partition 0
step "kafka-leader-election of all" "$error" -- kafka-leader-election --election-type preferred --all-topic-partitions
step "kafka-leader-election of what is not there" "UnknownTopicOrPartitionException" -- kafka-leader-election --election-type unclean --topic none-of-these --partition 0

echo "{\"version\":1,\"topics\":[{\"topic\":\"$u\"}]}" >"$folder/topics.json"
echo "{\"version\":1,\"partitions\":[{\"topic\":\"$u\",\"partition\":0,\"replicas\":[1]}]}" >"$folder/here.json"
echo "{\"version\":1,\"partitions\":[{\"topic\":\"$u\",\"partition\":0,\"replicas\":[2]}]}" >"$folder/there.json"
step "kafka-reassign-partitions --list" "No partition reassignments found" "$error" -- kafka-reassign-partitions --list
step "kafka-reassign-partitions --generate" "Proposed partition reassignment configuration" "\"topic\":\"$u\",\"partition\":2,\"replicas\":\\[1\\]" "$error" -- kafka-reassign-partitions --generate --topics-to-move-json-file "$folder/topics.json" --broker-list 1
step "kafka-reassign-partitions --execute to where it is" "Successfully started partition reassignment for $u-0" "$error" -- kafka-reassign-partitions --execute --reassignment-json-file "$folder/here.json"
step "kafka-reassign-partitions --verify" "Reassignment of partition $u-0 is completed" "$error" -- kafka-reassign-partitions --verify --reassignment-json-file "$folder/here.json"
step "kafka-reassign-partitions --execute to a broker that is not there" "Unknown broker id 2" -- kafka-reassign-partitions --execute --reassignment-json-file "$folder/there.json"
step "kafka-reassign-partitions --cancel: none is active" "None of the specified partition reassignments are active" "$error" -- kafka-reassign-partitions --cancel --reassignment-json-file "$folder/here.json"

step "kafka-metadata-quorum describe --status" "LeaderId: +1\$" "HighWatermark: +[1-9]" "MaxFollowerLag: +0\$" "CurrentVoters: +\\[\\{\"id\": 1," "CurrentObservers: +\\[\\]" "$error" -- kafka-metadata-quorum describe --status
step "kafka-metadata-quorum describe --replication" "^1 .*Leader" '!(Follower|Observer)' "$error" -- kafka-metadata-quorum describe --replication

step "kafka-topics --delete" "$error" -- kafka-topics --delete --topic "$t"
step "kafka-topics --delete of what is not there" "does not exist" -- kafka-topics --delete --topic "$t"
step "kafka-topics --list afterwards" "!^$t\$" "^$u\$" "$error" -- kafka-topics --list
step "kafka-topics --delete of the other" "$error" -- kafka-topics --delete --topic "$u"

if [ -n "$daemon" ] && warned; then
  failed=$((failed + 1))
  echo "FAILED  the daemon warned while the tools ran"
fi
echo "Kafka's tools: $passed ok, $failed failed"
[ "$failed" = 0 ]
