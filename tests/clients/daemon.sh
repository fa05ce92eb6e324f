# A daemon of this tree, what clients need that the machine may lack, and steps that are counted. The scripts beside this file that speak Kafka
# begin with it, in the tree's root.
cache=${INRUSH_CLIENTS:-${TMPDIR:-/tmp}/inrush-clients}
mkdir -p "$cache"
folder=$(mktemp -d)
daemon=
trap 'stop; rm -rf "$folder"' EXIT

missing() { echo "$1"; exit 1; }
install() { { apt-get update -qq && apt-get install -y -qq "$@"; } >/dev/null 2>&1; }
# The command is there, or Debian's package with it can be installed.
needs() { command -v "$1" >/dev/null || install "$2" || missing "$1 is missing: apt-get install $2"; }
built() { [ -x "$1" ] || missing "$1 is missing: cargo build"; }

# Kafka's own command-line tools (4.1), for Java 17.
needs_tools() {
  needs java default-jre-headless
  [ ! -e "$cache/tools/.done" ] || return 0
  needs mvn maven
  mvn -q -B -f tests/clients/tools/pom.xml dependency:copy-dependencies -DoutputDirectory="$cache/tools" || missing "Kafka's tools could not be fetched by mvn"
  touch "$cache/tools/.done"
}
# tool CLASS ARGUMENT...
tool() { timeout 60 java -XX:TieredStopAtLevel=1 -Xmx256m -cp "$cache/tools/*" "$1" --bootstrap-server "$kafka" "${@:2}"; }

address() { sed -n 's/.*"message":"inrush is ready".*"'"$1"'":"\([^"]*\)".*/\1/p' "$folder/log"; }
# start PATH_TO_INRUSH: until it is ready; sets daemon, kafka and http. Its data outlives it.
start() {
  # Or the address of the one before would be found.
  : >"$folder/log"
  INRUSH_LOG_FORMAT=json RUST_LOG=info "$1" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
  daemon=$!
  for _ in $(seq 100); do
    kafka=$(address kafka) http=$(address http)
    [ -z "$kafka" ] || return 0
    sleep 0.1
  done
  cat "$folder/log"
  missing "the daemon did not start"
}
# stop [SIGNAL]
stop() {
  [ -z "$daemon" ] || { kill "${1:--TERM}" "$daemon"; wait "$daemon"; } 2>/dev/null || true
  daemon=
}
# Whether it told of something that a person should look at.
warned() { grep -E '"level":"(ERROR|WARN)"' "$folder/log"; }

passed=0 failed=0
# step NAME PATTERN... -- COMMAND...: its output has each pattern (grep -E), and none that begins with '!'.
step() {
  local name=$1 wrong= patterns=() output pattern
  shift
  while [ "$1" != -- ]; do patterns+=("$1"); shift; done
  shift
  output=$("$@" 2>&1) || true
  for pattern in "${patterns[@]}"; do
    if [ "${pattern:0:1}" = '!' ]; then
      ! grep -Eq -- "${pattern:1}" <<<"$output" || wrong="$wrong [has ${pattern:1}]"
    else
      grep -Eq -- "$pattern" <<<"$output" || wrong="$wrong [lacks $pattern]"
    fi
  done
  if [ -z "$wrong" ]; then
    passed=$((passed + 1))
    echo "ok      $name"
  else
    failed=$((failed + 1))
    echo "FAILED  $name:$wrong"
    sed 's/^/        /' <<<"$output" | head -n 40
  fi
}
