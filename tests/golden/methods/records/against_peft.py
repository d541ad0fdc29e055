"""These functions against HF PEFT: every case of peft.json whose method is here, its delta and its gradients."""

import json
import pathlib

import numpy as np

from case import METHODS, conv, linear, svd

TOLERANCE = 2e-5
"""peft.json was made by layers that hold f32 values; relative to the largest value."""


def ranks(settings):
    return {"rank": int(settings["rank"]), "alpha": float(settings.get("alpha", settings["rank"]))}


def vera(case, w):
    rank = int(case["settings"]["rank"])
    a = np.array(case["constants"]["vera_A"]).reshape(rank, -1)
    return {"rank": rank}, {"vera_A": a, "vera_B": np.array(case["constants"]["vera_B"]).reshape(-1, rank)}


def pissa(case, w):
    h = ranks(case["settings"])
    u, values, v = (x[..., : h["rank"]] for x in svd(w))
    root = np.sqrt(values * h["rank"] / h["alpha"])
    return h, {"initial_A": (v * root).T, "initial_B": u * root}


def places(case, w):
    flat = np.array(case["constants"]["indices"]).astype(int)
    h = {"scale": float(case["settings"]["scale"]), "frequencies": len(flat), "coefficients": len(flat)}
    # WaveFT's places are counted in the padded, even matrix.
    width = w.shape[1] + (w.shape[1] % 2 if case["method"] == "waveft" else 0)
    return h | {"wavelet": "db1", "use_idwt": True}, {"indices": np.array(np.divmod(flat, width))}


def lokr(case, w):
    t = case["tensors"]
    split = "lokr_w1_a" in t
    nearest = max(k for k in range(1, int(case["out"] ** 0.5) + 1) if case["out"] % k == 0)
    first = len(t["lokr_w1"]) if not split else None
    if split:
        rank = int(case["settings"]["rank"])
        shape = [len(t["lokr_w1_a"]) // rank, len(t["lokr_w1_b"]) // rank]
    else:
        shape = [nearest, first // nearest]
    return ranks(case["settings"]) | {"w1": shape, "split_w1": split, "split_w2": "lokr_w2_a" in t}, {}


def oft(case, w):
    terms = int(case["settings"].get("neumann_terms", 0))
    return {"block": int(case["settings"]["block"]), "neumann_terms": terms, "share": False}, {}


READ = {
    "dora": lambda case, w: (ranks(case["settings"]), {}),
    "loha": lambda case, w: (ranks(case["settings"]), {}),
    "hira": lambda case, w: (ranks(case["settings"]), {}),
    "miss": lambda case, w: (ranks(case["settings"]), {}),
    "bone": lambda case, w: (ranks(case["settings"]), {}),
    "hra": lambda case, w: (ranks(case["settings"]) | {"gram_schmidt": False}, {}),
    "delora": lambda case, w: (ranks(case["settings"]), {"delora_w_norm": np.linalg.norm(w, axis=0)}),
    "vera": vera,
    "pissa": pissa,
    "fourierft": places,
    "waveft": places,
    "lokr": lokr,
    "oft": oft,
}


def compare():
    """The number of PEFT's cases that agree; raises at the first that does not."""
    file = pathlib.Path(__file__).parent.parent / "peft.json"
    known, agreed = {m.name: m for m in METHODS}, 0
    for case in json.loads(file.read_text()):
        method, window = known.get(case["method"]), [case["kernel"]] * 2
        if case["method"] not in READ:
            continue
        s = (
            linear(case["out"], case["inputs"])
            if case["kernel"] == 1
            else conv(case["out"], case["inputs"], window)
        )
        w = np.array(case["weight"]).reshape(s.out, s.row)
        h, c = READ[case["method"]](case, w)
        t = {k: np.array(case["tensors"][k]).reshape(shape) for k, shape in method.shapes(h, s).items()}
        assert len(t) == len(case["tensors"]), case["method"]
        near(method.weight(w, t, c, h, s) - w, case["delta"], case)
        g = np.array(case["direction"]).reshape(w.shape)
        for name, wanted in case["gradient"].items():
            found = np.zeros(t[name].size)
            for i in range(found.size):
                step = 1e-30j * np.eye(1, found.size, i).reshape(t[name].shape)
                found[i] = np.imag((g * method.weight(w, {**t, name: t[name] + step}, c, h, s)).sum()) / 1e-30
            near(found, wanted, case)
        agreed += 1
    return agreed


def near(got, wanted, case):
    got, wanted = np.ravel(got), np.ravel(wanted)
    apart = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert apart <= TOLERANCE, (case["method"], case["settings"], case["out"], case["inputs"], apart)
