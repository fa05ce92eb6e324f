#!/usr/bin/env bash
# The .deb and its unit on a real Debian 12, with a kernel and a systemd of its own, in a virtual machine without a network: installed, started,
# closed in and yet on io_uring, killed, hung, upgraded, removed, purged. Then its power is cut under load, CUTS times: qemu is killed, and
# what the disk was not told to flush is lost with it (its image is a qcow2 whose map is in qemu's memory until then). Each event that was
# acknowledged on the serial port before a cut must be in the log after it; a daemon whose syncs do nothing has to be caught by the same.
# Usage, as root: [CUTS=3] tests/system.sh [PATH_TO_INRUSH] [cuts]      (cuts: installs it and cuts the power, without the checks before)
# Needs Debian's debootstrap, qemu, e2fsprogs (installed if missing) and, to be quick, /dev/kvm; emulated on two cores it takes 15 to 25
# minutes, the first time one more to make the system, which is kept in SYSTEM_CACHE (target/system; 1 GB). SYSTEM_MIRROR names a Debian mirror
# if apt has none for bookworm; SYSTEM_ACCELERATOR=tcg emulates at once.
# Without root, or on another processor than amd64, it says so and leaves with 0.
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/release/inrush}
cache=${SYSTEM_CACHE:-${CARGO_TARGET_DIR:-target}/system}
cuts=${CUTS:-3}
mode=checks
[ "${2:-}" != cuts ] || mode=install
skip() { echo "skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "a Debian is made by root only"
command -v dpkg >/dev/null || skip "dpkg is missing: this is for Debian"
[ "$(dpkg --print-architecture)" = amd64 ] || skip "the virtual machine is an amd64"
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release"; exit 1; }
missing=()
while read -r tool package; do command -v "$tool" >/dev/null || missing+=("$package"); done <<'TOOLS'
debootstrap debootstrap
qemu-system-x86_64 qemu-system-x86
qemu-img qemu-utils
mkfs.ext4 e2fsprogs
TOOLS
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null ||
    { echo "missing: apt-get install ${missing[*]}"; exit 1; }
fi

# -- the system, made once
packages=systemd,systemd-sysv,libnss-systemd,dbus,udev,procps,curl,python3,libeatmydata1,linux-image-cloud-amd64
unit='[Unit]
Description=the checks of tests/system.sh
RequiresMountsFor=/hand
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/usr/bin/bash /hand/inside.sh
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity

[Install]
WantedBy=graphical.target'
base=$cache/$(printf '%s' "$packages $unit" | sha256sum | cut -c1-12)
if [ ! -e "$base/done" ]; then
  mirror=${SYSTEM_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(SITE)' 'Created-By: Packages' | sed -n 's/^bookworm //p' | head -n 1)}
  [ -n "$mirror" ] || { echo "apt has no mirror of Debian 12 (bookworm) here: SYSTEM_MIRROR=URL"; exit 1; }
  echo "making a Debian 12 in $base"
  rm -rf "$base" && mkdir -p "$base"
  http_proxy=${http_proxy:-$(apt-config dump --format '%v' Acquire::http::Proxy)} nice debootstrap --variant=minbase --arch=amd64 --include="$packages" \
    bookworm "$base/root" "$mirror" >"$base/debootstrap.log" 2>&1 || { tail -n 20 "$base/debootstrap.log"; exit 1; }
  cp "$base"/root/boot/vmlinuz-* "$base/kernel"
  cp "$base"/root/boot/initrd.img-* "$base/initrd"
  rm -rf "$base"/root/var/cache/apt/archives/*.deb "$base"/root/boot/*
  mkdir -p "$base/root/hand" "$base/root/var/log/journal"
  echo inrush-test >"$base/root/etc/hostname"
  echo '127.0.0.1 localhost inrush-test' >"$base/root/etc/hosts"
  printf '/dev/vda / ext4 defaults 0 1\n/dev/vdb /hand ext4 ro 0 0\n' >"$base/root/etc/fstab"
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$base/root/etc/machine-id"
  echo >>"$base/root/etc/machine-id"
  printf '%s\n' "$unit" >"$base/root/etc/systemd/system/checks.service"
  systemctl --root="$base/root" enable --quiet checks.service 2>/dev/null ||
    ln -sf ../checks.service -t "$(mkdir -p "$base/root/etc/systemd/system/graphical.target.wants" && echo "$_")"
  truncate -s 4G "$base/disk"
  nice mkfs.ext4 -q -d "$base/root" "$base/disk"
  rm -rf "$base/root"
  touch "$base/done"
fi

# -- KVM if it boots a kernel (one inside another virtual machine may be there and not come that far), else an emulation
mkdir -p "$cache"
folder=$(mktemp -d -p "$cache" run.XXXXXX)
folder=$(realpath "$folder") base=$(realpath "$base")
accelerator=tcg slow=5
boots_by_kvm() {
  [ -w /dev/kvm ] || return 1
  timeout 20 qemu-system-x86_64 -accel kvm -cpu max -m 256 -nodefaults -no-reboot -display none -nic none -kernel "$base/kernel" \
    -append 'earlyprintk=ttyS0 console=ttyS0 panic=-1' -serial "file:$folder/kvm" >/dev/null 2>&1 || true
  grep -aq 'Kernel panic' "$folder/kvm" # no disk: it came to its end
}
if [ "${SYSTEM_ACCELERATOR:-kvm}" = kvm ] && boots_by_kvm; then accelerator=kvm slow=1; else echo "/dev/kvm cannot be used: the machine is emulated, ten times as slow"; fi
patience=$((300 * slow))

# -- one boot: a disk on top of the last one, a small read-only one with what is to be done, the console and what the checks say in files
qemu=
clean() {
  [ -z "$qemu" ] || kill -9 "$qemu" 2>/dev/null || true
  if [ "${passed:-0}" -gt 0 ] && [ "${failed:-1}" = 0 ]; then rm -rf "$folder"; else echo "the consoles are kept in $folder" && rm -f "$folder"/disk-* "$folder/hand.img"; fi
}
trap clean EXIT
deploy/package --quick --binary "$inrush" --out "$folder/package" >"$folder/package.log" 2>&1 || { cat "$folder/package.log"; exit 1; }
mkdir "$folder/hand"
cp tests/system/* "$folder/hand/"
cp "$folder"/package/*.deb "$folder/hand/inrush.deb"
echo $slow >"$folder/hand/slow"
: >"$folder/hand/acknowledged"
disk=$base/disk format=raw boots=0
# Small clusters: each write to a new place needs a change of the map, which qemu keeps to itself until the guest flushes.
boot() { # MODE
  boots=$((boots + 1))
  echo "$1" >"$folder/hand/mode"
  rm -f "$folder/hand.img"
  truncate -s 128M "$folder/hand.img"
  mkfs.ext4 -q -d "$folder/hand" "$folder/hand.img"
  qemu-img create -q -f qcow2 -o cluster_size=4096 -b "$disk" -F "$format" "$folder/disk-$boots"
  disk=$folder/disk-$boots format=qcow2
  console=$folder/console-$boots-$1 said=$folder/said-$boots-$1
  touch "$console" "$said"
  # -cpu max is the host's under KVM. apt's own timers would hold dpkg's lock.
  local options="root=/dev/vda rw console=ttyS0 panic=-1 systemd.log_color=0 systemd.default_timeout_start_sec=300"
  options+=" systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer systemd.mask=dpkg-db-backup.timer systemd.mask=getty.target"
  nice qemu-system-x86_64 -accel "$accelerator" -cpu max -smp 2 -m 1024 -nodefaults -no-reboot -display none -nic none \
    -kernel "$base/kernel" -initrd "$base/initrd" -append "$options" \
    -drive "file=$disk,if=virtio,format=qcow2,cache=none" -drive "file=$folder/hand.img,if=virtio,format=raw,readonly=on" \
    -serial "file:$console" -serial "file:$said" >"$console.qemu" 2>&1 &
  qemu=$!
}
passed=0 failed=0
# Prints what the checks of this boot said, and counts it.
show() {
  local line
  while IFS= read -r line; do
    case $line in
      "ok "*) passed=$((passed + 1)); echo "$line" ;;
      FAILED*) failed=$((failed + 1)); echo "$line" ;;
      "  "*) echo "$line" ;;
    esac
  done < <(tr -d '\0\r' <"$said")
}
# Waits for the machine to power itself off; the checks' last line is "end".
finish() {
  local deadline=$((SECONDS + patience))
  while kill -0 "$qemu" 2>/dev/null; do
    if [ $SECONDS -ge $deadline ]; then kill -9 "$qemu"; echo "FAILED $1: no end within $patience s"; failed=$((failed + 1)); fi
    sleep 0.2
  done
  wait "$qemu" 2>/dev/null || true
  qemu=
  show
  grep -q '^end' "$said" || { echo "FAILED $1: the checks did not come to their end"; failed=$((failed + 1)); tail -n 30 "$console"; cat "$console.qemu"; }
}
# Cuts the power in the middle of a load: at least 200 events after its start, and then by chance within three seconds.
cut() {
  local deadline=$((SECONDS + patience)) acknowledged=0
  while [ "$acknowledged" -lt 200 ]; do
    sleep 0.1
    acknowledged=$(grep -ac '^ack ' "$said" || true)
    if [ $SECONDS -ge $deadline ] || ! kill -0 "$qemu" 2>/dev/null; then
      show
      echo "FAILED no load came up"
      failed=$((failed + 1))
      tail -n 30 "$console"
      kill -9 "$qemu" 2>/dev/null || true
      qemu=
      return 1
    fi
  done
  sleep "$((RANDOM % 3)).$((RANDOM % 10))"
  kill -9 "$qemu"
  wait "$qemu" 2>/dev/null || true
  qemu=
  show
  # Whole lines only: the last one may be cut.
  tr -d '\0\r' <"$said" | sed -n 's/^ack \([a-z0-9-]*\)\.$/\1/p' >"$folder/now"
  cat "$folder/now" >>"$folder/hand/acknowledged"
  echo "-- power cut: $(wc -l <"$folder/now") events acknowledged before it"
}

echo "== the package and the unit"
began=$SECONDS
boot $mode
finish "the package and the unit"
came=1
for round in $(seq "$cuts"); do
  echo "== power cut $round of $cuts"
  echo "cut$round" >"$folder/hand/name"
  boot load
  cut || { came=0; break; }
done
if [ "$cuts" -gt 0 ] && [ $came = 1 ]; then
  echo "== after the last cut"
  boot verify
  finish "after the last cut"
  echo "== the same with syncs that do nothing"
  echo lost >"$folder/hand/name"
  : >"$folder/hand/acknowledged"
  boot nosync
  if cut; then boot lost && finish "syncs that do nothing"; fi
fi
[ "$passed" -gt 0 ] || failed=$((failed + 1))
echo "$accelerator, $((SECONDS - began)) s, $boots boots"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
