#!/usr/bin/env bash
# Stock Kafka clients against a daemon of this tree: producing and reading, consumer groups, tools. Without a list, all of them:
#   python   kcat (Debian's, an old librdkafka), confluent-kafka (a current one), kafka-python, aiokafka
#   java     org.apache.kafka:kafka-clients
#   kafkajs  kafkajs
#   rdkafka  librdkafka by its Rust crate, built here
#   rskafka  rskafka, a Rust client without groups, built here
#   go       franz-go, sarama
#   expiry   how long committed offsets are kept, by a daemon of its own that keeps them for seconds
#   kills    producers and a group of confluent-kafka while a daemon of their own is killed KILLS times (5)
# Installs what it needs with the clients' own package tools; says what is missing.
# Usage: tests/clients/kafka.sh [PATH_TO_INRUSH] [CLIENT...]
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/clients/daemon.sh
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
built "$inrush"
shift || true
clients=${*:-python java kafkajs rdkafka rskafka go expiry kills}

prepare_python() {
  needs kcat kcat
  venv=${INRUSH_VENV:-$cache/venv}
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || missing "python3 with venv is missing: apt-get install python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka 'kafka-python[snappy,lz4,zstd]' 'aiokafka[snappy,lz4,zstd]' || missing "the Python clients could not be installed by pip"
}
check_python() {
  local failed=0
  timeout 300 "$venv/bin/python" tests/clients/clients.py "$kafka" || failed=1
  timeout 300 "$venv/bin/python" tests/clients/groups.py "$kafka" || failed=1
  timeout 300 "$venv/bin/python" tests/clients/group_admin.py "$kafka" || failed=1
  return $failed
}

prepare_java() {
  needs java default-jre-headless
  needs mvn maven
  if [ ! -e "$cache/java/.done" ]; then
    mvn -q -B -f tests/clients/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$cache/java" || missing "the Java client could not be fetched by mvn"
    touch "$cache/java/.done"
  fi
}
check_java() {
  local failed=0
  timeout 300 java -cp "$cache/java/*" tests/clients/java/Clients.java "$kafka" || failed=1
  timeout 300 java -cp "$cache/java/*" tests/clients/java/Groups.java "$kafka" || failed=1
  return $failed
}

prepare_kafkajs() {
  needs node nodejs
  needs npm npm
  if [ ! -d "$cache/kafkajs/node_modules" ]; then
    mkdir -p "$cache/kafkajs"
    cp tests/clients/kafkajs/package*.json "$cache/kafkajs/"
    (cd "$cache/kafkajs" && npm ci --no-audit --no-fund --silent) || missing "kafkajs could not be installed by npm"
  fi
}
check_kafkajs() {
  local failed=0
  NODE_PATH=$cache/kafkajs/node_modules timeout 300 node tests/clients/kafkajs/main.js "$kafka" "$http" || failed=1
  NODE_PATH=$cache/kafkajs/node_modules timeout 300 node tests/clients/kafkajs/groups.js "$kafka" || failed=1
  return $failed
}

crates=${CARGO_TARGET_DIR:-$PWD/target}/clients
build_crate() { (cd "tests/clients/$1" && CARGO_TARGET_DIR=$crates cargo build --locked --release --quiet) || missing "$1 could not be built"; }
prepare_rdkafka() {
  needs g++ g++
  needs make make
  build_crate rdkafka
}
check_rdkafka() { timeout 300 "$crates/release/inrush-rdkafka" check "$kafka"; }

prepare_rskafka() { build_crate rskafka; }
check_rskafka() { timeout 300 "$crates/release/inrush-rskafka" "$kafka"; }

prepare_go() {
  needs go golang-go
  (cd tests/clients/go && go build -o "$cache/goclients" .) || missing "franz-go and sarama could not be built by go"
}
check_go() { timeout 300 "$cache/goclients" "$kafka"; }

prepare_expiry() { prepare_python; }
check_expiry() { timeout 300 "$venv/bin/python" tests/clients/group_expiry.py "$inrush"; }

prepare_kills() { prepare_python; }
# A kill takes 6 s or so, and more when a member was killed too.
check_kills() { timeout $((300 + 20 * ${KILLS:-5})) "$venv/bin/python" tests/clients/group_kills.py "$inrush"; }

for client in $clients; do "prepare_$client"; done

start "$inrush"
wrong=
for client in $clients; do
  "check_$client" || wrong="$wrong $client"
done
if warned; then
  echo "the daemon warned while the clients ran"
  wrong="$wrong log"
fi
[ -z "$wrong" ] || { echo "failed:$wrong"; exit 1; }
