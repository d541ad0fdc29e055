//! Batch norms folded and channels equalized: deltas still arrive, norms are those of the weight that was trained on.
