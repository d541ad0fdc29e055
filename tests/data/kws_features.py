"""Turns the keyword features of the development data into a data set that `ingraft` reads.

    python tests/data/kws_features.py ../shared/data/features/speech_commands_kws01 OUT

`mfcc_int8.bin` holds signed bytes q with the real value (q - 83) * 0.5847029089927673
(see the README beside it). OUT gets `features.npy`, float32 of shape (rows, 49, 10, 1),
and a copy of `labels.csv`, whose `label_id` keeps the order of the model's outputs.
Needs nothing but Python's standard library.
"""

import pathlib
import shutil
import struct
import sys

FRAMES, COEFFICIENTS = 49, 10
SCALE, ZERO_POINT = 0.5847029089927673, 83


def main(source, out):
    codes = (source / "mfcc_int8.bin").read_bytes()
    rows = len(codes) // (FRAMES * COEFFICIENTS)
    if rows * FRAMES * COEFFICIENTS != len(codes):
        sys.exit(f"{source}/mfcc_int8.bin does not hold whole rows")
    real = [struct.pack("<f", (q - ZERO_POINT) * SCALE) for q in range(-128, 128)]
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {FRAMES}, {COEFFICIENTS}, 1), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "features.npy", "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        file.write(b"".join(real[q + 128] for (q,) in struct.iter_unpack("<b", codes)))
    shutil.copyfile(source / "labels.csv", out / "labels.csv")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
