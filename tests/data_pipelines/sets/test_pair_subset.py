"""A part of a set: balanced, in order, of every fold, and the same each time."""

import numpy as np
import pytest

from qface_jax.data_pipelines.sets.usable_pairs import UsablePairs, at_most


class Pairs:
    """Folds of pairs of one person, then pairs of two; image i is the text of i."""

    name, folds = "toy", 4

    def __init__(self, same=30, different=20):
        self.issame = np.tile([True] * same + [False] * different, self.folds)
        self.landmarks = np.arange(len(self) * 10.0).reshape(-1, 5, 2)
        self.missing = [0, 3]

    def __len__(self):
        return 2 * len(self.issame)

    def fetch(self, indices):
        return [str(index).encode() for index in indices]

    def describe(self):
        return {"set": "toy", "pairs": len(self.issame), "notes": ["odd"]}


def test_each_fold_keeps_as_many_of_both_kinds():
    whole = Pairs()
    part = at_most(whole, 50, folds=4)
    assert len(part.issame) == 48
    for fold in np.split(part.issame, 4):
        np.testing.assert_array_equal(fold, [True] * 6 + [False] * 6)
    assert (np.diff(part.numbers) > 0).all()
    np.testing.assert_array_equal(part.numbers[::2] + 1, part.numbers[1::2])
    assert part.fetch(np.array([0, 95])) == [b"0", b"399"]
    np.testing.assert_array_equal(part.landmarks, whole.landmarks[part.numbers])
    assert part.missing == [0]  # image 3 is of a pair that is not taken
    again = at_most(whole, 50, folds=4)
    np.testing.assert_array_equal(part.numbers, again.numbers)


def test_it_says_what_it_is():
    part = at_most(Pairs(), 50, folds=4)
    facts = part.describe()
    assert (facts["pairs"], facts["same"], facts["whole"]) == (48, 24, False)
    assert facts["notes"][0] == "odd"
    assert "48 of the 200 pairs, evenly spread" in facts["notes"][1]
    assert UsablePairs(part).place(95) == "toy: image 399"


@pytest.mark.parametrize("count", [0, 200, 1000])
def test_a_set_that_is_not_larger_stays_as_it_is(count):
    whole = Pairs()
    assert at_most(whole, count, folds=4) is whole


def test_the_rarer_kind_decides():
    part = at_most(Pairs(same=40, different=1), 50, folds=4)
    assert part.issame.tolist() == [True, False] * 4
    whole = Pairs(same=40, different=0)
    assert at_most(whole, 50, folds=4) is whole
