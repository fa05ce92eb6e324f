#!/usr/bin/env bash
# The HTTP door by curl and by bare sockets: every form of event, every refusal, real photographs, ten thousand idle connections. Counts at the end.
# Usage: tests/clients/http.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/../.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
for tool in curl zstd gzip python3; do
  command -v $tool >/dev/null || { echo "$tool is missing: apt-get install $tool"; exit 1; }
done
venv=${INRUSH_VENV:-${TMPDIR:-/tmp}/inrush-http-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv"; exit 1; }
# scikit-learn and scikit-image ship photographs; only their files are needed, not what they depend on.
"$venv/bin/pip" install --quiet --disable-pip-version-check duckdb pytz || { echo "duckdb could not be installed by pip"; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps scikit-learn scikit-image || { echo "the photographs could not be installed by pip"; exit 1; }
# Sockets of both sides of ten thousand connections, if the system lets us.
ulimit -n "$(ulimit -Hn)" || true

folder=$(mktemp -d)
mkdir "$folder/pipelines"
sed 's/roll = "5m or 128MiB"/roll = "500ms"/' pipelines/camera.toml >"$folder/pipelines/camera.toml"
cat >"$folder/inrush.toml" <<TOML
data = "$folder/data"
out = "$folder/out"
pipelines = "$folder/pipelines"
http = "127.0.0.1:0"
kafka = "127.0.0.1:0"
admin = "127.0.0.1:0"
low-disk = "1MiB"
TOML
start() {
  INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --config "$folder/$1.toml" 2>"$folder/$1.log" &
  started+=($!)
  for _ in $(seq 200); do
    address=$(sed -n 's/.*"message":"inrush is ready".*"http":"\([^"]*\)".*/\1/p' "$folder/$1.log")
    [ -n "$address" ] && return
    sleep 0.1
  done
  cat "$folder/$1.log"
  echo "the daemon did not start"
  exit 1
}
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait "${started[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT
start inrush
door=http://$address
{
  sed 's#/data"#/keyed"#; s#/out"#/keyed-out"#' "$folder/inrush.toml"
  echo "write-keys = [\"$(printf %s secret | sha256sum | cut -d' ' -f1)\"]"
} >"$folder/keyed.toml"
start keyed
keyed=http://$address

passed=0
failed=0
check() { # what, expected, found
  if [ "$2" = "$3" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'failed: %s: expected %s, found %s\n' "$1" "$2" "$3"
  fi
}
# Status, then body, of a POST to a topic.
post() {
  local topic=$1
  shift
  curl -s -o "$folder/answer" -w '%{http_code}' "$@" "$door/v1/topics/$topic/events"
}
field() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$folder/answer" "$1"; }
count() { curl -s "$door/v1/topics/$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["records"])'; }

# -- forms
check "one object" 200 "$(post forms -d '{"n":1}')"
check "an array" 200 "$(post forms -H 'content-type: application/json' -d '[{"n":2},{"n":3}]')"
printf '{"n":4}\n{"n":5}\n' >"$folder/lines"
check "NDJSON" 200 "$(post forms --data-binary "@$folder/lines")"
gzip -k "$folder/lines" && zstd -q "$folder/lines"
check "gzip" 200 "$(post forms -H 'content-encoding: gzip' --data-binary "@$folder/lines.gz")"
check "gzip without saying so" 200 "$(post forms --data-binary "@$folder/lines.gz")"
check "zstd" 200 "$(post forms -H 'content-encoding: zstd' --data-binary "@$folder/lines.zst")"
check "chunked, without a length" 200 "$(post forms -H 'transfer-encoding: chunked' --data-binary "@$folder/lines")"
check "text/plain" 200 "$(post forms -H 'content-type: text/plain' -d '{"n":6}')"
check "no content type at all" 200 "$(post forms -H 'content-type:' -d '{"n":7}')"
check "events of all forms" 15 "$(count forms)"
python3 - <<'PY' >"$folder/many"
for n in range(10000): print('{"n":%d,"text":"%s"}' % (n, "x" * (n % 200)))
PY
check "ten thousand lines" "200 10000" "$(post many --data-binary "@$folder/many") $(field taken)"

# -- bad lines
printf '{"n":1}\n{broken\n{"n":2}\n' >"$folder/mixed"
check "a bad line among good ones" "200 2 1" "$(post mixed --data-binary "@$folder/mixed") $(field taken) $(field quarantined)"
check "the bad line is in the dead letter topic" 1 "$(count mixed-dlt)"
check "no good line" "400 0" "$(post mixed -d '{broken') $(field taken)"
check "an array that does not close" 400 "$(post mixed -d '[1,2')"
check "nothing was taken of what was refused" 2 "$(count mixed)"

# -- refusals
check "an encoding that nobody knows" 400 "$(post forms -H 'content-encoding: br' -d x)"
head -c 9000000 /dev/zero >"$folder/large"
check "nine megabytes" 413 "$(post forms --data-binary "@$folder/large")"
check "nine megabytes without waiting for 100" 413 "$(post forms -H 'expect:' --data-binary "@$folder/large")"
check "nine megabytes without a length" 413 "$(post forms -H 'expect:' -H 'transfer-encoding: chunked' --data-binary "@$folder/large")"
gzip -9 "$folder/large"
check "a bomb" 413 "$(post forms --data-binary "@$folder/large.gz")"
check "a name that is none" 400 "$(post 'a%2Fb' -d '{}')"
check "a topic of a foreign page" 404 "$(post foreign -H 'origin: https://evil.example' -d '{}')"
check "reading what is not there" 404 "$(curl -s -o /dev/null -w '%{http_code}' "$door/v1/topics/none/events")"
check "a method that is none" 405 "$(curl -s -o /dev/null -w '%{http_code}' -X PUT -d x "$door/v1/topics/forms/events")"
door_before=$door
door=$keyed
check "no write key" 401 "$(post keyed -d '{}')"
check "a wrong write key" 401 "$(post keyed -H 'x-write-key: wrong' -d '{}')"
check "the write key" 200 "$(post keyed -H 'x-write-key: secret' -d '{}')"
check "the write key as Basic user" 200 "$(post keyed -u secret: -d '{}')"
check "the write key in the query" 200 "$(curl -s -o /dev/null -w '%{http_code}' -d '{}' "$keyed/v1/topics/keyed/events?key=secret")"
check "events with a key" 3 "$(count keyed)"
door=$door_before

# -- multipart, as curl puts it together and as cameras do
printf '<EventNotificationAlert><eventType>VMD</eventType></EventNotificationAlert>\r\n' >"$folder/MoveDetection.xml"
photo=$("$venv/bin/python" -c 'import importlib.util as u, os; print(os.path.join(os.path.dirname(u.find_spec("sklearn").origin), "datasets/images/china.jpg"))')
check "a form of curl" "200 3" "$(post parts -F 'event={"label":"person"};type=application/json' -F "xml=@$folder/MoveDetection.xml" -F "picture=@$photo") $(field taken)"
{
  printf -- '--boundary\r\nContent-Disposition: form-data; name="MoveDetection.xml"\r\n\r\n'
  cat "$folder/MoveDetection.xml"
  printf -- '\r\n--boundary\r\nContent-Disposition: form-data; name="pic.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
  cat "$photo"
  printf -- '\r\n--boundary--\r\n'
} >"$folder/camera"
check "a camera's alert" "200 2" "$(post parts -H 'content-type: multipart/form-data; boundary=boundary' --data-binary "@$folder/camera") $(field taken)"
head -c 2000 "$folder/camera" >"$folder/cut"
check "an alert that was cut off" 400 "$(post parts -H 'content-type: multipart/form-data; boundary=boundary' --data-binary "@$folder/cut")"
check "one id a request" "2" "$(curl -s "$door/v1/topics/parts/events" | python3 -c 'import json,sys; print(len({e["headers"]["multipart-id"] for e in json.load(sys.stdin)["events"]}))')"

# -- the live tail
curl -sN "$door/v1/topics/forms/tail?from=0" >"$folder/tail" &
started+=($!)
for _ in $(seq 100); do
  [ "$(grep -c '^id: ' "$folder/tail")" -ge 15 ] && break
  sleep 0.1
done
check "the tail has what is there" 15 "$(grep -c '^id: ' "$folder/tail")"
post forms -d '{"n":"live"}' >/dev/null
for _ in $(seq 100); do
  grep -q live "$folder/tail" && break
  sleep 0.1
done
check "and what comes" 1 "$(grep -c '"n":"live"' "$folder/tail")"
check "a browser goes on after its last event" 'id: 15' "$(timeout 10 curl -sN -H 'last-event-id: 14' "$door/v1/topics/forms/tail" | grep -m 1 '^id: ' || true)"

# -- photographs, in and out again, and crowds: in Python
result=$("$venv/bin/python" tests/clients/photos.py "$door" "$folder/out/camera") || true
echo "$result"
passed=$((passed + $(sed -n 's/^\([0-9]*\) passed.*/\1/p' <<<"$result" | tail -n 1)))
failed=$((failed + $(sed -n 's/.* \([0-9]*\) failed$/\1/p' <<<"$result" | tail -n 1)))
result=$(python3 tests/clients/http_crowd.py "$door") || true
echo "$result"
passed=$((passed + $(sed -n 's/^\([0-9]*\) passed.*/\1/p' <<<"$result" | tail -n 1)))
failed=$((failed + $(sed -n 's/.* \([0-9]*\) failed$/\1/p' <<<"$result" | tail -n 1)))
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
