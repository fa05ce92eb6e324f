#!/usr/bin/env bash
# A real Apache Kafka 4.x as one KRaft node, fetched by Maven, on ports and in a folder of its own.
#   tests/compat/kafka.sh libs                      fetches it; prints the folder of its jars
#   tests/compat/kafka.sh start FOLDER [KEY=VALUE…] formats FOLDER/data if it is new, starts, waits until it answers; prints HOST:PORT
#   tests/compat/kafka.sh stop FOLDER               stops it and waits for its end
# FOLDER holds server.properties, log, pid, data, and began (nanoseconds of the wall clock). Settings given as KEY=VALUE win over those below, which are Kafka's defaults but for what
# one node and a test need. Environment: KAFKA_VERSION (default: the one in pom.xml), KAFKA_HEAP (-Xmx, default 1g, as Kafka's own start script
# has it), KAFKA_RUN (a command put before java, as "taskset -c 0"), KAFKA_PORT (default: a free one).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=${KAFKA_VERSION:-$(sed -n 's/.*<kafka.version>\(.*\)<\/kafka.version>.*/\1/p' "$here/pom.xml")}
libs=$root/target/compat/kafka-$version
fail() { echo "kafka.sh: $*" >&2; exit 1; }

fetch() {
  command -v java >/dev/null || fail "java 17 is missing: apt-get install openjdk-17-jre-headless"
  [ -e "$libs/.done" ] && return
  command -v mvn >/dev/null || fail "mvn is missing: apt-get install maven"
  mvn -q -B -f "$here/pom.xml" -Dkafka.version="$version" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs" >&2 || fail "Kafka $version could not be fetched by mvn"
  touch "$libs/.done"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() {
  folder=$1
  shift
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  [ -e "$folder/pid" ] && kill -0 "$(cat "$folder/pid")" 2>/dev/null && fail "$folder is running already"
  port=${KAFKA_PORT:-$(free_port)} controller=$(free_port)
  cat >"$folder/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
num.partitions=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
END
  for setting in "$@"; do
    key=${setting%%=*}
    sed -i "/^${key//./\\.}=/d" "$folder/server.properties"
    echo "$setting" >>"$folder/server.properties"
  done
  cat >"$folder/log4j2.properties" <<END
status=warn
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
rootLogger.level=${KAFKA_LOG:-warn}
rootLogger.appenderRefs=out
rootLogger.appenderRef.out.ref=OUT
END
  # As kafka-run-class.sh and kafka-server-start.sh have it.
  heap=${KAFKA_HEAP:-1g}
  java=(java "-Xmx$heap" "-Xms$heap" -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true
    "-Dlog4j2.configurationFile=$folder/log4j2.properties" -cp "$libs/*")
  [ -e "$folder/data/meta.properties" ] || java -cp "$libs/*" "-Dlog4j2.configurationFile=$folder/log4j2.properties" kafka.tools.StorageTool format -t "$(python3 -c 'import base64, uuid; b = uuid.uuid4().bytes; print(base64.urlsafe_b64encode(bytes([b[0] % 128]) + b[1:]).decode().rstrip("="))')" -c "$folder/server.properties" >"$folder/format.log" 2>&1 ||
    { cat "$folder/format.log" >&2; fail "the folder could not be formatted"; }
  date +%s%N >"$folder/began"
  # shellcheck disable=SC2086  # KAFKA_RUN is a command with arguments
  setsid ${KAFKA_RUN:-} "${java[@]}" kafka.Kafka "$folder/server.properties" >"$folder/log" 2>&1 </dev/null &
  echo $! >"$folder/pid"
  python3 - "$port" "$(cat "$folder/pid")" <<'END' || { tail -30 "$folder/log" >&2; fail "it did not answer within 90 s"; }
import os, socket, struct, sys, time

# Metadata version 1 for no topic: answered with one broker once it is there.
port, pid, end = int(sys.argv[1]), int(sys.argv[2]), time.monotonic() + 90
while time.monotonic() < end:
    try:
        os.kill(pid, 0)
        with socket.create_connection(("127.0.0.1", port), 2) as peer:
            peer.sendall(struct.pack(">ihhihi", 14, 3, 1, 1, -1, 0))
            answer = peer.recv(4096)
            if len(answer) > 12 and struct.unpack(">i", answer[8:12])[0] == 1:
                sys.exit(0)
    except ProcessLookupError:
        break
    except OSError:
        pass
    time.sleep(0.02)
sys.exit(1)
END
  echo "127.0.0.1:$port"
}

stop() {
  pid=$(cat "$1/pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 300); do
    kill -0 "$pid" 2>/dev/null || { rm -f "$1/pid"; return 0; }
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$1/pid"
}

case ${1:-} in
  libs) fetch; echo "$libs" ;;
  start) [ $# -ge 2 ] || fail "start FOLDER [KEY=VALUE…]"; fetch; shift; start "$@" ;;
  stop) [ $# -eq 2 ] || fail "stop FOLDER"; stop "$2" ;;
  *) sed -n '2,6p' "$0" >&2; exit 2 ;;
esac
