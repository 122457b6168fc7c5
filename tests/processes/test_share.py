"""Several hosts evaluate together; each is a thread here."""

import threading

import numpy as np
import pytest

from qface_jax.evals.protocols.verification_rows import rows_of
from qface_jax.processes.share import ALONE, Share


class Meeting:
    """Rows of all threads, in their order."""

    def __init__(self, count):
        self._barrier = threading.Barrier(count, timeout=30)
        self._rows = [None] * count

    def gather(self, index):
        def rows_of_all(rows):
            self._rows[index] = rows
            self._barrier.wait()
            joined = np.concatenate(self._rows)
            self._barrier.wait()
            return joined

        return rows_of_all


@pytest.mark.parametrize(("total", "count"), [(10, 1), (10, 3), (9, 3), (2, 4)])
def test_shares_cover_all_pairs_once(total, count):
    shares = [Share(i, count).pairs(total) for i in range(count)]
    assert [pair for share in shares for pair in share] == list(range(total))
    assert max(map(len, shares)) == Share(0, count).most_pairs(total)


def together(toy, count, embed):
    """The results of `count` hosts, and how many images each embedded at a time."""
    meeting, results, errors, calls = Meeting(count), {}, [], {}

    def host(index):
        share = Share(index, count, meeting.gather(index))
        calls[index] = 0

        def counted(images):
            calls[index] += 1
            return embed(images)

        try:
            results[index] = toy.evaluate(embed=counted, share=share)
        except Exception as error:
            errors.append(error)
            meeting._barrier.abort()

    threads = [threading.Thread(target=host, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    return [results[i] for i in range(count)], calls


@pytest.mark.parametrize("count", [2, 3, 7])
def test_hosts_find_together_what_one_finds(count, toy):
    alone = toy.evaluate(share=ALONE)
    found, calls = together(toy, count, toy.embed)
    for result in found:
        assert rows_of(result) == rows_of(alone)
        for name, values in alone.arrays.items():
            np.testing.assert_array_equal(result.arrays[name], values)
    assert len(set(calls.values())) == 1  # a collective needs everyone


@pytest.mark.parametrize("bad", ["collapsed", "non_finite"])
def test_what_is_wrong_on_one_host_is_known_to_all(bad, toy):
    def broken(images):
        features = toy.embed(images)
        if bad == "collapsed":
            features[:] = 1.0
        else:
            features[images[:, 0, 0, 2] == 79] = np.nan  # an image of the last host
        return features

    alone = toy.evaluate(embed=broken)
    found, _ = together(toy, 3, broken)
    assert alone.status == bad
    assert {result.status for result in found} == {bad}
    (message,) = {result.message for result in found}
    if bad == "non_finite":  # the other's message tells a distance of about 0
        assert message == alone.message
