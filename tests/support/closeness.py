"""Whether two results agree up to the order in which floats were added.

Every processor adds in another order and fuses other products. What then differs is
small against the terms of a sum, not against the sum: where large terms cancel, an
element close to 0 keeps their rounding.
"""

import jax
import numpy as np


def additions(params):
    """Additions behind one output of a network: the fan-in of all its kernels."""
    kernels = (leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    return sum(int(np.prod(kernel.shape[:-1])) for kernel in kernels)


def assert_close_as_sums(got, want, *, terms, scale=None):
    """Each element differs by no more than two orders of summing its terms can.

    An addition rounds by at most u = eps / 2 of its result, evenly spread: by u / sqrt
    3 in the mean square. Over n additions of independent roundings that is sqrt(n / 3)
    u of the size of the partial sums, and sqrt 2 of it between two orders. Six standard
    deviations, which no element of a test's arrays passes by chance, are
    6 sqrt(2 / 3) / 2 = 2.45 eps sqrt(n) of that size. Layers add up alike: each passes
    on what came in, relative to the size of what goes out.

    Args:
        got: Arrays of float32, a tree of any form.
        want: The same tree, of any precision.
        terms: Additions behind one element, along all layers.
        scale: Size of the partial sums; the largest magnitude in each array, if None.
    """
    bound = 2.45 * np.finfo(np.float32).eps * np.sqrt(terms)
    for path, a, b in _leaves(got, want):
        size = np.max(np.abs(b)) if scale is None else scale
        np.testing.assert_allclose(a, b, rtol=0, atol=bound * size, err_msg=path)


def assert_close_in_norm(got, want, tolerance, *, floor=0.0):
    """The norm of each array's difference is small against the array's.

    Args:
        got: Arrays, a tree of any form.
        want: The same tree.
        tolerance: Largest error / norm.
        floor: Norm that an array counts as at least, where all of it may be rounding.
    """
    for path, a, b in _leaves(got, want):
        error, size = np.linalg.norm(a - b), np.linalg.norm(b)
        assert error <= tolerance * max(size, floor), f"{path}: {error:g} of {size:g}"


def assert_trees_close(got, want, tolerance):
    """Each element differs little from its own value, or from 0."""
    for path, a, b in _leaves(got, want):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=path)


def _leaves(got, want):
    """Path and both arrays of each leaf, in float64."""
    for (path, a), b in zip(
        jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        assert np.shape(a) == np.shape(b), jax.tree_util.keystr(path)
        yield (
            jax.tree_util.keystr(path), np.asarray(a, np.float64),
            np.asarray(b, np.float64),
        )  # fmt: skip
