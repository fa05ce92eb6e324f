#!/usr/bin/env bash
# Both packages are built from a binary, unpacked as a user would, and run: right files, right owners, a config that is read, pipelines
# that pass their tests, a unit that systemd takes and that is closed enough.
# Usage: tests/package.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0
check() { if "${@:2}" >"$folder/said" 2>&1; then passed=$((passed + 1)); else echo "failed: $1"; cat "$folder/said"; exit 1; fi; }
has() { grep -qE "$2" "$1"; }

check "packs" deploy/package --quick --binary "$inrush" --out "$folder/out" 1.2.3
deb=$(echo "$folder"/out/inrush_1.2.3_*.deb)
dpkg-deb -c "$deb" >"$folder/list"
for file in usr/bin/inrush usr/lib/systemd/system/inrush.service etc/inrush/inrush.toml etc/inrush/pipelines/clicks.toml \
  etc/inrush/pipelines/camera.toml usr/share/inrush/dashboards/inrush.json usr/share/inrush/dashboards/alerts.yml \
  usr/share/doc/inrush/README.md usr/share/doc/inrush/copyright usr/share/doc/inrush/changelog.gz; do
  check "$file is root's and not writable by others" has "$folder/list" "^-r[w-][x-]r-[x-]r-[x-] root/root .* \./$file$"
done
check "nothing belongs to another user" bash -c "! grep -v ' root/root ' '$folder/list'"
dpkg-deb -e "$deb" "$folder/control"
check "every file in /etc is a conffile" diff <(sed -n 's,.* \./\(etc/.*[^/]\)$,/\1,p' "$folder/list" | sort) "$folder/control/conffiles"
check "the version" has "$folder/control/control" '^Version: 1.2.3$'
check "the C library" has "$folder/control/control" '^Depends: libc6 \(>= 2\.[0-9]+\)'
for script in preinst postinst prerm postrm; do check "$script is a shell script" sh -n "$folder/control/$script"; done

dpkg-deb -x "$deb" "$folder/root"
check "md5sums" bash -c "cd '$folder/root' && md5sum --quiet -c '$folder/control/md5sums'"
check "the packed program runs" "$folder/root/usr/bin/inrush" --version
check "the packed config is right" "$folder/root/usr/bin/inrush" serve --check --config "$folder/root/etc/inrush/inrush.toml" --pipelines "$folder/root/etc/inrush/pipelines"
check "the packed pipelines pass their tests" "$folder/root/usr/bin/inrush" pipeline test "$folder"/root/etc/inrush/pipelines/*.toml

tar -xzf "$folder"/out/inrush-1.2.3-linux-*.tar.gz -C "$folder"
check "the unpacked program runs" bash -c "cd '$folder'/inrush-1.2.3-linux-* && ./inrush --version && ./inrush pipeline test pipelines/*.toml && test -s LICENSE"
check "the sums" bash -c "cd '$folder/out' && sha256sum --quiet -c ./*.sha256"

if command -v systemd-analyze >/dev/null; then
  mkdir -p "$folder/unit"
  sed "s,/usr/bin/inrush,$folder/root/usr/bin/inrush," deploy/inrush.service >"$folder/unit/inrush.service"
  check "the unit is taken" systemd-analyze verify --man=no "$folder/unit/inrush.service"
  level=$(systemd-analyze security --offline=true deploy/inrush.service | sed -n 's/.*exposure level for .*: \([0-9.]*\).*/\1/p')
  check "exposure of $level is at most 2.0" awk -v level="$level" 'BEGIN { exit !(level != "" && level <= 2.0) }'
  # A filter without io_uring would cost half of the speed and say so only in a log line.
  systemd-analyze syscall-filter @system-service @aio >"$folder/calls" 2>/dev/null || true
  [ ! -s "$folder/calls" ] || check "io_uring is in the filter" has "$folder/calls" 'io_uring_setup|@aio'
else
  echo "systemd-analyze is missing: the unit was not checked"
fi
echo "$passed passed, 0 failed"
