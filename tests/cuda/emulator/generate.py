#!/usr/bin/env python3
"""Makes one C++ source of the CUDA sources, with a table of their kernels: generate.py FOLDER_OF_CU OUT."""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOT = "for (int i = 0; i < 4; i++) c += (int)(signed char)(a >> (8 * i)) * (int)(signed char)(b >> (8 * i));"
PAIR = "for (int i = 0; i < 2; i++) c += (int)(short)(a >> (16 * i)) * (int)(signed char)(b >> (8 * i + {}));"
KERNEL = r'extern "C"[^;{]*?void\s+(\w+)\(\s*(?:const\s+)?(\w+)\s*(\*?)\s*\w+\)\s*\{'


def main() -> None:
    sources, out = Path(sys.argv[1]), Path(sys.argv[2])
    copies = out / "sources"
    copies.mkdir(parents=True, exist_ok=True)
    for source in sources.iterdir():
        text = re.sub(r'asm\("dp4a.*?\);', DOT, source.read_text(), flags=re.S)
        for half, shift in ("lo", 0), ("hi", 16):
            text = re.sub(rf'asm\("dp2a\.{half}.*?\);', PAIR.format(shift), text, flags=re.S)
        text = re.sub(r'asm volatile\("bar\.sync.*?\);', "em_named(group + 1, 64);", text, flags=re.S)
        text = re.sub(r'asm\("cvt\.rn\.f16\.f32.*?\);', "h = em_half(v);", text, flags=re.S)
        text = re.sub(r'asm\("cvt\.f32\.f16.*?\);', "v = em_float(h);", text, flags=re.S)
        (copies / source.name).write_text(text)
    command = ["g++", "-E", "-P", "-std=c++17", "-x", "c++", "-include", str(HERE / "shim.h"), str(copies / "image.cu")]
    expanded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels = re.findall(KERNEL, expanded)
    if not kernels:
        raise SystemExit("no kernels found")
    runs = [f"static void run_{name}(void* record) {{ {name}(*({kind}{star}*)record); }}" for name, kind, star in kernels]
    rows = [f'  {{"{name}", run_{name}, sizeof({kind}{star})}},' for name, kind, star in kernels]
    lines = ['#include "shim.h"', '#include "sources/image.cu"']
    lines += ["struct Kernel { const char* name; void (*run)(void*); size_t size; };", *runs]
    lines += ["extern Kernel em_kernels[];", "Kernel em_kernels[] = {", *rows, "  {0, 0, 0}};", ""]
    (out / "kernels.cpp").write_text("\n".join(lines))
    print(len(kernels), "kernels")


if __name__ == "__main__":
    main()
