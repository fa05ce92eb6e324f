"""Runs a command that runs tests. Where nothing is printed for so many seconds a test hangs: says where its threads stand and which it is, and ends it.

Use: python3 tests/watched.py SECONDS COMMAND…
"""
import os, pathlib, re, shutil, signal, subprocess, sys, threading, time

patience, command = float(sys.argv[1]), sys.argv[2:]
OURS = re.compile(r" at src/(%s)[./]" % "|".join(p.stem for p in (pathlib.Path(__file__).parent.parent / "src").iterdir()))
child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
printed, last = [], time.monotonic()


def pass_on():
    global last
    for line in child.stdout:
        last = time.monotonic()
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        printed.append(line.decode(errors="replace"))


def threads(process):
    """What is ours in the threads that tests run in: they bear the tests' names."""
    if not shutil.which("gdb"):
        return ["  (gdb is not there to show it)"]
    asked = ["gdb", "-p", process, "-batch", "-ex", "set print frame-arguments none", "-ex", "thread apply all backtrace 60"]
    told = subprocess.run(asked, capture_output=True, timeout=300).stdout.decode(errors="replace")
    lines = []
    for thread in re.split(r"^(?=Thread )", told, flags=re.M):
        name, *frames = thread.splitlines() or [""]
        frames = [re.sub(r"0x[0-9a-f]+ in |::h[0-9a-f]{16}", "", frame)[:120] for frame in frames if OURS.search(frame)]
        if name.startswith("Thread") and "::" in name and len(frames) > 1:
            lines += [name, *frames]
    return lines[-60:]


reader = threading.Thread(target=pass_on, daemon=True)
reader.start()
try:
    while child.poll() is None:
        time.sleep(0.2)
        if time.monotonic() - last < patience:
            continue
        print(f"\nnothing was printed for {patience:g} s", flush=True)
        for process in subprocess.run(["pgrep", "-s", str(child.pid)], capture_output=True, text=True).stdout.split():
            name = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            print(f"-- process {process}: {name[:120]}", *threads(process), sep="\n", flush=True)
        slow = re.findall(r"^test (\S+) has been running for over 60 seconds$", "".join(printed), re.M)
        hang = [name for name in slow if not re.search(rf"^test {re.escape(name)} \.\.\. ", "".join(printed), re.M)]
        sys.exit(f"these tests began and did not end: {', '.join(hang) or 'none says so'}")
    reader.join(10)
    sys.exit(child.returncode)
finally:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
