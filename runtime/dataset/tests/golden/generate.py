"""Writes the reference files of the dataset crate's tests, beside this script.

    pip install numpy==2.4.6 scikit-learn==1.9.1 pillow==13.0.0 soundfile==0.14.0
    python runtime/dataset/tests/golden/generate.py

Everything is drawn from seeds; the versions above wrote the committed files.
"""

import pathlib

import numpy as np
import soundfile
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

HERE = pathlib.Path(__file__).parent


def arrays():
    """One array of every element type, order and byte order that NumPy writes."""
    draw = np.random.default_rng(1)
    named = {
        name: draw.integers(0, 2 if name == "bool" else 100, (2, 3, 4)).astype(name)
        for name in ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
    }
    named["fortran"] = np.asfortranarray(named["int16"])
    named["big_endian"] = named["int32"].astype(">i4")
    named["scalar"] = np.float32(2.5)
    named["empty"] = np.zeros((0, 3), np.int64)
    named["ramp"] = np.arange(2000, dtype=np.int32)
    np.savez(HERE / "stored.npz", **named)
    np.savez_compressed(HERE / "deflated.npz", **named)


def pictures():
    """A picture in the color types of PNG and JPEG, and Pillow's resized versions of it."""
    y, x = np.mgrid[0:37, 0:53]
    draw = np.random.default_rng(2)
    rgb = np.stack([x * 4, y * 6, (x * y) % 256], -1) + draw.integers(0, 30, (37, 53, 3))
    picture = Image.fromarray(rgb.clip(0, 255).astype(np.uint8), "RGB")
    picture.save(HERE / "rgb.png", optimize=True)
    alpha = picture.copy()
    alpha.putalpha(77)
    alpha.save(HERE / "rgba.png", optimize=True)
    picture.convert("L").save(HERE / "gray.png", optimize=True)
    picture.quantize(16).save(HERE / "palette.png", optimize=True)
    picture.save(HERE / "baseline.jpg", quality=90)
    picture.save(HERE / "progressive.jpg", quality=90, progressive=True, subsampling=0)
    decoded = {f"decoded_{name}": Image.open(HERE / name).convert("RGB") for name in
               ("rgb.png", "rgba.png", "gray.png", "palette.png", "baseline.jpg", "progressive.jpg")}
    resized = {
        f"{filter.name.lower()}_{width}x{height}": picture.resize((width, height), filter)
        for filter in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
        for width, height in ((20, 11), (53, 50), (70, 37), (7, 60), (1, 1))
    }
    np.savez_compressed(HERE / "pictures.npz", **{k: np.asarray(v) for k, v in (decoded | resized).items()})


def logistic_regression():
    """A fit by scikit-learn, run to convergence."""
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 4, 60)
    x = (draw.normal(size=(60, 12)) * draw.uniform(0.1, 50, 12) + draw.normal(size=(4, 12))[labels] * 8).astype(np.float32)
    scaler = StandardScaler().fit(x.astype(np.float64))
    z = scaler.transform(x.astype(np.float64))
    named = {"features": x, "labels": labels.astype(np.int64)}
    for l2 in (0.1, 1.0, 10.0):
        fit = LogisticRegression(C=1 / l2, tol=1e-12, max_iter=100_000).fit(z, labels)
        probabilities = fit.predict_proba(z)
        named[f"probabilities_{l2}"] = probabilities.astype(np.float32)
        named[f"weights_{l2}"] = (fit.coef_ / scaler.scale_).astype(np.float32)
    np.savez_compressed(HERE / "logistic_regression.npz", **named)


def recordings():
    """One stereo chord in the formats libsndfile writes, and libsndfile's reading of each, averaged to mono."""
    time = np.arange(1600) / 16000
    chord = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.3 * np.cos(2 * np.pi * 1000 * time)], -1)
    named = {}
    for name, format, subtype in (
        ("u8.wav", "WAV", "PCM_U8"),
        ("s16.wav", "WAV", "PCM_16"),
        ("s24.wav", "WAVEX", "PCM_24"),
        ("s32.wav", "WAVEX", "PCM_32"),
        ("f32.wav", "WAV", "FLOAT"),
        ("s16.flac", "FLAC", "PCM_16"),
        ("vorbis.ogg", "OGG", "VORBIS"),
        ("layer3.mp3", "MP3", "MPEG_LAYER_III"),
    ):
        soundfile.write(HERE / name, chord, 16000, format=format, subtype=subtype)
        samples, _ = soundfile.read(HERE / name, dtype="float32")
        named[name] = samples.astype(np.float64).mean(1).astype(np.float32)
    np.savez_compressed(HERE / "recordings.npz", **named)


if __name__ == "__main__":
    arrays()
    pictures()
    recordings()
    logistic_regression()
