"""What must be set before JAX and TensorFlow are loaded."""

import importlib.metadata
import os

# XLA's CPU library path for single convolutions has slow weight gradients; without it
# a training step takes half the time. An unknown value aborts the process, so it is set
# only for the versions on which it was tried.
CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
CPU_FLAG_VERSIONS = ("0.10.", "0.11.")


def cpu_flag() -> str | None:
    """Returns the flag for this jaxlib; None where it was not tried."""
    version = importlib.metadata.version("jaxlib")
    return CPU_FLAG if version.startswith(CPU_FLAG_VERSIONS) else None


def prepare() -> None:
    """Sets the environment of JAX and TensorFlow, never over what the user has set."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN sums in another order on every kind of processor.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    flag = cpu_flag()
    if flag is not None:
        os.environ.setdefault("XLA_FLAGS", flag)
