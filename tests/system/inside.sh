#!/usr/bin/env bash
# The checks of tests/system.sh that run inside the machine, as root, from a unit of its own at the end of the boot. Says on the second serial
# port one line a check: "ok NAME (FIGURE)" or "FAILED NAME" and what was said, and "end" before it powers the machine off.
# /hand has: mode (checks, install, load, verify, nosync, lost), name (of a load's events), acknowledged (ids that must be there), slow (times that the
# machine may take longer), inrush.deb.
set -uo pipefail
export LC_ALL=C SYSTEMD_COLORS=0 SYSTEMD_PAGER='' DEBIAN_FRONTEND=noninteractive
hand=/hand
port=/dev/ttyS1
door=http://127.0.0.1:8080/v1/topics
admin=http://127.0.0.1:9600
data=/var/lib/private/inrush
stty -F $port raw -echo
work=$(mktemp -d)
say() { printf '%s\n' "$*" >$port; }
# The last line that a passing check prints is its figure.
check() {
  local name=$1 figure
  shift
  if ("$@") >"$work/said" 2>&1; then
    figure=$(tail -n 1 "$work/said" | cut -c1-120)
    say "ok $name${figure:+ ($figure)}"
  else
    say "FAILED $name"
    { tail -n 25 "$work/said"; [ -z "${show_journal:-}" ] || journalctl -u inrush -n 12 -o cat --no-pager; } | cut -c1-300 | sed 's/^/  /' >$port
  fi
}
not() { ! "$@"; }
property() { systemctl show inrush -p "$1" --value; }
pid() { property MainPID; }
slow=$(cat $hand/slow)
# Waits up to a minute, as this machine counts, for a command to succeed.
until_() {
  local end=$((SECONDS + 60 * slow))
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ]; then echo "not within $((60 * slow)) s: $*"; return 1; fi
    sleep 0.1
  done
}
is_active() { [ "$(systemctl is-active inrush)" = active ]; }
is_ready() { [ "$(curl -s -m 20 -o /dev/null -w '%{http_code}' $admin/readyz)" = 200 ]; }
# What the daemon of this start logged.
journal() { journalctl -o cat --no-pager "_SYSTEMD_INVOCATION_ID=$(property InvocationID)"; }
has() { journal | grep -aE "$1" || { journal; false; }; }
ids() { inrush consume "$1" --raw | sed -n 's/.*"eventId": *"\([^"]*\)".*/\1/p'; }
post() { curl -s -m 60 -o /dev/null -w '%{http_code}' -A Firefox -d "{\"eventId\":\"$2\",\"type\":\"click\"}" "$door/$1/events"; }
drop_in() { mkdir -p /run/systemd/system/inrush.service.d && printf '%s\n' "$@" >/run/systemd/system/inrush.service.d/test.conf && systemctl daemon-reload; }
no_drop_in() { rm -rf /run/systemd/system/inrush.service.d && systemctl daemon-reload; }
# Ids that stand in the file and not in the topics; a retry was never sent, so none may be there twice either.
none_missing() { # FILE TOPIC...
  local file=$1 topic
  shift
  for topic in "$@"; do ids "$topic"; done >"$work/stored.unsorted" || return 1
  sort "$work/stored.unsorted" >"$work/stored"
  sort "$file" | comm -23 - "$work/stored" >"$work/missing"
  uniq -d "$work/stored" >"$work/twice"
  if [ -s "$work/missing" ] || [ -s "$work/twice" ]; then
    echo "of $(wc -l <"$file") answered, $(wc -l <"$work/missing") are missing: $(head -n 5 "$work/missing" | tr '\n' ' '); $(wc -l <"$work/twice") are there twice"
    return 1
  fi
  echo "$(wc -l <"$file") answered, $(wc -l <"$work/stored") stored"
}
# -- a load that notes each event that was answered with 200
load_begins() { rm -f "$work/acks"; python3 $hand/load.py "$1" "$work/acks" & load=$!; until_ [ -s "$work/acks" ]; }
load_ends() { kill $load; wait $load; sed -n 's/^ack \([a-z0-9-]*\)\.$/\1/p' "$work/acks" >"$work/answered"; cat "$work/answered" >>"$work/all"; }
answered_some() { [ "$(wc -l <"$work/answered")" -gt 50 ] || { echo "only $(wc -l <"$work/answered") answered"; false; }; }

