#!/usr/bin/env python3
"""The medians of the last criterion run as Markdown tables.

    cargo bench --bench switch
    python benches/record/table.py [switch/ ...]

Reads `target/criterion` (or `$CARGO_TARGET_DIR/criterion`); arguments keep the benchmarks whose name starts so.
"""

import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def measured():
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "criterion"
    for path in sorted(folder.glob("**/new/estimates.json")):
        benchmark = json.loads((path.parent / "benchmark.json").read_text())
        median = json.loads(path.read_text())["median"]
        elements = (benchmark["throughput"] or {}).get("Elements")
        yield benchmark["full_id"], median["point_estimate"], median["confidence_interval"], elements


def duration(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.4g} {unit}"
    return f"{nanoseconds:.4g} ns"


def main():
    rows = [row for row in measured() if not sys.argv[1:] or row[0].startswith(tuple(sys.argv[1:]))]
    rates = any(elements for *_, elements in rows)
    print("| benchmark | median | 95 % interval |" + (" GMAC/s |" if rates else ""))
    print("| --- | --- | --- |" + (" --- |" if rates else ""))
    for name, median, interval, elements in rows:
        bounds = f"{duration(interval['lower_bound'])} – {duration(interval['upper_bound'])}"
        rate = f" {elements / median:.2f} |" if elements else (" |" if rates else "")
        print(f"| {name} | {duration(median)} | {bounds} |{rate}")


if __name__ == "__main__":
    main()
