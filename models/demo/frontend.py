"""YAMNet log-mel front end: 16 kHz waveform -> patches of 96 frames x 64 bands.

Frames of 400 samples every 160, periodic Hann window, 512-point FFT magnitude, 64 HTK-mel triangles between
125 and 7500 Hz (linear on the mel axis, DC bin zero), natural log of (mel + 0.001).
"""

import wave
from pathlib import Path

import numpy as np
import torch

RATE = 16_000
FRAME = 400
HOP = 160
FFT = 512
BANDS = 64
FRAMES = 96
PATCH = (FRAMES - 1) * HOP + FRAME  # 15 600 samples
LOG_OFFSET = 0.001


def hertz_to_mel(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


def mel_matrix() -> np.ndarray:
    """Triangle weights, [FFT/2+1, BANDS], float64."""
    bins = hertz_to_mel(np.arange(FFT // 2 + 1) * RATE / FFT)[:, None]
    edges = np.linspace(hertz_to_mel(125.0), hertz_to_mel(7500.0), BANDS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


_MEL = torch.from_numpy(mel_matrix().astype(np.float32))
_WINDOW = torch.hann_window(FRAME, periodic=True)


def log_mel(samples: torch.Tensor) -> torch.Tensor:
    """[N, PATCH] samples -> [N, 1, FRAMES, BANDS] log-mel patches."""
    frames = samples.unfold(-1, FRAME, HOP) * _WINDOW
    magnitude = torch.fft.rfft(frames, FFT).abs()
    return torch.log(magnitude @ _MEL + LOG_OFFSET).unsqueeze(1)


def read_wav(path: Path) -> np.ndarray:
    """Mono 16-bit 16 kHz WAV -> float32 samples in [-1, 1)."""
    with wave.open(str(path), "rb") as file:
        form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        if form != (RATE, 1, 2):
            raise ValueError(f"{path}: expected 16 kHz mono 16-bit, found (rate, channels, bytes) = {form}")
        pcm = file.readframes(file.getnframes())
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768.0


def patches(samples: np.ndarray, hop: int = PATCH // 2) -> torch.Tensor:
    """All whole patches of a clip, [P, 1, FRAMES, BANDS]; a clip shorter than one patch is zero-padded."""
    if samples.size < PATCH:
        samples = np.pad(samples, (0, PATCH - samples.size))
    starts = range(0, samples.size - PATCH + 1, hop)
    return log_mel(torch.from_numpy(np.stack([samples[s : s + PATCH] for s in starts])))
