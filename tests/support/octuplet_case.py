"""The octuplet loss as plainly as its formula stands, and batches to try it on."""

import numpy as np


def batch(identities=8, each=2, dim=6, seed=0, norm=2.0):
    """Features of both views, float32 [b, dim], and labels of shuffled identities."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(identities), each)).astype(np.int32)
    centres = rng.normal(size=(identities, dim)) * norm
    high = centres[labels] + rng.normal(size=(len(labels), dim)) * 2
    low = high + rng.normal(size=high.shape) * 2
    return high.astype(np.float32), low.astype(np.float32), labels


def distances(x, y, metric, normalize):
    """All distances in float64, [len(x), len(y)]."""
    x, y = np.float64(x), np.float64(y)
    if normalize or metric == "cosine":
        x, y = (
            v / np.maximum(np.linalg.norm(v, axis=1)[:, None], 1e-6) for v in (x, y)
        )
    if metric == "cosine":
        return 1 - x @ y.T
    squared = np.sum((x[:, None] - y[None]) ** 2, axis=-1)
    return squared if metric == "euclidean_squared" else np.sqrt(squared)


def plain(high, low, labels, *, margin, metric="euclidean", normalize=False):
    """The four terms, hardest distances [4, b, 2] (NaN: none), one anchor at a time."""
    views, terms, found = {"h": high, "l": low}, [], []
    valid = labels >= 0
    for anchor, other in ("hh", "hl", "lh", "ll"):
        dist = distances(views[anchor], views[other], metric, normalize)
        losses = []
        for row in np.flatnonzero(valid):
            own = valid & (labels == labels[row])
            own[row] = False
            positives, negatives = (
                dist[row, own],
                dist[row, valid & (labels != labels[row])],
            )
            if len(positives) and len(negatives):
                losses.append(max(0.0, positives.max() - negatives.min() + margin))
            else:
                losses.append(0.0)
            found.append(
                [positives.max(initial=-np.inf), negatives.min(initial=np.inf)]
            )
        terms.append(np.sum(losses) / max(valid.sum(), 1))
    found = np.reshape(found, (4, -1, 2))
    return np.array(terms), np.where(np.isfinite(found), found, np.nan)
