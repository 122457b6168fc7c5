"""What must be set before JAX and TensorFlow are loaded."""

import importlib.metadata
import os
import sys

from qface_jax.launch import compilation_cache

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
    compilation_cache.prepare()


def missing_platform() -> str | None:
    """Says what to do where JAX cannot use the platform that was asked for.

    For the time after an error: it asks for the devices again, since what JAX raises
    for a platform that is not there is any kind of error.

    Returns:
        The message; None where there are devices, or none were asked for.
    """
    platforms = os.environ.get("JAX_PLATFORMS")
    if not platforms or "jax" not in sys.modules:
        return None
    try:
        sys.modules["jax"].devices()
    except Exception as error:
        reason = f": {str(error).splitlines()[0]}" if str(error) else ""
        return (
            f"JAX_PLATFORMS={platforms}: JAX finds no such device on this "
            f"machine{reason}; unset the variable to take what there is, or install "
            "JAX for it: pip install 'qface-jax[cuda]' (NVIDIA), 'qface-jax[tpu]' (TPU)"
        )
    return None
