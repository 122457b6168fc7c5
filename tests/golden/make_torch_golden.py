"""Makes torch_zip.pt, torch_legacy.pt and torch_checkpoint.ckpt with PyTorch itself.

python tests/golden/make_torch_golden.py, in an environment that has torch; recorded
with 2.13.0. A test can say by arithmetic what is in them.
"""

import argparse
import collections
from pathlib import Path


def tensors():
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tagged = torch.nn.Parameter(base.clone())
    tagged.tag = "an attribute"
    return collections.OrderedDict(
        base=base,
        transposed=base.t(),
        view=base[1:3, 2:5],
        strided=base[:, ::2],
        expanded=base[0].expand(3, 6),
        half=base.half(),
        bfloat16=base.bfloat16() * 1.01,
        double=base.double() / 3,
        int8=base.to(torch.int8),
        int64=base.long(),
        bool=base > 3,
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(base + 1),
        tagged=tagged,
    )


def main() -> None:
    import numpy as np
    import torch

    folder = Path(__file__).parent
    saved = tensors()
    torch.save(saved, folder / "torch_zip.pt")
    torch.save(saved, folder / "torch_legacy.pt", _use_new_zipfile_serialization=False)
    checkpoint = {
        "epoch": 3,
        "best": np.float64(0.5),
        "arguments": argparse.Namespace(rate=0.1, folder=Path("data")),
        "state_dict": {f"model.{name}": leaf for name, leaf in saved.items()},
        "optimizer": {"state": {0: {"exp_avg": saved["base"]}}, "param_groups": []},
        "dtype": torch.float16,
        "size": saved["base"].size(),
        "device": torch.device("cpu"),
        "noise": saved["int8"],
    }
    torch.save(checkpoint, folder / "torch_checkpoint.ckpt")


if __name__ == "__main__":
    main()
