"""What cannot be used is black, remembered, and looked at once."""

import numpy as np

from qface_jax.data_pipelines.sets.usable_pairs import UsablePairs
from qface_jax.data_pipelines.stream import picture
from qface_jax.errors import DataError
from support.image_files import encoded, noise

GOOD = [encoded(noise(112, 112, seed)) for seed in range(4)]
CUT = encoded(noise(112, 112, 9), "JPEG")[:2000] + b"\xff\xd9"


class Pairs:
    """Six images: one is no picture, one is cut short, one is missing."""

    name, folds = "toy", 3
    issame = np.array([True, False, True])
    images = (GOOD[0], b"no picture", GOOD[1], CUT, GOOD[2], None)

    def __len__(self):
        return len(self.images)

    def fetch(self, indices):
        found = [self.images[index] for index in indices]
        if None in found:
            raise DataError("5.jpg: cannot be read: No such file")
        return found

    def describe(self):
        return {"set": "toy", "notes": ["odd"]}


def test_what_cannot_be_used():
    images = UsablePairs(Pairs())
    fetched = images.fetch(range(6))
    black = picture.black()
    assert fetched == [GOOD[0], black, GOOD[1], black, GOOD[2], black]
    assert sorted(images.failures) == [1, 3, 5]
    assert "toy: image 1: not a picture" in images.failures[1]
    assert "cut short" in images.failures[3]
    assert "5.jpg: cannot be read: No such file" in images.failures[5]
    assert (images.name, images.folds, len(images)) == ("toy", 3, 6)
    assert images.describe()["notes"] == ["odd"] and images.transforms is None


def test_a_picture_is_looked_at_once(monkeypatch):
    images, looked = UsablePairs(Pairs()), []
    read = picture.read
    monkeypatch.setattr(
        picture,
        "read",
        lambda content: looked.append(content) or read(content),
    )
    first = images.fetch([0, 2])
    assert images.fetch([2, 0]) == first[::-1] and len(looked) == 2


def test_a_file_that_goes_later():
    pairs = Pairs()
    images = UsablePairs(pairs)
    images.fetch([0, 2])
    pairs.images = (None, *Pairs.images[1:])
    assert images.fetch([0, 2]) == [picture.black(), GOOD[1]]
    assert list(images.failures) == [0]