a_debian() {
  [ "$(cat /proc/1/comm)" = systemd ] && grep -q 'VERSION_ID="12"' /etc/os-release && [ "$(systemd-detect-virt --container)" = none ] &&
    echo "Debian $(cat /etc/debian_version), Linux $(uname -r), systemd $(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')"
}
installed() { dpkg -i $hand/inrush.deb; }
user_and_group() {
  local uid
  uid=$(getent passwd inrush | cut -d: -f3) && getent group inrush >/dev/null && [ "$(awk '/^Uid:/ { print $2 }' "/proc/$(pid)/status")" = "$uid" ] && echo "uid $uid"
}
owned() { local found; found=$(stat -Lc '%U:%G %a' "$1"); [ "$found" = "$2" ] || { echo "$1 is $found, not $2"; return 1; }; }
folders() {
  owned $data "inrush:inrush 750" && [ "$(readlink /var/lib/inrush)" = private/inrush ] && owned /run/inrush "inrush:inrush 755" &&
    owned /etc/inrush "root:root 755" && owned /etc/inrush/inrush.toml "root:root 644" && owned /etc/inrush/pipelines "root:root 755" &&
    owned /usr/bin/inrush "root:root 755" && [ -z "$(find $data ! -user inrush)" ]
}
nobody_else_reads() { not setpriv --reuid=65534 --regid=65534 --clear-groups ls /var/lib/inrush/; }
running_well() { until_ is_active && until_ is_ready; }
ready_at_once() { systemctl stop inrush && systemctl start inrush && is_active && is_ready && [ "$(property Type)" = notify ]; }
on_uring() { # It says so, and holds a ring.
  has 'disk opened.*engine="?uring' && find "/proc/$(pid)/fd" -lname 'anon_inode:\[io_uring\]' | grep -c . >"$work/rings" && echo "$(cat "$work/rings") ring"
}
confined() { # seccomp on, no capability, no way to new privileges, a root that is read-only
  local status
  status=/proc/$(pid)/status
  grep -q '^Seccomp:\s*2' "$status" && grep -q '^CapBnd:\s*0*$' "$status" && grep -q '^NoNewPrivs:\s*1' "$status" && grep -qE '^[^ ]+ [^ ]+ [^ ]+ / / ro' "/proc/$(pid)/mountinfo"
}
events_go_in() { local n; for n in $(seq 20); do [ "$(post clicks "first-$n")" = 200 ] || return 1; echo "first-$n" >>"$work/all"; done; }
listed() { inrush topic list | grep -E '^clicks +'; }
consumed() { none_missing "$work/all" clicks cuts; }
reloaded() {
  sed 's/to = .*/to = { parquet = "quick", partition = "dt=%Y-%m-%d", time = "ts", roll = "1s" }/' /etc/inrush/pipelines/clicks.toml >/etc/inrush/pipelines/quick.toml &&
    systemctl reload inrush && until_ eval "inrush pipeline status | grep -qw quick" && is_active && is_ready
}
parquet_written() {
  local file
  [ "$(post clicks after-reload)" = 200 ] && echo after-reload >>"$work/all" && until_ eval "find $data/out/quick -name '*.parquet' | grep -q ." || return 1
  file=$(find $data/out/quick -name '*.parquet' | head -n 1)
  [ "$(head -c 4 "$file")" = PAR1 ] && owned "$file" "inrush:inrush 640" && echo "$file"
}
broken_pipeline() {
  local result=0
  echo 'from = 1' >/etc/inrush/pipelines/broken.toml
  systemctl reload inrush && until_ has 'ERROR.*broken' && is_active && inrush pipeline status | grep -w quick | grep -q running || result=1
  rm -f /etc/inrush/pipelines/broken.toml
  systemctl reload inrush
  return $result
}
said_no_error() {
  not eval "journal | grep -aE 'WARN|ERROR'" && not eval "systemctl status inrush | grep -iE 'error|warn|fail'" && [ -z "$(systemctl list-units --failed --no-legend 'inrush*')" ]
}
log_without_colours() { not eval "journal | grep -aq \$'\\e'"; }
exposure() {
  local level
  level=$(systemd-analyze security inrush --no-pager | sed -n 's/.*exposure level for .*: \([0-9.]*\).*/\1/p')
  echo "$level" && awk -v level="$level" 'BEGIN { exit !(level != "" && level <= 2.0) }'
}
doctor() { # In the same cage as the daemon: the unit with another command, and with the files of /proc that doctor reads.
  sed -e 's,^ExecStart=.*,ExecStart=/usr/bin/inrush doctor --data /var/lib/inrush,; s/^Type=.*/Type=oneshot/; /^Restart/d; /^WatchdogSec/d; /^ExecReload/d; /^RuntimeDirectory/d' \
    /usr/lib/systemd/system/inrush.service >/run/systemd/system/inrush-doctor.service
  systemctl daemon-reload
  systemctl start inrush-doctor
  local result=$?
  journalctl -u inrush-doctor -o cat --no-pager >"$work/doctor"
  systemctl reset-failed inrush-doctor
  rm -f /run/systemd/system/inrush-doctor.service
  systemctl daemon-reload
  cat "$work/doctor"
  [ $result = 0 ] && not grep -qE '^BAD|unknown' "$work/doctor" && grep -qE '^ok +io_uring +allowed' "$work/doctor" && grep -E '^ok +kernel' "$work/doctor"
}
killed() {
  local before kill
  before=$(property NRestarts)
  load_begins killed
  for kill in 1 2 3; do
    sleep 2
    systemctl kill -s KILL inrush
    until_ eval "[ \"\$(systemctl show inrush -p NRestarts --value)\" = $((before + kill)) ]" && running_well || return 1
  done
  sleep 1
  load_ends
  answered_some && consumed && echo "$(wc -l <"$work/answered") answered meanwhile, all there"
}
hung() {
  local before
  drop_in '[Service]' 'WatchdogSec=5s'
  systemctl restart inrush
  before=$(pid)
  [ "$(post clicks before-hang)" = 200 ] && echo before-hang >>"$work/all"
  kill -STOP "$before"
  until_ eval "[ \"\$(systemctl show inrush -p MainPID --value)\" != $before ]" && running_well && journalctl -u inrush -o cat --no-pager | grep -a 'Watchdog timeout'
}
fell_back() { # The check of the engine is worth something only if it can fail.
  drop_in '[Service]' 'SystemCallFilter=~@aio'
  systemctl restart inrush && has 'disk opened.*engine="?std' && not on_uring && [ "$(post clicks without-uring)" = 200 ] && echo without-uring >>"$work/all" &&
    has 'WARN.*io_uring cannot be used' | sed 's/^[^ ]* *//'
}
stopped_clean() {
  load_begins stopped
  sleep 1
  local began invocation took
  invocation=$(property InvocationID)
  began=$(date +%s%N)
  systemctl stop inrush || return 1
  took=$((($(date +%s%N) - began) / 1000000))
  load_ends
  answered_some && [ "$(property Result)" = success ] && [ "$(property ExecMainStatus)" = 0 ] && [ "$(systemctl is-active inrush)" = inactive ] &&
    journalctl -o cat --no-pager "_SYSTEMD_INVOCATION_ID=$invocation" | grep -a ' stopped seconds=' && [ $took -lt $((10000 * slow)) ] && echo "$took ms, $(wc -l <"$work/answered") events answered before it"
}
verified() { inrush log verify --data $data; }
wrong_config() {
  cp /etc/inrush/inrush.toml "$work/inrush.toml"
  echo 'htpp = "127.0.0.1:8080"' >>/etc/inrush/inrush.toml
  not systemctl start inrush && sleep 2 && [ "$(property ExecMainStatus)" = 2 ] && [ "$(property NRestarts)" = 0 ] && has htpp
  local result=$?
  cp "$work/inrush.toml" /etc/inrush/inrush.toml
  systemctl reset-failed inrush
  systemctl start inrush
  return $result
}
restarted() { local before; before=$(pid); systemctl restart inrush && is_ready && [ "$(pid)" != "$before" ]; }
upgraded() {
  local before
  before=$(pid)
  load_begins upgraded
  sleep 1
  installed || return 1
  sleep 1
  load_ends
  running_well && [ "$(pid)" != "$before" ] && answered_some && consumed
}
upgraded_while_stopped() { systemctl stop inrush; installed && [ "$(systemctl is-active inrush)" = inactive ] && systemctl start inrush && is_ready; }
removed() {
  apt-get remove -q -y inrush && [ "$(systemctl is-active inrush)" = inactive ] && [ ! -e /usr/bin/inrush ] && [ -z "$(pgrep -x inrush)" ] &&
    [ -s /etc/inrush/inrush.toml ] && [ -z "$(systemctl list-units --failed --no-legend 'inrush*')" ] && du -sh $data
}
installed_offline() {
  unshare -m bash -c "mount -t tmpfs none /run && dpkg -i $hand/inrush.deb" && [ "$(systemctl is-enabled inrush)" = enabled ] && [ -z "$(pgrep -x inrush)" ]
}
installed_again() { installed && running_well && [ "$(systemctl is-enabled inrush)" = enabled ] && consumed; }
purged() {
  dpkg -P inrush >"$work/purge" 2>&1 || { cat "$work/purge"; return 1; }
  cat "$work/purge"
  grep "stays in $data" "$work/purge" && [ ! -e /etc/inrush/inrush.toml ] && [ ! -e /usr/bin/inrush ] && [ -d $data ] && [ -z "$(pgrep -x inrush)" ] &&
    [ -z "$(find /etc/systemd /run/systemd/system -name '*inrush*')" ] && [ -e /etc/inrush/pipelines/quick.toml ]
}

