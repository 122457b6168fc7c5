"""Which records form the batches of an epoch in which each identity comes in pairs.

Every batch has each of its identities exactly twice, over an epoch every image is drawn
about once, and the chance of an identity to be in the next batch is proportional to its
pairs not yet drawn in the epoch. Drawn one batch after the other this would take all
identities' chances for each batch; here a whole epoch is a few sorts:

1. The images of each identity are shuffled and cut into pairs.
2. The pairs of all identities, in a random order of identities, are one line. It is cut
   into as many rows as a batch has pairs, each as long as the epoch has batches.
3. Each row is shuffled, and batch s takes the s-th pair of each row. An identity that
   lies within one row cannot meet itself. One that lies across two rows (at most one
   does at each cut) takes in the second row what is free of it in the first.

What a row has left shrinks by one with each batch, so the chance of an identity is its
pairs left divided by the batches left: exactly proportional, also for the largest.

References:
    Knoche, Elkadeem, Hoermann, Rigoll. Octuplet Loss: Make Face Recognition Robust to
    Image Resolution. FG 2023, sec. 4.1.
"""

import threading
from typing import NamedTuple

import numpy as np

from qface_jax.errors import DataError

# Images whose shuffling is sorted at a time; a bound on memory.
BLOCK = 1 << 22


class Epoch(NamedTuple):
    """The batches of one epoch.

    Attributes:
        images: Records, those of an identity together and shuffled, [n].
        first: Place in `images` of the first image of each pair, [pairs in a batch,
            steps].
    """

    images: np.ndarray
    first: np.ndarray


