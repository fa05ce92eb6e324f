#!/usr/bin/env bash
# kafka-python's own integration tests, out of its sdists, against a daemon of this tree. kafka_python/passes-VERSION.txt lists what passes:
# the script fails if one of those fails or is gone, and says which others pass now, so that the list can grow. Why the others do not pass
# stands in kafka_python/findings.md.
# Usage: tests/clients/kafka_python_suite.sh [PATH_TO_INRUSH] [VERSION...]
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/clients/daemon.sh
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
built "$inrush"
shift || true
versions=${*:-3.0.12 2.3.2}

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

start "$inrush"

# The tests want a folder where a Kafka would be.
mkdir "$folder/no-kafka"
# run VERSION NAME TEST...: what passed stands in NAME.passes.
run() {
  (cd "$(sdist_of "$1")" && KAFKA_VERSION=$(broker_of "$1") KAFKA_URI="kafka://$kafka" KAFKA_ROOT="$folder/no-kafka" \
    timeout 900 "$venv/bin/python" -m pytest -q -rA -o addopts= -o log_level=WARNING --timeout=40 --timeout-method=signal --tb=short -p no:cacheprovider "${@:3}") >"$folder/$2.out" 2>&1 || true
  sed -n 's/^PASSED test\/integration\/\([^ ]*\).*/\1/p' "$folder/$2.out" | LC_ALL=C sort >"$folder/$2.passes"
}

for version in $versions; do run "$version" "$version" test/integration & runs="${runs:-} $!"; done
wait $runs

for version in $versions; do
  list=tests/clients/kafka_python/passes-$version.txt
  tail -n 1 "$folder/$version.out" | sed "s/^/kafka-python $version: /"
  [ -z "${INRUSH_KEEP:-}" ] || cp "$folder/$version.out" "$folder/$version.passes" "$INRUSH_KEEP/"
  lost=$(LC_ALL=C comm -23 "$list" "$folder/$version.passes")
  new=$(LC_ALL=C comm -13 "$list" "$folder/$version.passes")
  if [ -n "$lost" ]; then
    # kafka-python forgets things at times (findings.md): what failed may try once more, with nothing beside it.
    mapfile -t again < <(sed 's#^#test/integration/#' <<<"$lost")
    run "$version" "$version-again" "${again[@]}"
    lost=$(LC_ALL=C comm -23 <(echo "$lost") "$folder/$version-again.passes")
    sed "s/^/kafka-python $version: passed when it was run again: /" "$folder/$version-again.passes"
  fi
  for name in $lost; do
    echo "failed: kafka-python $version: $name"
    failed=$((failed + 1))
  done
  passed=$((passed + $(wc -l <"$list") - $(grep -c . <<<"$lost" || true)))
  [ -z "$new" ] || printf 'these pass now as well: add them to %s\n%s\n' "$list" "$new"
  [ -z "$lost" ] || sed -n '/FAILURES\|ERRORS/,$p' "$folder/$version.out" | head -n 300
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
