"""A plan as text: its table, and what to change where a step does not fit."""

from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.planning import roofline
from qface_jax.planning.compiled_cost import Cost
from qface_jax.planning.plan import ACTIVATIONS, Plan
from qface_jax.planning.topology import Topology

# What a compiler of CPUs hardly shows; `qface_jax.planning.plan` says why.
UNSEEN = " (on accelerators; hardly seen in this plan)"

LIMITS = {
    "work": "arithmetic",
    "memory": "memory traffic",
    "network": "the network",
}


def size(count: int) -> str:
    """Returns bytes in a unit that reads well."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:,.4g} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"


def work(count: int) -> str:
    """Returns floating point operations in a unit that reads well."""
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP"):
        if abs(count) < 1000:
            return f"{count:,.4g} {unit}"
        count /= 1000
    return f"{count:,.4g} TFLOP"


def title(config: ConfigDict, num_classes: int, devices: int) -> str:
    """Returns what is planned, in a line; classes only where a classifier has them."""
    model = f"{config.model.backbone} ({config.model.dtype}), {config.objective}"
    if "classifier" not in objectives.entry(config).reads:
        return f"{model}, {devices} devices"
    return (
        f"{model}, {config.loss.margin}, {num_classes:,} classes "
        f"({config.classifier.dtype}), sample rate {config.classifier.sample_rate:g}, "
        f"{devices} devices"
    )


def backbone_side(plan: Plan) -> Cost:
    """Returns what a step costs outside the class side: backbone and updates."""
    step, above = plan.step, plan.class_side
    kinds = [*step.traffic, *(set(above.traffic) - set(step.traffic))]
    traffic = {
        kind: step.traffic.get(kind, 0) - above.traffic.get(kind, 0) for kind in kinds
    }
    return Cost(step.work - above.work, traffic)


def table(plan: Plan) -> str:
    """Returns the plan as text."""
    width = max(map(len, plan.items))
    lines = [
        f"{name:<{width}}  {size(count):>11}" for name, count in plan.items.items()
    ]
    lines.append(f"{'peak per device':<{width}}  {size(plan.peak):>11}")
    lines.append(f"{'while the state is made':<{width}}  {size(plan.creation):>11}")
    lines += ["", *_costs(plan, width), ""]
    lines.append(f"global batch {plan.batch_size:,} images, {plan.total_steps:,} steps")
    return "\n".join(lines)


def bounds(plan: Plan, topology: Topology) -> str:
    """Returns how fast a step can be at most on a topology of chips, as text."""
    chip, chips = topology.chip, len(topology.devices)
    if chip is None or plan.moved is None:
        raise ValueError(f"{topology.name}: nothing is published of its devices")
    sent = sum(plan.step.traffic.values())
    least = roofline.bound(chip, work=plan.step.work, moved=plan.moved, sent=sent)
    rows = (
        ("products and convolutions", work(plan.step.work), least.work),
        ("memory to core and back", size(plan.moved), least.memory),
        ("sent to other chips", size(sent), least.network),
    )
    lines = [
        f"{topology.name}: {chips:,} chips of {chip.work / 1e12:g} TFLOP/s (bfloat16), "
        f"{chip.memory / 1e9:g} GB at {chip.memory_rate / 1e9:,g} GB/s, "
        f"{chip.network_rate / 1e9:g} GB/s to others",
        f"{'each chip and step':<26}  {'':>11}  {'at least':>11}",
    ]
    lines += [
        f"{name:<26}  {amount:>11}  {1000 * seconds:>8,.2f} ms"
        for name, amount, seconds in rows
    ]
    rate = plan.batch_size / least.seconds
    lines.append(
        f"bound by {LIMITS[least.limit]}: at most {_rounded(rate)} images/s, "
        f"{_rounded(rate / chips)} a chip, and {least.utilisation:.0%} of the peak;\n"
        "no forecast: each at the published rate, and all at the same time"
    )
    return "\n".join(lines)


def _costs(plan: Plan, width: int) -> list[str]:
    """Work and bytes sent per device and step: backbone beside class side."""
    backbone, above = backbone_side(plan), plan.class_side
    title = "each device and step"
    lines = [f"{title:<{width}}  {'backbone':>11}  {'class side':>11}"]
    name = "products and convolutions"
    lines.append(f"{name:<{width}}  {work(backbone.work):>11}  {work(above.work):>11}")
    for kind in backbone.traffic:
        name = f"sent by {kind}"
        ours, theirs = backbone.traffic[kind], above.traffic.get(kind, 0)
        lines.append(f"{name:<{width}}  {size(ours):>11}  {size(theirs):>11}")
    return lines


def _rounded(number: float) -> str:
    """A number of three digits, as no more of it is known."""
    return f"{float(f'{number:.3g}'):,.0f}"


def advice(plan: Plan, config: ConfigDict, budget: float) -> list[str]:
    """Returns what to change so that a step fits into `budget` bytes per device."""
    if plan.peak <= budget:
        if plan.creation <= budget:
            return []
        excess = size(plan.creation - budget)
        return [
            f"does not fit: making the state takes {excess} too much on each device",
            "more --devices shrink the class centres and their state",
        ]
    items, over = plan.items, plan.peak - budget
    activations = items[ACTIVATIONS]
    head = sum(size for name, size in items.items() if "centre" in name)
    lines = [f"does not fit: {size(over)} too much on each device"]
    if activations > over / 4:
        unseen = UNSEEN if plan.moved is None else ""
        lines += _smaller_activations(config, unseen)
    if head > over / 4:
        lines += _smaller_classes(config)
    lines.append("more --devices shrink the class centres and their state")
    return lines


def _smaller_activations(config: ConfigDict, unseen: str) -> list[str]:
    """What shrinks the activations; what costs least comes first."""
    model, parts = config.model, 2 * config.optim.accumulation_steps
    lines = []
    if model.dtype == "float32":
        lines.append(f"--config.model.dtype=bfloat16 halves most activations{unseen}")
    if not model.remat:
        lines.append(
            "--config.model.remat=true recomputes activations instead of keeping them"
            f"{unseen}"
        )
    lines.append(
        f"--config.optim.accumulation_steps={parts} keeps activations of 1/{parts} of "
        "the batch at a time; batch norm sees as much"
    )
    lines.append("a smaller --config.data.batch_size shrinks the activations")
    return lines


def _smaller_classes(config: ConfigDict) -> list[str]:
    """What shrinks the class centres, their state and their gradients."""
    lines = []
    # The other optimizers refuse it.
    if config.classifier.dtype == "float32" and config.optim.name == "sgd":
        lines.append(
            "--config.classifier.dtype=bfloat16 halves the class centres and their "
            "momentum"
        )
    if config.classifier.sample_rate == 1.0:
        lines.append(
            "--config.classifier.sample_rate=0.1 (Partial FC) shrinks the gradients of "
            "the class centres"
        )
    return lines
