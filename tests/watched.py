"""Runs a command that runs tests. Where nothing is printed for so many seconds a test hangs: says where its threads stand and which it is, into
the file too, and ends it. Some disks answer a sync after minutes, so the command is run once more; a second time is a failure.

Use: python3 tests/watched.py SECONDS FILE COMMAND…
"""
import os, pathlib, re, shutil, signal, subprocess, sys, threading, time

patience, file, command = float(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
OURS = re.compile(r" at src/(%s)[./]" % "|".join(p.stem for p in (pathlib.Path(__file__).parent.parent / "src").iterdir()))


def threads(process):
    """What is ours in the threads that tests run in: they bear the tests' names."""
    if not shutil.which("gdb"):
        return ["  (gdb is not there to show it)"]
    asked = ["gdb", "-p", process, "-batch", "-ex", "set print frame-arguments none", "-ex", "thread apply all backtrace 60"]
    try:
        told = subprocess.run(asked, capture_output=True, timeout=120).stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return ["  (gdb does not come to its end: a thread waits for the disk)"]
    lines = []
    for thread in re.split(r"^(?=Thread )", told, flags=re.M):
        name, *frames = thread.splitlines() or [""]
        frames = [re.sub(r"0x[0-9a-f]+ in |::h[0-9a-f]{16}", "", frame)[:120] for frame in frames if OURS.search(frame)]
        if name.startswith("Thread") and "::" in name and len(frames) > 1:
            lines += [name, *frames]
    return lines[-60:]


def report(child, printed):
    """Which tests began and did not end, and where they stand."""
    lines = []
    for process in subprocess.run(["pgrep", "-s", str(child.pid)], capture_output=True, text=True).stdout.split():
        name = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        waits = [t.name for t in pathlib.Path(f"/proc/{process}/task").iterdir() if "State:\tD" in (t / "status").read_text()]
        lines += [f"-- process {process} ({len(waits)} threads wait for the disk): {name[:120]}", *threads(process)]
    slow = re.findall(r"^test (\S+) has been running for over 60 seconds$", printed, re.M)
    hang = [name for name in slow if not re.search(rf"^test {re.escape(name)} \.\.\. ", printed, re.M)]
    return [*lines, f"these tests began and did not end: {', '.join(hang) or 'none says so'}"]


def attempt():
    """The command's exit code; `None` if it was ended because nothing was printed any more."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    printed, last = [], [time.monotonic()]

    def pass_on():
        for line in child.stdout:
            last[0] = time.monotonic()
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            printed.append(line.decode(errors="replace"))

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    try:
        while child.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - last[0] >= patience:
                lines = [f"nothing was printed for {patience:g} s", *report(child, "".join(printed))]
                print("\n", *lines, sep="\n", flush=True)
                with file.open("a") as out:
                    print(*lines, sep="\n", file=out)
                return None
        reader.join(10)
        return child.returncode
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)


file.unlink(missing_ok=True)
code = attempt()
if code is None:
    print("\nonce more:", *command, flush=True)
    code = attempt()
sys.exit(1 if code is None else code)