mode=$(cat $hand/mode)
case $mode in
  checks)
    : >"$work/all"
    check "a Debian 12 with a kernel of its own, systemd as PID 1" a_debian
    check "dpkg -i" installed
    check "the service runs and is ready after it" running_well
    check "it is enabled" eval '[ "$(systemctl is-enabled inrush)" = enabled ]'
    check "user and group, and the daemon is that user" user_and_group
    check "folders and files belong to whom they should" folders
    check "nobody else reads the data" nobody_else_reads
    check "start returns when it is ready" ready_at_once
    check "the engine is uring" on_uring
    check "seccomp, no capabilities, no new privileges, a read-only root" confined
    inrush topic create cuts --partitions 4 --config segment.bytes=65536 >/dev/null
    check "POST answers 200" events_go_in
    check "inrush topic list" listed
    check "inrush consume" consumed
    check "systemctl reload takes a new pipeline" reloaded
    check "it writes Parquet" parquet_written
    check "neither status nor journal has a warning or an error" said_no_error
    check "a broken pipeline is told and leaves the others running" broken_pipeline
    check "the journal has no colours" log_without_colours
    check "exposure of at most 2.0" exposure
    check "inrush doctor in the same cage" doctor
    check "systemctl stop under load is clean and quick" stopped_clean
    check "inrush log verify" verified
    check "a wrong config is told, and not tried again and again" wrong_config
    check "systemctl restart" restarted
    check "SIGKILL under load, three times: it comes back by itself" killed
    check "SIGSTOP: the watchdog brings it back" hung
    check "without io_uring it says so and writes all the same" fell_back
    no_drop_in
    check "back on uring" eval 'systemctl restart inrush && on_uring'
    check "nothing that was answered is missing" consumed
    check "dpkg -i over itself, under load" upgraded
    check "an upgrade leaves a stopped service stopped" upgraded_while_stopped
    check "apt-get remove stops it and keeps config and data" removed
    check "installed again: runs, enabled, every event is there" installed_again
    check "dpkg -P keeps the data, and says so" purged
    check "installed where no systemd runs, as into an image: enabled, not started" installed_offline
    check "started after it: every event is there" eval 'systemctl daemon-reload && systemctl start inrush && consumed'
    ;;
  install)
    check "dpkg -i" installed
    check "the service runs and is ready after it" running_well
    check "a topic of small segments" inrush topic create cuts --partitions 4 --config segment.bytes=65536
    ;;
  load | verify | nosync | lost)
    check "the service came up with the boot" running_well
    if [ "$mode" = lost ]; then
      check "acknowledged events are lost, and it is seen" not none_missing $hand/acknowledged cuts clicks
    elif [ -s $hand/acknowledged ]; then
      check "every acknowledged event is in the log" none_missing $hand/acknowledged cuts clicks
      check "its start had nothing to complain of" not eval "journal | grep -a ERROR"
    fi
    if [ "$mode" = verify ]; then
      check "systemctl stop" systemctl stop inrush
      check "inrush log verify" verified
    fi
    case $mode in
      load | nosync)
        if [ "$mode" = nosync ]; then
          drop_in '[Service]' "Environment=LD_PRELOAD=$(ls /usr/lib/*/libeatmydata.so)"
          systemctl restart inrush
        fi
        exec python3 $hand/load.py "$(cat $hand/name)" $port
        ;;
    esac
    ;;
esac
say end
systemctl poweroff --no-block
