"""docs/COMPATIBILITY.md: the report card. Holds nothing that changes from run to run unless an answer did."""

import re
from collections import defaultdict

from broker import CLOSED
from compare import ABSENT

# Reference: what broke clients of other brokers, by number.
BEHAVIOURS = {
    1: "ListOffsets by time: the first offset at or after it, else −1",
    2: "ListOffsets 0 is not served",
    3: "ListOffsets' special times",
    4: "latest for READ_COMMITTED is the last stable offset",
    5: "a time query never answers below the log's start",
    6: "ListOffsets' epoch is the record's batch's",
    7: "OffsetFetch gives epoch and metadata as committed",
    8: "the leader epoch never goes back",
    9: "a fetch inside a batch gives the whole batch",
    10: "at least one batch, in the order of the request, within the limits",
    11: "min bytes, max wait, and when a poll ends early",
    12: "each fetch partition has watermarks, errors too",
    13: "fetch sessions",
    14: "aborted transactions, sorted, for READ_COMMITTED only",
    15: "one batch v2 a partition; zstd from Produce 7",
    16: "what a batch is checked for",
    17: "the broker sets the greatest timestamp",
    18: "LogAppendTime",
    19: "base offset and leader epoch are the broker's, CRC stays good",
    20: "max.message.bytes counts the batch as received",
    21: "idempotent producers: duplicates, gaps, wrap, restart",
    22: "InitProducerId: epochs and timeouts",
    23: "EndTxn again is the same answer",
    24: "OffsetFetch with require stable",
    25: "JoinGroup and rebalances",
    26: "static members",
    27: "offsets expire from the time a group is empty",
    28: "metadata of a commit: 4,096 bytes",
    29: "topics made by asking; invalid names",
    30: "DescribeConfigs lists all; incremental changes; CreatePartitions",
    31: "flexible headers, null client id, unknown tags",
    32: "topic ids",
    33: "answers in order; acks=0 has none",
    34: "throttle: answer first",
    35: "compaction and tombstones",
    36: "codecs reach every client",
    37: "the advertised address is where the client came to",
    38: "several SCRAM mechanisms a user",
}

UNSEEN = {27: "takes its time: tests/clients/group_expiry.py"}


