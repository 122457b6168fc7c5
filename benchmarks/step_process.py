"""Training steps timed in a process of their own, one way after another.

Each way runs alone, the order turned around from round to round, so that other load on
the machine falls on all alike. Two times are given: by the clock, and of the processor,
which other programs disturb less. Peak memory is that of the steps; what making the
state took before is not in it.
"""

import ctypes
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

GIB = 2**30
WARM_UP = 2  # steps that compile: a state may come back with other shardings


def resident():
    """Returns the bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def work(build, batches):
    """Runs one way and prints losses, seconds and bytes as JSON.

    Args:
        build: () -> (state, step), step: (state, batch) -> (state, loss).
        batches: a number of steps -> batches on the device, one at a time.
    """
    import jax

    state, step = build()
    jax.block_until_ready(state)
    # What making the state took is free a moment later, but not yet given back.
    time.sleep(2.0)
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    seconds, worked, losses = [], [], []
    for batch in batches:
        jax.block_until_ready(batch)
        start, busy = time.perf_counter(), time.process_time()
        state, loss = step(state, batch)
        jax.block_until_ready((state, loss))
        seconds.append(time.perf_counter() - start)
        worked.append(time.process_time() - busy)
        losses.append(float(loss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"losses": losses, "before": before, "peak": peak}
    times = {"seconds": seconds[WARM_UP:], "processor": worked[WARM_UP:]}
    print(json.dumps(found | times))


def prepare():
    """Makes this process one of the CPU, before JAX is used."""
    from qface_jax.launch import backend

    backend.prepare()
    import jax

    jax.config.update("jax_platforms", "cpu")


def our_run(config, classes):
    """Returns our state and the train step that `qface train` runs."""
    from qface_jax.planning import plan
    from qface_jax.sharded import parallel
    from qface_jax.train import setup

    parts = setup.build(
        config, plan.Counts(classes, 20 * classes), parallel.make_mesh()
    )

    def step(state, batch):
        state, metrics = parts.step_fn(state, batch, parts.train_key)
        return state, metrics["loss"]

    return setup.fresh_state(parts), step


def random_batches(steps, images, classes, views=1):
    """Yields random batches on the device, the same for every way.

    Args:
        steps: timed ones; those that compile come before.
        images: of a batch.
        classes: identities.
        views: pictures of each image.
    """
    import numpy as np

    from qface_jax.sharded import parallel

    shard = parallel.shardings(parallel.make_mesh())
    shape = (images, views, 112, 112, 3) if views > 1 else (images, 112, 112, 3)
    for number in range(steps + WARM_UP):
        random = np.random.default_rng(number)
        rows = {
            "images": random.integers(0, 256, shape, np.uint8),
            "labels": random.integers(0, classes, images, np.int32),
        }
        yield parallel.to_device(rows, shard.rows)


def check_memory(need, what):
    """Ends with a message where so many bytes are not free."""
    text = Path("/proc/meminfo").read_text()
    available = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    if available < need:
        sys.exit(
            f"{what}: got {available / GIB:.1f} GiB of free memory, expected "
            f"{need / GIB:.1f} GiB; give fewer classes or end other programs"
        )


def compare(names, rounds, check=lambda name: None):
    """Runs this script with `--worker NAME` for every way, in rounds.

    Args:
        names: of the ways.
        rounds: how many.
        check: called with the name before each.

    Returns:
        Name -> what `work` printed, one for each round.
    """
    found = {name: [] for name in names}
    for number in range(rounds):
        for name in list(names)[:: 1 if number % 2 == 0 else -1]:
            check(name)
            command = [sys.executable, *sys.argv, "--worker", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            run = json.loads(done.stdout.splitlines()[-1])
            found[name].append(run)
            seconds = ", ".join(f"{value:.2f}" for value in run["seconds"])
            print(f"round {number + 1}, {name}: {seconds} s", file=sys.stderr)
    return found


def timed(key, runs, base):
    """Returns the median time of a step and its ratio to that of the base, as text."""
    ours, theirs = ([statistics.median(run[key]) for run in x] for x in (runs, base))
    # Rounds of the same number ran close to each other.
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{statistics.median(ours):.2f}", f"{ratio:.2f}"


def table(found, base):
    """Prints times, ratios to the way `base`, and memory."""
    columns = ("s a step", "ratio", "processor s", "ratio", "state", "peak", "steps")
    print(f"{'':<24}" + "".join(f"{column:>12}" for column in columns))
    for name, runs in found.items():
        before = max(run["before"] for run in runs)
        peak = max(run["peak"] for run in runs)
        cells = [
            *timed("seconds", runs, found[base]),
            *timed("processor", runs, found[base]),
            *(f"{x / GIB:.2f} GiB" for x in (before, peak, peak - before)),
        ]
        print(f"{name:<24}" + "".join(f"{cell:>12}" for cell in cells))
