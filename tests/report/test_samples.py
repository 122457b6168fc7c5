"""The sheet of a training batch: single views, and pairs side by side."""

import numpy as np
import pytest
from PIL import Image

from qface_jax.report import samples


@pytest.mark.parametrize("views", [1, 2])
def test_a_batch_is_drawn_view_beside_view(tmp_path, monkeypatch, views):
    said = {}

    def spied(images, captions, path, columns):
        said.update(images=images, captions=captions, path=path, columns=columns)

    monkeypatch.setattr(samples, "contact_sheet", spied)
    values = np.arange(40 * views, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (40 * views, 112, 112, 3))
    rows = {"images": images, "labels": np.arange(100, 140)}
    if views == 2:
        rows["images"] = images.reshape(40, 2, 112, 112, 3)
    samples.write_batch(tmp_path, rows)
    assert said["path"] == tmp_path / "samples" / "train_batch.png"
    assert said["columns"] % views == 0
    assert [image[0, 0, 0] for image in said["images"]] == list(range(32))
    if views == 1:
        assert said["captions"] == [str(label) for label in range(100, 132)]
    else:
        assert said["captions"][:4] == ["100 q", "100 k", "101 q", "101 k"]
        assert len(said["captions"]) == 32


def test_a_small_batch_of_pairs_is_written(tmp_path):
    images = np.zeros((3, 2, 112, 112, 3), np.uint8)
    images[:, 0] = (200, 10, 10)
    samples.write_batch(tmp_path, {"images": images, "labels": np.arange(3)})
    with Image.open(tmp_path / "samples" / "train_batch.png") as sheet:
        page = np.asarray(sheet)
    assert page.shape[1] == 6 + 6 * 118
    red = (page == (200, 10, 10)).all(axis=2).mean(axis=0) > 0.5
    place, column = np.divmod(np.arange(6 * 118), 118)
    np.testing.assert_array_equal(red[6:], (place % 2 == 0) & (column < 112))
