# Golden values of the accountant, by numerical integration: independent of the sums that the crate evaluates.
#
#   python3 private.py > golden/private.csv      (needs numpy and scipy)
#
# Rényi divergence of order a of N(0, s²) and (1−q) N(0, s²) + q N(1, s²), the larger of both directions, as the integral of its
# definition; composed over steps; converted by proposition 12 of Canonne, Kamath, Steinke 2020.
import numpy as np
from scipy.special import logsumexp


def renyi(q, s, a):
    x = np.linspace(-40 * s - 2, a + 40 * s + 2, 1_000_001)
    p0 = -x**2 / (2 * s**2)
    p1 = -((x - 1) ** 2) / (2 * s**2)
    mix = np.logaddexp(np.log1p(-q) + p0, np.log(q) + p1) if q < 1 else p1
    norm = np.log(s * np.sqrt(2 * np.pi)) - np.log(x[1] - x[0])
    one = logsumexp(a * mix + (1 - a) * p0) - norm
    other = logsumexp(a * p0 + (1 - a) * mix) - norm
    return max(one, other) / (a - 1)


def epsilon(q, s, steps, delta):
    orders = list(range(2, 65)) + [128, 256] if q < 1 else 1 + np.exp2(np.arange(0, 289) / 16 - 8)
    orders = [a for a in orders if a <= 256]
    spent = [steps * renyi(q, s, a) + np.log1p(-1 / a) - (np.log(delta) + np.log(a)) / (a - 1) for a in orders]
    return max(0.0, min(spent))


print("rate,noise,steps,delta,epsilon")
for q, s, steps, delta in [
    (0.01, 1.0, 1000, 1e-5),
    (0.01, 4.0, 10000, 1e-5),
    (256 / 60000, 1.1, 14063, 1e-5),
    (0.25, 2.0, 240, 1e-4),
    (0.5, 1.3, 20, 3e-4),
    (0.1, 0.8, 100, 1e-6),
    (0.04, 20.0, 500, 1e-5),
    (1.0, 1.0, 1, 1e-5),
    (1.0, 5.0, 40, 2.9e-4),
]:
    print(f"{q!r},{s!r},{steps},{delta!r},{epsilon(q, s, steps, delta):.9g}", flush=True)
