"""Every dependency has an allowed licence and comes from the registry; works without a network once the packages are there."""

import json
import subprocess
import sys

ALLOWED = {
    "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "BSL-1.0", "CC0-1.0", "0BSD", "Unlicense",
    "MIT-0", "IJG", "Apache-2.0 WITH LLVM-exception", "CDLA-Permissive-2.0",
}


def allowed(expression: str) -> bool:
    """Whether a choice of the expression's licences is allowed. Only AND, OR, / and one level of brackets occur."""
    text = expression.replace("/", " OR ").replace("(", "").replace(")", "")
    if " AND " in text:
        return all(allowed(part) for part in text.split(" AND "))
    return any(part.strip() in ALLOWED for part in text.split(" OR "))


def main() -> int:
    out = subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"], check=True, capture_output=True)
    packages = json.loads(out.stdout)["packages"]
    wrong = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] is None:
            continue
        if not package["source"].startswith("registry+"):
            wrong.append(f"{name}: comes from {package['source']}, not from the registry")
        if not allowed(package["license"] or "none"):
            wrong.append(f"{name}: licence {package['license']!r} is not on the list")
    for line in wrong:
        print(line)
    print(f"{len(packages) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
