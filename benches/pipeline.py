"""Runs DuckDB and the bench in turn on one core and on two, compares what they wrote, prints medians and ratios."""
import glob
import json
import statistics
import subprocess
import sys

DUCK = r"""
import duckdb, json, sys, time
folder, threads = sys.argv[1], int(sys.argv[2])
connection = duckdb.connect()
connection.execute(f"SET threads = {threads}")
connection.execute("SET preserve_insertion_order = false")
columns = '''{eventId: 'VARCHAR', type: 'VARCHAR', ts: 'TIMESTAMP', userId: 'VARCHAR', sessionId: 'VARCHAR', sequence: 'BIGINT',
  page: 'STRUCT(url VARCHAR, title VARCHAR, referrer VARCHAR)', userAgent: 'VARCHAR', ip: 'VARCHAR', country: 'VARCHAR',
  locale: 'VARCHAR', device: 'VARCHAR', viewport: 'STRUCT(width INTEGER, height INTEGER)',
  props: 'STRUCT(price DOUBLE, quantity INTEGER, currency VARCHAR, position INTEGER, experiment VARCHAR, loggedIn BOOLEAN)'}'''
began = time.monotonic()
connection.execute(f'''COPY (SELECT eventId AS event_id, type AS event_type, ts, userId AS user_id, sessionId AS session_id, sequence,
  page.url AS url, page.title AS title, page.referrer AS referrer, userAgent AS user_agent, ip, country, locale, device,
  viewport.width AS width, viewport.height AS height, props.price * props.quantity AS amount, props.currency AS currency,
  props.position AS position, props.experiment AS experiment, props.loggedIn AS logged_in
  FROM read_json('{folder}/events.ndjson', format = 'newline_delimited', columns = {columns})
  WHERE userAgent NOT LIKE '%bot%' AND userAgent NOT LIKE '%Bot%')
  TO '{folder}/duck.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)''')
seconds = time.monotonic() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps({"seconds": seconds, "peak_rss_mb": int(peak.split()[1]) * 1024 / 1e6}))
"""

SUMS = """SELECT count(*), sum(sequence), round(sum(amount), 2), count(DISTINCT event_id), count(DISTINCT user_agent), sum(width),
 sum(height), sum(position), count(*) FILTER (logged_in), epoch_us(min(ts)), epoch_us(max(ts)), sum(length(url)),
 sum(length(referrer)) FROM '{}'"""


def last_json(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])


def main():
    bench, folder, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    import duckdb

    megabytes = int(open(f"{folder}/size").read()) / 1e6
    print(f"duckdb {duckdb.__version__}, {megabytes:.0f} MB of JSON, {runs} runs each in turn")
    for cores, held in ((1, "0"), (2, "0,1")):
        duck, ours = [], []
        for _ in range(runs):
            duck.append(last_json(["taskset", "-c", held, sys.executable, "-c", DUCK, folder, str(cores)]))
            ours.append(last_json(["taskset", "-c", held, bench, "all", folder]))
        sums = [duckdb.sql(SUMS.format(path)).fetchall()[0] for path in (f"{folder}/duck.parquet", f"{folder}/parquet/*.parquet")]
        assert sums[0] == sums[1], sums
        middle = lambda results, field: statistics.median(result[field] for result in results)
        speeds = [megabytes / middle(results, "seconds") for results in (duck, ours)]
        peaks = [middle(results, "peak_rss_mb") for results in (duck, ours)]
        print(f"{cores} core(s): DuckDB {speeds[0]:.0f} MB/s {peaks[0]:.0f} MB | Inrush {speeds[1]:.0f} MB/s {peaks[1]:.0f} MB"
              f" | speed {speeds[1] / speeds[0]:.2f} x, memory {peaks[1] / peaks[0]:.2f} x; {sums[0][0]} rows and sums equal")
    files = glob.glob(f"{folder}/parquet/*.parquet")
    import os
    print(f"Parquet: DuckDB {os.path.getsize(folder + '/duck.parquet') / 1e6:.1f} MB, Inrush {sum(map(os.path.getsize, files)) / 1e6:.1f} MB")


main()
