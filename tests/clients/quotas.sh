#!/usr/bin/env bash
# Quotas as their users set them: kafka-configs of Kafka 4.1 and `inrush quota` set and read the same ones, kcat is held to one, and one
# outlives kill -9. Fetches Kafka's tools by mvn; needs Java 17.
# Usage: tests/clients/quotas.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/clients/daemon.sh
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
built "$inrush"
needs kcat kcat
needs_tools

configs() { tool kafka.admin.ConfigCommand "$@"; }
quota() { timeout 60 "$inrush" quota "$@" --kafka "$kafka"; }
error='!(Exception|[Ee]rror)'

start "$inrush"
step "a client id" "Completed updating config for client loud" "$error" -- configs --alter --entity-type clients --entity-name loud --add-config producer_byte_rate=10000,consumer_byte_rate=20000
step "a user and the default client id" "Completed updating config" "$error" -- configs --alter --entity-type users --entity-name alice --entity-type clients --entity-default --add-config consumer_byte_rate=30000
step "the default user" "Completed updating default config for users" "$error" -- configs --alter --entity-type users --entity-default --add-config consumer_byte_rate=40000000
step "an address" "Completed updating config" "$error" -- configs --alter --entity-type ips --entity-name 10.0.0.1 --add-config connection_creation_rate=7
step "described" "client-id 'loud' are .*producer_byte_rate=10000" "client-id 'loud' are .*consumer_byte_rate=20000" "$error" -- configs --describe --entity-type clients --entity-name loud
step "described by type" "user-principal 'alice', the default client-id are consumer_byte_rate=30000" "$error" -- configs --describe --entity-type users --entity-type clients
step "addresses described" "ip '10.0.0.1' are connection_creation_rate=7" "$error" -- configs --describe --entity-type ips
step "a quota that is not held is refused" "InvalidRequestException" "request_percentage is not served" -- configs --alter --entity-type clients --entity-name loud --add-config request_percentage=50
step "a rate of nothing is refused" "InvalidRequestException" -- configs --alter --entity-type clients --entity-name loud --add-config producer_byte_rate=0
step "inrush reads them" 'client-id loud +producer_byte_rate=10000 consumer_byte_rate=20000' 'default client-id.* consumer_byte_rate=30000' 'ip 10.0.0.1 +connection_creation_rate=7' -- quota list
step "inrush sets one" "$error" -- quota set --ip 10.0.0.1 --producer-byte-rate 1MiB
step "as JSON" '"ip":"10.0.0.1".*"producer_byte_rate":1048576' -- quota list --json
step "inrush tells what is wrong" "is not an address" -- quota set --ip nowhere --producer-byte-rate 1MiB

# Ten requests of 15,000 bytes where 100,000 are free: the last is read three and a half seconds later. Another client id is not held up.
began=$(date +%s%N)
head -c 112500 /dev/urandom | base64 -w 15000 | kcat -P -b "$kafka" -t quotas -p 0 -X client.id=loud -X linger.ms=0 -X batch.num.messages=1 -X max.in.flight=1 >/dev/null
loud=$((($(date +%s%N) - began) / 1000000))
began=$(date +%s%N)
head -c 112500 /dev/urandom | base64 -w 15000 | kcat -P -b "$kafka" -t quotas -p 0 -X client.id=quiet -X linger.ms=0 -X batch.num.messages=1 -X max.in.flight=1 >/dev/null
quiet=$((($(date +%s%N) - began) / 1000000))
step "kcat is held to its quota and another is not: $loud ms and $quiet ms" yes -- echo "$([ "$loud" -ge 2500 ] && [ "$quiet" -lt 2500 ] && echo yes)"

stop -KILL
start "$inrush"
step "after kill -9" "client-id 'loud' are .*producer_byte_rate=10000" "$error" -- configs --describe --entity-type clients --entity-name loud
step "one is taken away" "Completed updating config" "$error" -- configs --alter --entity-type clients --entity-name loud --delete-config producer_byte_rate
step "and the other stays" "client-id 'loud' are consumer_byte_rate=20000" "!producer_byte_rate" -- configs --describe --entity-type clients --entity-name loud
step "inrush takes away" "$error" -- quota remove --client-id loud
step "what is left" "!loud" "alice" -- quota list

echo "quotas: $passed passed, $failed failed"
[ "$failed" = 0 ]
