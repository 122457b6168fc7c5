"""Our backbones by the names of the published modules: the way back from an import."""

import numpy as np
import pytest
from flax import traverse_util

from qface_jax.weights import importing, mapping, published, structures
from qface_jax.weights.convention import PRESETS
from qface_jax.weights.imported_run import model_changes
from support import drawn_weights

RECORDED = (
    "iresnet18",
    "mobilefacenet",
    "mobilefacenet_relu6",
    "ir_18",
    pytest.param("ir_se_50", marks=pytest.mark.slow),
    pytest.param("iresnet100", marks=pytest.mark.slow),
    pytest.param("face_transformer", marks=pytest.mark.slow),
    pytest.param("face_transformer_p12s8", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("backbone", RECORDED)
def test_it_is_the_published_state_dict_bit_for_bit(backbone, golden):
    tensors = drawn_weights.state_dict(golden("published_networks")[backbone])
    recognised = structures.recognise({n: v.shape for n, v in tensors.items()})
    changes = model_changes(
        backbone, recognised.embedding_dim, PRESETS[recognised.convention]
    )
    params, stats = importing.our_shapes(changes)
    mapped = mapping.map_tensors(tensors, recognised, params=params, stats=stats)
    again = published.tensors_of(recognised.family, mapped.params, mapped.stats)
    beside = {"loss.weight"} | {n for n in tensors if n.endswith("batches_tracked")}
    assert again.keys() == tensors.keys() - beside
    for name, values in again.items():
        np.testing.assert_array_equal(values, tensors[name], err_msg=name)
        assert values.flags.c_contiguous


def test_a_backbone_of_nobody_else_has_no_family():
    assert published.family_of("mini") is None
    assert published.family_of("ir_50").title == "AdaFace IR / IR-SE"


def test_leaves_without_a_kind_keep_their_name():
    family = published.family_of("face_transformer")
    params = {"cls_token": np.zeros((1, 1, 4)), "mlp_head_0": {"scale": np.ones(4)}}
    names = published.tensors_of(family, params, {}).keys()
    assert names == {"cls_token", "mlp_head.0.weight"}
    assert set(traverse_util.flatten_dict(params, sep="/")) == {
        "cls_token", "mlp_head_0/scale"
    }  # fmt: skip
