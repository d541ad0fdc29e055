#!/usr/bin/env python3
"""Compiles cu/ into images/, one a generation of GPUs and PTX for all others, and lists in images/MANIFEST what they were made from.

    python3 targets/jetson-cuda/build.py            # all images
    python3 targets/jetson-cuda/build.py sm_90      # some
    python3 targets/jetson-cuda/build.py --check    # compile again, compare with what is committed, and look at the limits

Needs pip and nothing of CUDA: NVIDIA's run-time compiler comes from PyPI, pinned, into target/.
"""

import ctypes
import gzip
import hashlib
import os
import pathlib
import re
import subprocess
import sys

import limits

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target")) / "cuda-compilers"
# Toolkit: package, folder of the library below the installed packages, library.
TOOLKITS = {
    "11.8": ("nvidia-cuda-nvrtc-cu11==11.8.89", "nvidia/cuda_nvrtc/lib", "libnvrtc.so.11.2"),
    "13.0": ("nvidia-cuda-nvrtc==13.0.88", "nvidia/cu13/lib", "libnvrtc.so.13"),
}
IMAGES = {"sm_72": "11.8", "sm_87": "11.8", "sm_90": "11.8", "sm_110": "13.0", "compute_72": "11.8"}
OPTIONS = ["--fmad=false", "--ftz=false", "--prec-div=true", "--std=c++17", "-default-device"]


def compiler(toolkit):
    package, folder, library = TOOLKITS[toolkit]
    place = TOOLS / toolkit
    if not (place / folder / library).exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), package]
        subprocess.run(pip, check=True)
    for builtins in sorted((place / folder).glob("libnvrtc-builtins.so.*")):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(place / folder / library))


def call(nvrtc, name, *arguments):
    code = getattr(nvrtc, name)(*arguments)
    if code != 0:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise SystemExit(f"{name}: {nvrtc.nvrtcGetErrorString(code).decode()}")


def virtual(name):
    """Whether an image is text that the driver compiles, PTX."""
    return name.startswith("compute_")


def place(name):
    return HERE / "images" / f"{name}.{'ptx' if virtual(name) else 'cubin'}.gz"


def compiled(name):
    nvrtc = compiler(IMAGES[name])
    program = ctypes.c_void_p()
    source = (HERE / "cu/image.cu").read_bytes()
    call(nvrtc, "nvrtcCreateProgram", ctypes.byref(program), source, b"image.cu", 0, None, None)
    options = [f"--gpu-architecture={name}", f"--include-path={HERE / 'cu'}", *OPTIONS]
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), array)
    size = ctypes.c_size_t()
    call(nvrtc, "nvrtcGetProgramLogSize", program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    call(nvrtc, "nvrtcGetProgramLog", program, log)
    if failed:
        raise SystemExit(f"{name}: {log.value.decode()}")
    form = "PTX" if virtual(name) else "CUBIN"
    call(nvrtc, f"nvrtcGet{form}Size", program, ctypes.byref(size))
    image = ctypes.create_string_buffer(size.value)
    call(nvrtc, f"nvrtcGet{form}", program, image)
    # Calls are numbered in comments, on from those of what was compiled before.
    return re.sub(rb" // callseq [\d, ]+", b"", image.raw) if virtual(name) else image.raw


def digest(data):
    return hashlib.sha256(data).hexdigest()


def sources():
    """One digest over the names and contents of all sources."""
    whole = hashlib.sha256()
    for path in sorted((HERE / "cu").iterdir()):
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def main(arguments):
    check = "--check" in arguments
    names = [name for name in arguments if name in IMAGES] or list(IMAGES)
    (HERE / "images").mkdir(exist_ok=True)
    for name in names:
        # Without a time stamp: the same image gives the same bytes.
        image = compiled(name)
        packed = gzip.compress(image, mtime=0)
        if virtual(name):
            beyond = list(limits.addressed(image))
        else:
            beyond = list(limits.broken(image, tensor_cores=int(name.removeprefix("sm_")) >= 80))
        if beyond:
            raise SystemExit(f"{name}: " + "; ".join(beyond))
        path = place(name)
        if check:
            same = path.exists() and gzip.decompress(path.read_bytes()) == gzip.decompress(packed)
            print(f"{name}: {'as committed' if same else 'DIFFERS from what is committed'}")
            if not same:
                raise SystemExit(1)
        else:
            path.write_bytes(packed)
            print(f"{name}: {len(packed)} bytes by NVRTC {IMAGES[name]}")
    if not check:
        lines = [f"sources {sources()}"]
        for name, toolkit in IMAGES.items():
            if place(name).exists():
                lines.append(f"{name} {toolkit} {digest(gzip.decompress(place(name).read_bytes()))}")
        (HERE / "images/MANIFEST").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
