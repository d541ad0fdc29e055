#!/usr/bin/env python3
"""Cycles of the inner loops by llvm-mca: benches/instructions/cycles.py

Compiles the runner to assembly, finds the innermost loops of the kernels and asks
llvm-mca (LLVM 22: `apt-get install llvm-22`) for models of cores. The models assume
hits in the first cache and right guesses of branches: they rank kernels and are no
measurement of a board.
"""

import os
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
CORES = ["neoverse-n1", "neoverse-v1", "neoverse-v3ae", "cortex-a53"]
# What a loop is recognized by: part of its function's name, its multiplication, how often it stands there.
LOOPS = [
    ("4 pixels × 16 channels × 16 codes, SDOT", "features..DotProd", {"sdot"}, 64),
    ("1 pixel × 16 channels × 16 codes, SDOT", "features..DotProd", {"sdot"}, 16),
    ("4 pixels × 16 channels × 16 codes, SMMLA", "features..I8mm", {"smmla"}, 32),
    ("4 pixels × 16 channels × 16 codes, SMULL + SADALP", "", {"smull", "smull2"}, 128),
    ("3×3 depthwise, 2 pixels × 8 channels, SDOT", "5quads", {"sdot"}, 12),
    ("5×5 depthwise, 2 pixels × 8 channels, SDOT", "5quads", {"sdot"}, 40),
    ("3×3 depthwise, 1 pixel × 16 channels", "4held", {"smull", "smull2", "smlal", "smlal2"}, 18),
    ("4 pixels × 16 channels × 4 floats, FMLA", "4conv", {"fmla"}, 64),
    ("8 pixels × 16 channels × 8 f16, FMLA", "4half", {"fmla"}, 128),
]


def assembly() -> list[str]:
    """Kernels that are generic over the instruction set are compiled with the runner, others with their crate."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
    lines = []
    for package in ["ingraft-arm-neon", "run-plan"]:
        command = f"cargo rustc --quiet --release -p {package} --target aarch64-unknown-linux-gnu -- --emit asm"
        subprocess.run(command.split(), cwd=HERE, check=True)
        files = (target / "aarch64-unknown-linux-gnu/release/deps").glob(f"{package.replace('-', '_')}-*.s")
        lines += max(files, key=lambda file: file.stat().st_mtime).read_text().splitlines()
    return lines


def innermost_loops(lines: list[str]):
    """Pairs of a function's name and the instructions of a loop without another inside."""
    function, labels, last_end = "", {}, 0
    for number, line in enumerate(lines):
        if found := re.match(r"([A-Za-z_][\w.$]*):", line):
            function, labels = found[1], {}
        elif found := re.match(r"(\.L\w+):", line):
            labels[found[1]] = number
        elif (found := re.match(r"\t(?:b\.?\w*|cbn?z|tbn?z)\t.*?(\.L\w+)$", line)) and found[1] in labels:
            start = labels[found[1]]
            if start >= last_end:
                body = [text for text in lines[start + 1 : number + 1] if re.match(r"\s*[a-z]", text)]
                yield function, [re.sub(r"\.L\w+", "loop", text) for text in body]
            last_end = number


def cycles(body: list[str], core: str) -> float:
    command = ["llvm-mca-22", "-mtriple=aarch64-linux-gnu", f"-mcpu={core}", "-mattr=+dotprod,+i8mm,+fullfp16", "-iterations=200"]
    text = "loop:\n" + "\n".join(body) + "\n"
    report = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / 200


def main():
    loops = list(innermost_loops(assembly()))
    print(f"| inner loop | instructions | {' | '.join(CORES)} |")
    print("|---" * (2 + len(CORES)) + "|")
    for name, part, multiplications, wanted in LOOPS:
        for function, body in loops:
            count = sum(text.split()[0] in multiplications for text in body)
            if part in function and count == wanted:
                figures = " | ".join(f"{cycles(body, core):.1f}" for core in CORES)
                print(f"| {name} | {len(body)} | {figures} |")
                break
        else:
            print(f"| {name} | not found |{' |' * len(CORES)}")


if __name__ == "__main__":
    main()
