#!/usr/bin/env python3
"""Writes SQL that repeats each word of the SQL parser within itself, in many shapes and depths, and lets `pipeline check` read it.

No text may end the process or hold it. The words are those that the parser of Cargo.lock treats in a way of its own: run it again when that
crate changes. Usage: tests/deep_sql.py INRUSH [WORD...]      (needs cargo; about 10,000 small files in a temporary folder, a few minutes)
"""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SHAPES = ["W ", "W(", "W x ", "W(x ", "x W ", "x W (", "W[", "W {x: ", "(x) -> W ", "x.W.", "W<", "cast(x as W<", "W 1 ", "W 'x' ",
          "x::W(", "x::W<", "x W W ", "W array[", "W struct("]
COUNTS = (45, 290, 3_000)
PATIENCE_S = 60


def words():
    """Keywords that the parser's own code names."""
    tree = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--locked"], text=True,
                                              cwd=pathlib.Path(__file__).parent))
    manifest = next(crate["manifest_path"] for crate in tree["packages"] if crate["name"] == "sqlparser")
    source = pathlib.Path(manifest).parent / "src" / "parser" / "mod.rs"
    return sorted(set(re.findall(r"Keyword::([A-Z_0-9]+)", source.read_text())))


def judged(inrush, word):
    """What went wrong with one word, in words."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for shape in SHAPES:
            for count in COUNTS:
                files.append(f"{folder}/p{len(files)}.toml")
                sql = shape.replace("W", word) * count
                head = 'from = "topic:a"\nto = { topic = "b" }\n'
                text = f'{head}where = """\n{sql}"""\n[columns]\nx = "string"\n'
                pathlib.Path(files[-1]).write_text(text)
        try:
            ran = subprocess.run([inrush, "pipeline", "check", *files], capture_output=True, text=True, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"{word}: no answer within {PATIENCE_S} s"
        # A signal or a panic (101) is no answer.
        return None if ran.returncode in (0, 1, 2) else f"{word}: exit {ran.returncode}: {ran.stderr[-200:]}"


def main():
    inrush = os.path.abspath(sys.argv[1])
    asked = sys.argv[2:] or words()
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        for number, wrong in enumerate(threads.map(lambda word: judged(inrush, word), asked), 1):
            if wrong:
                failed += 1
                print(wrong, flush=True)
            if number % 50 == 0:
                print(f"{number} of {len(asked)} words", flush=True)
    print(f"{len(asked) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
