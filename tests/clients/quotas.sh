#!/usr/bin/env bash
# Quotas as their users set them: kafka-configs of Kafka 4.1 and `inrush quota` set and read the same ones, kcat is held to one, and one
# outlives kill -9. Fetches Kafka's tools by mvn; needs Java 17.
# Usage: tests/clients/quotas.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/../.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
cache=${INRUSH_CLIENTS:-${TMPDIR:-/tmp}/inrush-clients}
mkdir -p "$cache"

missing() { echo "$1"; exit 1; }
install() { { apt-get update -qq && apt-get install -y -qq "$@"; } >/dev/null 2>&1; }
needs() { command -v "$1" >/dev/null || install "$2" || missing "$1 is missing: apt-get install $2"; }
needs kcat kcat
needs java default-jre-headless
if [ ! -e "$cache/tools/.done" ]; then
  needs mvn maven
  mvn -q -B -f tests/clients/tools/pom.xml dependency:copy-dependencies -DoutputDirectory="$cache/tools" || missing "Kafka's tools could not be fetched by mvn"
  touch "$cache/tools/.done"
fi

folder=$(mktemp -d)
trap 'kill $daemon 2>/dev/null || true; wait $daemon 2>/dev/null || true; rm -rf "$folder"' EXIT
start() {
  INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
  daemon=$!
  for _ in $(seq 100); do
    kafka=$(sed -n 's/.*"message":"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/log")
    [ -n "$kafka" ] && return
    sleep 0.1
  done
  cat "$folder/log"
  missing "the daemon did not start"
}

passed=0 failed=0
# is NAME PATTERN... -- COMMAND...: its output has each pattern (grep -E), and none that begins with '!'.
is() {
  local name=$1 wrong= patterns=() output pattern
  shift
  while [ "$1" != -- ]; do patterns+=("$1"); shift; done
  shift
  output=$(timeout 60 "$@" 2>&1) || true
  for pattern in "${patterns[@]}"; do
    if [ "${pattern:0:1}" = '!' ]; then
      ! grep -Eq -- "${pattern:1}" <<<"$output" || wrong="$wrong [has ${pattern:1}]"
    else
      grep -Eq -- "$pattern" <<<"$output" || wrong="$wrong [lacks $pattern]"
    fi
  done
  if [ -z "$wrong" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'failed: %s:%s\n%s\n' "$name" "$wrong" "$output"
  fi
}
configs() { echo java -XX:TieredStopAtLevel=1 -cp "$cache/tools/*" kafka.admin.ConfigCommand --bootstrap-server "$kafka" "$@"; }
error='!(Exception|[Ee]rror)'

start
set -f # the jars' folder has a star for java
is "a client id" "Completed updating config for client loud" "$error" -- $(configs --alter --entity-type clients --entity-name loud --add-config producer_byte_rate=10000,consumer_byte_rate=20000)
is "a user and the default client id" "Completed updating config" "$error" -- $(configs --alter --entity-type users --entity-name alice --entity-type clients --entity-default --add-config consumer_byte_rate=30000)
is "the default user" "Completed updating default config for users" "$error" -- $(configs --alter --entity-type users --entity-default --add-config consumer_byte_rate=40000000)
is "an address" "Completed updating config" "$error" -- $(configs --alter --entity-type ips --entity-name 10.0.0.1 --add-config connection_creation_rate=7)
is "described" "client-id 'loud' are .*producer_byte_rate=10000" "client-id 'loud' are .*consumer_byte_rate=20000" "$error" -- $(configs --describe --entity-type clients --entity-name loud)
is "described by type" "user-principal 'alice', the default client-id are consumer_byte_rate=30000" "$error" -- $(configs --describe --entity-type users --entity-type clients)
is "addresses described" "ip '10.0.0.1' are connection_creation_rate=7" "$error" -- $(configs --describe --entity-type ips)
is "a quota that is not held is refused" "InvalidRequestException" "request_percentage is not served" -- $(configs --alter --entity-type clients --entity-name loud --add-config request_percentage=50)
is "a rate of nothing is refused" "InvalidRequestException" -- $(configs --alter --entity-type clients --entity-name loud --add-config producer_byte_rate=0)
is "inrush reads them" 'client-id loud +producer_byte_rate=10000 consumer_byte_rate=20000' 'default client-id.* consumer_byte_rate=30000' 'ip 10.0.0.1 +connection_creation_rate=7' -- "$inrush" quota list --kafka "$kafka"
is "inrush sets one" "$error" -- "$inrush" quota set --kafka "$kafka" --ip 10.0.0.1 --producer-byte-rate 1MiB
is "as JSON" '"ip":"10.0.0.1".*"producer_byte_rate":1048576' -- "$inrush" quota list --kafka "$kafka" --json
is "inrush tells what is wrong" "is not an address" -- "$inrush" quota set --kafka "$kafka" --ip nowhere --producer-byte-rate 1MiB

# Ten requests of 15,000 bytes where 100,000 are free: the last is read three and a half seconds later. Another client id is not held up.
began=$(date +%s%N)
head -c 112500 /dev/urandom | base64 -w 15000 | kcat -P -b "$kafka" -t quotas -p 0 -X client.id=loud -X linger.ms=0 -X batch.num.messages=1 -X max.in.flight=1 >/dev/null
loud=$((($(date +%s%N) - began) / 1000000))
began=$(date +%s%N)
head -c 112500 /dev/urandom | base64 -w 15000 | kcat -P -b "$kafka" -t quotas -p 0 -X client.id=quiet -X linger.ms=0 -X batch.num.messages=1 -X max.in.flight=1 >/dev/null
quiet=$((($(date +%s%N) - began) / 1000000))
is "kcat is held to its quota and another is not: $loud ms and $quiet ms" yes -- echo "$([ "$loud" -ge 2500 ] && [ "$quiet" -lt 2500 ] && echo yes)"

{ kill -9 $daemon; wait $daemon; } 2>/dev/null || true
start
is "after kill -9" "client-id 'loud' are .*producer_byte_rate=10000" "$error" -- $(configs --describe --entity-type clients --entity-name loud)
is "one is taken away" "Completed updating config" "$error" -- $(configs --alter --entity-type clients --entity-name loud --delete-config producer_byte_rate)
is "and the other stays" "client-id 'loud' are consumer_byte_rate=20000" "!producer_byte_rate" -- $(configs --describe --entity-type clients --entity-name loud)
is "inrush takes away" "$error" -- "$inrush" quota remove --kafka "$kafka" --client-id loud
is "what is left" "!loud" "alice" -- "$inrush" quota list --kafka "$kafka"

echo "quotas: $passed passed, $failed failed"
[ "$failed" = 0 ]
