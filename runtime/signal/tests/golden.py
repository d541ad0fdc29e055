"""Writes golden/*.f32: front ends in NumPy doubles, straight from their published definitions.

The clip is made of integers only, so that the Rust test makes the same one. Run with NumPy 2 or later:
    python golden.py
The files are little-endian f32, row-major; shapes are in front_end/golden.rs.
"""
from pathlib import Path

import numpy as np

RATE = 16_000


def clip(samples):
    """A triangle-wave chirp at quarter scale over noise at 1/32 of full scale, as i16."""
    state, phase, step = 1, 0, 20 << 18
    out = np.empty(samples, np.int64)
    for i in range(samples):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        noise = (state >> 16) - 32_768
        ramp = phase >> 15
        triangle = ramp - 32_768 if ramp < 65_536 else 98_303 - ramp
        out[i] = (triangle >> 2) + (noise >> 5)
        phase = (phase + step) % 2**32
        step += 60_000
    return out / 32_768.0


def mel_matrix(bands, fft, low, high):
    """tf.signal.linear_to_mel_weight_matrix: HTK triangles, no weight for DC."""
    mel = lambda hertz: 1127.0 * np.log(1.0 + hertz / 700.0)
    edges = np.linspace(mel(low), mel(high), bands + 2)
    bins = mel(np.linspace(0.0, RATE / 2, fft // 2 + 1))[:, None]
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - lower) / (center - lower), (upper - bins) / (upper - center)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


def log_mel(samples, frame, stride, fft, bands, low, high, offset, power=1):
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
    frames = 1 + (len(samples) - frame) // stride
    rows = np.stack([samples[i * stride : i * stride + frame] * hann for i in range(frames)])
    spectrum = np.abs(np.fft.rfft(rows, fft)) ** power
    return np.log(spectrum @ mel_matrix(bands, fft, low, high) + offset)


def yamnet(samples):
    return log_mel(samples, 400, 160, 512, 64, 125.0, 7500.0, 1e-3)


def kws_mfcc(samples):
    """MLPerf Tiny: peak of one, then tf.signal.mfccs_from_log_mel_spectrograms, first ten."""
    rows = log_mel(samples / samples.max(), 480, 320, 512, 40, 20.0, 4000.0, 1e-6)
    n = np.arange(40)
    basis = 2 * np.cos(np.pi * np.outer(n, n + 0.5) / 40) / np.sqrt(2 * 40)
    return (rows @ basis.T)[:, :10]


def log_mel_image(samples, bands):
    picture = log_mel(samples, 400, 160, 512, bands, 50.0, 7600.0, 1e-6, power=2).T
    return (picture - picture.mean()) / np.sqrt(picture.var() + 1e-6)


def main():
    folder = Path(__file__).with_name("golden")
    folder.mkdir(exist_ok=True)
    samples = clip(RATE)
    # Every eighth frame is enough to catch a wrong recipe and keeps the file at 3 kB.
    golden = {
        "yamnet": yamnet(samples[:15_600])[::8],
        "kws_mfcc": kws_mfcc(samples),
        "logmel_image": log_mel_image(samples[: 19 * 160 + 400], 24),
    }
    for name, values in golden.items():
        values.astype("<f4").tofile(folder / f"{name}.f32")


if __name__ == "__main__":
    main()