def shown(value, limit=90):
    if value == ABSENT:
        return "nothing"
    text = value if isinstance(value, str) else brief(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "`" + text.replace("`", "'").replace("|", "¦").replace("\n", " ") + "`"


def brief(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {brief(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(brief(one) for one in value) + "]"
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if not isinstance(value, int) or isinstance(value, bool)
        else str(value)
    )


def state(found):
    if not found:
        return "same"
    return "differs" if any(not one.reason for one in found) else "differs, accepted"


def write(path, version, scenarios, found, runs):
    by_scenario = defaultdict(list)
    for one in found:
        by_scenario[one.scenario].append(one)
    same = sum(not by_scenario[one.name] for one in scenarios)
    accepted = sum(state(by_scenario[one.name]) == "differs, accepted" for one in scenarios)
    observed = sum(len(case) for one in scenarios for case in runs[one.name, "kafka"].broker.seen.values())
    lines = [
        "# Compatibility report card",
        "",
        f"Inrush beside Apache Kafka {version} (one KRaft node): the same requests to both, answers compared. Written by `tests/compat.sh`; do not edit.",
        "What a client acts on is compared: error codes, offsets, records, what is null, in each version of a request. Ids, hosts, ports, wall-clock times, values of epochs, throttle times and texts of errors are not.",
        "",
        f"**{len(scenarios)} scenarios, {observed} answers: {same} the same, {accepted} differ in accepted ways only, {len(scenarios) - same - accepted} differ.**",
        "",
        "## By request",
        "",
        "| request | scenarios | same | accepted | differ |",
        "|---|---|---|---|---|",
    ]
    by_api = defaultdict(list)
    for one in scenarios:
        for api in one.apis:
            by_api[api].append(state(by_scenario[one.name]))
    for api, states in sorted(by_api.items()):
        lines.append(
            f"| {api} | {len(states)} | {states.count('same')} | {states.count('differs, accepted') or ''} | {states.count('differs') or ''} |"
        )
    lines += versions_table(runs, by_scenario["versions.ranges"]) + behaviours_table(scenarios, by_scenario) + differences_list(scenarios, by_scenario)
    path.write_text("\n".join(lines) + "\n")


def versions_table(runs, found):
    if ("versions.ranges", "kafka") not in runs:
        return []
    reasons = {one.case: one.reason for one in found}
    kafka, inrush = (runs["versions.ranges", name].broker.seen for name in ("kafka", "inrush"))
    rows = ["", "## Versions served", "", "| API | Kafka | Inrush | |", "|---|---|---|---|"]
    for api, case in kafka.items():
        theirs, ours = case[""], inrush.get(api, {}).get("", "absent")
        if theirs == "absent" and ours == "absent" or api.startswith("goes on"):
            continue
        reason = f": {reasons[api]}" if reasons.get(api) else ""
        rows.append(f"| {api} | {theirs} | {ours} | {relation(theirs, ours)}{reason} |")
    return rows


def relation(theirs, ours):
    if theirs == ours:
        return "equal"
    if "absent" in (theirs, ours):
        return "absent" if ours == "absent" else "only here"
    (low, high), (own_low, own_high) = (map(int, text.split("–")) for text in (theirs, ours))
    parts = [
        f"{'lower' if own < their else 'higher'} {end}"
        for end, own, their in (("minimum", own_low, low), ("maximum", own_high, high))
        if own != their
    ]
    return ", ".join(parts)


def behaviours_table(scenarios, by_scenario):
    rows = ["", "## Behaviours that broke clients of other brokers", "", "| # | what | scenarios | |", "|--:|---|---|---|"]
    for number, text in BEHAVIOURS.items():
        about = [one for one in scenarios if number in one.behaviours]
        states = [state(by_scenario[one.name]) for one in about]
        verdict = (
            UNSEEN.get(number, "no scenario")
            if not about
            else "same"
            if set(states) == {"same"}
            else "differs"
            if "differs" in states
            else "accepted"
        )
        rows.append(f"| {number} | {text} | {', '.join(f'`{one.name}`' for one in about)} | {verdict} |")
    return rows


def differences_list(scenarios, by_scenario, each=12):
    rows = ["", "## Differences", ""]
    for one in scenarios:
        found = by_scenario[one.name]
        if not found or one.name == "versions.ranges":  # a table of its own
            continue
        rows.append(f"**`{one.name}`** {one.about}" + (f" ({', '.join(one.apis)})"))
        rows.append("")
        by_reason = defaultdict(list)
        for difference in found:
            by_reason[difference.reason].append(difference)
        for reason, some in by_reason.items():
            if reason:
                rows.append(f"* accepted: {reason}")
            indent = "  " if reason else ""
            some, silent = told_once(some)
            rows += [f"{indent}* {line}" for line in silent]
            limit = 3 if reason else each
            for difference in some[:limit]:
                versions = f" (v{difference.shown_versions()})" if difference.versions else ""
                rows.append(f"{indent}* {difference.place}{versions}: Kafka {shown(difference.kafka)}, Inrush {shown(difference.inrush)}")
            if len(some) > limit:
                rows.append(f"{indent}* and {len(some) - limit} more")
        rows.append("")
    return rows


def told_once(found):
    """What Inrush did not answer at all is one line, not one an answer."""
    rest = [one for one in found if one.inrush not in (CLOSED, ABSENT)]
    lines = []
    for value, text in ((CLOSED, "Inrush closes the connection"), (ABSENT, "not there, or not asked for after the above")):
        cases = list(dict.fromkeys(one.case if one.path == "" else one.place for one in found if one.inrush == value))
        if cases:
            more = f" and {len(cases) - 6} more" if len(cases) > 6 else ""
            lines.append(f"{text}: {'; '.join(cases[:6])}{more}")
    return rest, lines


def plain(text):
    return re.sub(r"[`*]", "", text)
