"""An existing model fine-tuned for bad pictures: accuracy and scores before and after.

    python benchmarks/finetune.py CONFIG WEIGHTS FACES [FACES ...] --pairs FILE.bin

CONFIG is octuplet_small or recognizability_small. Imports WEIGHTS (PyTorch, safetensors
or ONNX), fine-tunes it on folders of MXNet records, and evaluates both models on the
pairs at every resolution; with how well each quality score ranks the pictures, and the
areas below their error-versus-discard curves. About half an hour on 2 quiet cores with
a MobileFaceNet.
"""

import argparse
import subprocess
import sys
from pathlib import Path

QFACE = (sys.executable, "-m", "qface_jax.launch.main")
CONFIGS = ("octuplet_small", "recognizability_small")


def parse():
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", choices=CONFIGS)
    parser.add_argument("weights", type=Path)
    parser.add_argument("faces", type=Path, nargs="+", help="folders with train.rec")
    parser.add_argument("--pairs", type=Path, required=True, help="verification .bin")
    parser.add_argument("--preprocess", help="as for qface import")
    parser.add_argument("--workdir", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def main():
    """Imports, trains and evaluates; `qface train` prints the tables at the end."""
    args = parse()
    model, tuned = args.workdir / "imported", args.workdir / args.config
    if not model.is_dir():
        command = ["import", str(args.weights), str(model), f"--images={args.pairs}"]
        command += [f"--preprocess={args.preprocess}"] if args.preprocess else []
        subprocess.run([*QFACE, *command], check=True)
    first, *more = (str(folder.absolute()) for folder in args.faces)
    words = [
        f"data.path={first}",
        f"data.more_paths={tuple(more)!r}",
        f"eval.path={args.pairs.absolute().parent}",
        f"eval.sets={(args.pairs.name,)!r}",
        "eval.max_pairs=0",
        *args.set,
    ]
    place = [f"--init-from={model}", f"--workdir={tuned}"]
    overrides = [f"--config.{word}" for word in words]
    command = [*QFACE, "train", f"--config={args.config}", *place, *overrides]
    subprocess.run(command, check=True)
    subprocess.run([*QFACE, "quality", "erc", str(tuned)], check=True)


if __name__ == "__main__":
    main()
