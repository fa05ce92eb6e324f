#!/usr/bin/env bash
# kafka-python's own integration tests, out of its sdists, against a daemon of this tree. kafka_python/passes-VERSION.txt lists what passes:
# the script fails if one of those fails or is gone, and says which others pass now, so that the list can grow. Why the others do not pass
# stands in kafka_python/findings.md.
# Usage: tests/clients/kafka_python_suite.sh [PATH_TO_INRUSH] [VERSION...]
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
shift || true
versions=${*:-3.0.12 2.3.2}
cache=${INRUSH_CLIENTS:-${TMPDIR:-/tmp}/inrush-clients}
mkdir -p "$cache"
missing() { echo "$1"; exit 1; }

# Which broker a release takes ours for, by the versions that are served; its last table for 2.3.2, which knows no newer one.
broker_of() { case $1 in 2.*) echo 2.6.0 ;; *) echo 4.1.0 ;; esac; }

venv=$cache/venv-kafka-python
if [ ! -e "$venv/.done" ]; then
  python3 -m venv "$venv" || missing "python3 with venv is missing: apt-get install python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check pytest pytest-timeout pytest-mock py zstandard lz4 python-snappy || missing "pytest could not be installed by pip"
  touch "$venv/.done"
fi
sdist_of() { echo "$cache/kafka_python-$1"; }
for version in $versions; do
  sdist=$(sdist_of "$version")
  if [ ! -d "$sdist" ]; then
    "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$cache" "kafka-python==$version" || missing "kafka-python $version could not be fetched by pip"
    tar -xzf "$sdist.tar.gz" -C "$cache"
  fi
  # Three files that the sdists lack. Without the first, Python's own package `test` would be taken.
  touch "$sdist/test/__init__.py" "$sdist/test/conftest.py"
  cp tests/clients/kafka_python/service.py "$sdist/test/service.py"
done

folder=$(mktemp -d)
INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
daemon=$!
trap 'kill $daemon 2>/dev/null || true; wait $daemon 2>/dev/null || true; rm -rf "$folder"' EXIT
address() { sed -n 's/.*"message":"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/log" 2>/dev/null; }
for _ in $(seq 100); do
  [ -n "$(address)" ] && break
  sleep 0.1
done
[ -n "$(address)" ] || { cat "$folder/log"; missing "the daemon did not start"; }

# The tests want a folder where a Kafka would be.
mkdir "$folder/no-kafka"
run() {
  (cd "$(sdist_of "$1")" && KAFKA_VERSION=$(broker_of "$1") KAFKA_URI="kafka://$(address)" KAFKA_ROOT="$folder/no-kafka" \
    timeout 900 "$venv/bin/python" -m pytest -q -rA -o addopts= -o log_level=WARNING --timeout=40 --timeout-method=signal --tb=short -p no:cacheprovider test/integration) >"$folder/$1.out" 2>&1 || true
  sed -n 's/^PASSED test\/integration\/\([^ ]*\).*/\1/p' "$folder/$1.out" | LC_ALL=C sort >"$folder/$1.passes"
}

for version in $versions; do run "$version" & runs="${runs:-} $!"; done
wait $runs

passed=0 failed=0
for version in $versions; do
  list=tests/clients/kafka_python/passes-$version.txt
  tail -n 1 "$folder/$version.out" | sed "s/^/kafka-python $version: /"
  [ -z "${INRUSH_KEEP:-}" ] || cp "$folder/$version.out" "$folder/$version.passes" "$INRUSH_KEEP/"
  lost=$(LC_ALL=C comm -23 "$list" "$folder/$version.passes")
  new=$(LC_ALL=C comm -13 "$list" "$folder/$version.passes")
  for name in $lost; do
    echo "failed: kafka-python $version: $name"
    failed=$((failed + 1))
  done
  passed=$((passed + $(LC_ALL=C comm -12 "$list" "$folder/$version.passes" | wc -l)))
  [ -z "$new" ] || printf 'these pass now as well: add them to %s\n%s\n' "$list" "$new"
  [ -z "$lost" ] || sed -n '/FAILURES\|ERRORS/,$p' "$folder/$version.out" | head -n 300
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
