"""Sets that cannot be trained on, or not as they are numbered."""

import numpy as np
import pytest

from qface_jax.data_pipelines.sources.source import open_source
from qface_jax.data_pipelines.sources.training import MOST_EMPTY, check_identities
from qface_jax.data_pipelines.tools.inspection import inspect_source
from qface_jax.errors import DataError
from qface_jax.launch import main
from qface_jax.train import loop
from support.recordio_writer import jpeg, write_plain
from support.small_run import small

IMAGES = [jpeg(number) for number in range(4)]


def one_identity(root):
    (root / "ann").mkdir(parents=True)
    for number, image in enumerate(IMAGES):
        (root / "ann" / f"{number}.jpg").write_bytes(image)
    return root


def test_one_identity(tmp_path):
    root = one_identity(tmp_path / "set")
    source = open_source("folder", [root])
    with pytest.raises(DataError, match=r"got 4 images of one identity, expected two"):
        check_identities(source)
    assert any("one identity" in said for said in inspect_source(source)["warnings"])
    config = small("data.source=folder", f"data.path={root}", "data.batch_size=4")
    with pytest.raises(DataError, match="of one identity"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # Two sets of one identity each are two identities.
    check_identities(open_source("folder", [root, one_identity(tmp_path / "more")]))


def test_a_gap_of_labels(tmp_path, capsys):
    last = MOST_EMPTY + 2
    root = write_plain(tmp_path / "set", [0, 0, last, last], IMAGES)
    with pytest.raises(DataError, match=r"10,001 of 10,003 classes have no image") as e:
        check_identities(open_source("mxnet", [root]))
    assert "expected labels 0 .. 1 of its 2 identities" in str(e.value)
    words = ["data", "import", str(root), str(tmp_path / "out")]
    assert main.main(words) == 2
    assert "--drop-small-identities=1" in capsys.readouterr().err
    numbered = open_source("mxnet", [root], drop_small_identities=1)
    check_identities(numbered)
    np.testing.assert_array_equal(numbered.labels(), [0, 0, 1, 1])
    assert main.main([*words, "--drop-small-identities=1"]) == 0


def test_small_gaps_are_no_fault(tmp_path):
    root = write_plain(tmp_path, [0, 0, MOST_EMPTY, MOST_EMPTY], IMAGES)
    check_identities(open_source("mxnet", [root]))


def test_many_identities_may_have_as_many_gaps():
    class Sparse:
        name, num_classes = "sparse", 4 * MOST_EMPTY

        def __len__(self):
            return 2 * MOST_EMPTY

        def labels(self):
            return np.arange(0, 4 * MOST_EMPTY, 2, dtype=np.int32)

        def describe(self):
            return {}

    check_identities(Sparse())
    Sparse.num_classes += 1
    with pytest.raises(DataError, match=r"sparse: 20,001 of 40,001 classes"):
        check_identities(Sparse())