class PairPlan:
    """The records of each step: a pure function of (seed, step).

    The plan of an epoch is made when one of its steps is asked for, about a second for
    6 million images. Two are kept, each 6 bytes an image. Several threads can ask.

    Attributes:
        batch_size: Rows of a batch.
        steps_per_epoch: Batches in an epoch.
        images: Images of the identities that can be drawn.
        left_out_identities: Identities that have too few images, never drawn.
        left_out_images: Their images.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        images_per_identity: int = 2,
    ):
        """Counts the images of each identity.

        An identity with more pairs than the epoch has batches is in every batch, and
        the rest of its images waits for another epoch, as does an odd image.

        Args:
            labels: Identity of each record, integers >= 0, [n].
            batch_size: Rows of all hosts together, a multiple of images_per_identity.
            seed: 0 .. 2^63 - 1.
            images_per_identity: Images of each identity in a batch, at least 2: pairs
                unless said otherwise.

        Raises:
            ValueError: an argument is out of range.
            DataError: too few identities have enough images for one batch.
        """
        _check(labels, batch_size, seed, images_per_identity)
        self.batch_size = batch_size
        self._seed, self._each = seed, images_per_identity
        counts = np.bincount(labels)
        enough = counts >= images_per_identity
        self._sizes = counts[enough]
        self.images = int(self._sizes.sum())
        self.left_out_identities = int(np.sum((counts > 0) & ~enough))
        self.left_out_images = len(labels) - self.images
        self._columns = batch_size // images_per_identity
        self.steps_per_epoch = _most_steps(
            self._sizes // images_per_identity, self._columns
        )
        if self.steps_per_epoch == 0:
            raise DataError(
                f"identities with at least {images_per_identity} images: got "
                f"{len(self._sizes)}, expected at least {self._columns} for batches of "
                f"{batch_size}; take a smaller data.batch_size, or data with more "
                "images of each identity"
            )
        order = np.argsort(labels, kind="stable")
        self._order = _narrowest(order[enough[labels[order]]], len(labels))
        self._epochs: dict[int, Epoch] = {}
        self._lock = threading.Lock()

    @property
    def images_per_epoch(self) -> int:
        """Images drawn in an epoch, each once."""
        return self.steps_per_epoch * self.batch_size

    def records(self, step: int) -> np.ndarray:
        """Returns the records of a step of the endless stream of epochs.

        Args:
            step: At least 0.

        Returns:
            int64 [batch_size]: each run of images_per_identity rows, from row 0 on, is
            of one identity, and no two runs are of the same.

        Raises:
            ValueError: negative step.
        """
        if step < 0:
            raise ValueError(f"step: got {step}, must be at least 0")
        number, place = divmod(int(step), self.steps_per_epoch)
        images, first = self._epoch(number)
        places = first[:, place, None] + np.arange(self._each, dtype=first.dtype)
        return images[places.reshape(-1)].astype(np.int64)

    def _epoch(self, number: int) -> Epoch:
        with self._lock:
            if number not in self._epochs:
                while len(self._epochs) > 1:
                    del self._epochs[min(self._epochs, key=lambda n: (n >= number, n))]
                self._epochs[number] = self._make(number)
            return self._epochs[number]

    def _make(self, number: int) -> Epoch:
        """The epoch of that number: nothing but seed, number and labels enter."""
        # Raw words of a keyed counter: the one stream that NumPy promises to keep.
        words = np.random.Philox(
            key=np.array([self._seed, number], np.uint64)
        ).random_raw
        places = _shuffled_within(self._sizes, words)
        line, owners = self._line(words)
        first = line.reshape(self._columns, self.steps_per_epoch)
        columns = _shuffled_rows(first.shape, words)
        _part(owners.reshape(first.shape), columns)
        placed = np.empty_like(first)
        np.put_along_axis(placed, columns, first, axis=1)
        return Epoch(self._order[places], placed)

    def _line(self, words):
        """Place of each pair's first image, and whose it is: both [rows * steps]."""
        length = self._columns * self.steps_per_epoch
        order = _shuffled_rows((1, len(self._sizes)), words)[0]
        pairs = np.minimum(self._sizes // self._each, self.steps_per_epoch)[order]
        ends = np.cumsum(pairs)
        starts = (np.cumsum(self._sizes) - self._sizes)[order]
        # A pair's place is that of its identity, moved by its number among its pairs.
        base = starts - self._each * (ends - pairs)
        owners = np.repeat(_narrowest(order, len(order)), pairs)[:length]
        line = np.repeat(base, pairs)[:length]
        line += self._each * np.arange(length)
        return _narrowest(line, self.images), owners


def _check(labels, batch_size, seed, images_per_identity):
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels: got {labels.dtype} {list(labels.shape)}, must be integers [n]"
        )
    if len(labels) and labels.min() < 0:
        raise ValueError(f"labels: got {labels.min()}, must be at least 0")
    if images_per_identity < 2:
        raise ValueError(
            f"images_per_identity: got {images_per_identity}, must be at least 2"
        )
    if batch_size < 1 or batch_size % images_per_identity:
        raise ValueError(
            f"batch_size: got {batch_size}, must be a positive multiple of the "
            f"{images_per_identity} images of each identity"
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {seed}, must be in 0 .. 2^63 - 1")


def _narrowest(values, limit):
    """Halves the memory of the numbers below a limit where that is possible."""
    return values.astype(np.int32 if limit <= 2**31 else np.int64, copy=False)


def _most_steps(pairs, columns):
    """The most batches that can be filled, an identity at most once in each.

    With s batches an identity gives min(its pairs, s). That sum covers s * columns for
    all s up to the answer and for none beyond.
    """
    low, high = 0, int(pairs.sum()) // columns
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(pairs, middle).sum() >= middle * columns:
            low = middle
        else:
            high = middle - 1
    return low


def _shuffled_within(sizes, words):
    """Places 0 .. n - 1 of consecutive groups, each group shuffled within itself, [n].

    A number is made of group, random bits and place, and sorted: groups stay in order.
    """
    starts = np.cumsum(sizes) - sizes
    places = []
    cuts = np.flatnonzero(np.diff(starts // BLOCK)) + 1
    for block in np.split(np.arange(len(sizes)), cuts):
        counts, start = sizes[block], starts[block]
        group_bits, bits = len(counts).bit_length(), int(counts.max()).bit_length()
        groups = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
        within = np.arange(len(groups)) - np.repeat(start - start[0], counts)
        keys = _mixed(words(len(groups)), within, bits, group_bits)
        keys |= groups << np.uint64(64 - group_bits)
        keys.sort()
        keys &= np.uint64((1 << bits) - 1)
        shuffled = np.repeat(start, counts) + keys.astype(np.int64)
        places.append(_narrowest(shuffled, int(sizes.sum())))
    return np.concatenate(places)


def _mixed(random, low, low_bits, free_bits):
    """The random words with `low` in their lowest bits and the highest 0, in place."""
    random >>= np.uint64(free_bits + low_bits)
    random <<= np.uint64(low_bits)
    random |= low.astype(np.uint64)
    return random


def _shuffled_rows(shape, words):
    """A permutation of 0 .. columns - 1 in each row, [rows, columns]."""
    rows, columns = shape
    bits = columns.bit_length()
    mask = np.uint64((1 << bits) - 1)
    shuffled = np.empty(shape, np.int32 if columns <= 2**31 else np.int64)
    for row in range(rows):
        keys = _mixed(words(columns), np.arange(columns), bits, 0)
        keys.sort()
        shuffled[row] = keys & mask
    return shuffled


def _part(owners, columns):
    """Keeps identities that lie across two rows from meeting themselves, in place.

    Args:
        owners: Identity of each pair, [rows, steps].
        columns: The step that each pair goes to, [rows, steps].
    """
    for row in range(1, len(owners)):
        owner = owners[row, 0]
        if owner != owners[row - 1, -1]:
            continue
        taken = np.zeros(owners.shape[1], bool)
        taken[columns[row - 1, owners[row - 1] == owner]] = True
        order = columns[row]
        count = int(np.sum(owners[row] == owner))
        # The first free ones of a random order, and the others as they come in it.
        chosen = np.zeros(len(order), bool)
        chosen[np.flatnonzero(~taken[order])[:count]] = True
        columns[row] = np.concatenate([order[chosen], order[~chosen]])
