"""Two servers' views of one scenario → differences, with equal ones of several versions told once; and the list of accepted ones."""

import re
import tomllib
from dataclasses import dataclass, field


@dataclass
class Difference:
    scenario: str
    case: str
    path: str
    versions: list
    kafka: object
    inrush: object
    reason: str = ""

    @property
    def place(self):
        return f"{self.case}{': ' + self.path if self.path else ''}"

    def shown_versions(self):
        numbers, parts = sorted(self.versions), []
        for number in numbers:
            if parts and parts[-1][1] == number - 1:
                parts[-1][1] = number
            else:
                parts.append([number, number])
        return ", ".join(f"{first}" if first == last else f"{first}–{last}" for first, last in parts)


ABSENT = "(absent)"


def leaves(kafka, inrush, path=""):
    """(path, Kafka's value, Inrush's value) wherever the two are not the same."""
    if kafka == inrush and type(kafka) is type(inrush):
        return
    if isinstance(kafka, dict) and isinstance(inrush, dict):
        if "ErrorCode" in kafka and "ErrorCode" in inrush and kafka["ErrorCode"] != inrush["ErrorCode"]:
            # What else an answer says follows from its error.
            yield f"{path}.ErrorCode" if path else "ErrorCode", kafka["ErrorCode"], inrush["ErrorCode"]
            return
        for key in [*kafka, *(key for key in inrush if key not in kafka)]:
            yield from leaves(kafka.get(key, ABSENT), inrush.get(key, ABSENT), f"{path}.{key}" if path else str(key))
    elif isinstance(kafka, list) and isinstance(inrush, list) and all(isinstance(one, dict) for one in kafka + inrush) and kafka and inrush:
        ours, theirs = by_key(inrush), by_key(kafka)
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            yield from leaves(theirs.get(key, ABSENT), ours.get(key, ABSENT), f"{path}[{key}]")
    else:
        yield path, kafka, inrush


def by_key(structs):
    from broker import KEYS

    key = next((key for key in KEYS if all(key in one for one in structs)), None)
    found = {}
    for position, one in enumerate(structs):
        name = position if key is None else one[key]
        found[name if name not in found else f"{name}#{position}"] = one
    return found


def differences(scenario, kafka, inrush):
    grouped = {}
    for case in [*kafka, *(case for case in inrush if case not in kafka)]:
        theirs, ours = kafka.get(case, {}), inrush.get(case, {})
        for version in [*theirs, *(version for version in ours if version not in theirs)]:
            for path, expected, found in leaves(theirs.get(version, ABSENT), ours.get(version, ABSENT)):
                one = grouped.setdefault((case, path, repr(expected), repr(found)), Difference(scenario, case, path, [], expected, found))
                if version:
                    one.versions.append(int(version[1:]))
    return list(grouped.values())


@dataclass
class Known:
    scenario: str
    at: str
    reason: str
    versions: list = field(default_factory=list)
    inrush: str = ""
    used: int = field(default=0)

    def covers(self, difference):
        is_version = not self.versions or (difference.versions and set(difference.versions) <= set(self.versions))
        is_value = not self.inrush or self.inrush == difference.inrush
        return matches(self.scenario, difference.scenario) and matches(self.at, difference.place) and is_version and is_value


def matches(pattern, text):
    """`*` stands for anything; nothing else is special."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL) is not None


def load_known(path):
    with open(path, "rb") as file:
        entries = tomllib.load(file).get("known", [])
    for entry in entries:
        assert set(entry) - {"versions", "inrush"} == {"scenario", "at", "reason"} and entry["reason"].strip(), (
            f"{path}: {entry} needs scenario, at and reason"
        )
    return [Known(**entry) for entry in entries]


def judge(found, known):
    """Marks what is accepted. Gives the entries that accept nothing any more."""
    for difference in found:
        for entry in known:
            if entry.covers(difference):
                entry.used += 1
                difference.reason = difference.reason or entry.reason
    return [entry for entry in known if not entry.used]
