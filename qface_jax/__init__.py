"""Face recognition on degraded images, trained in JAX. Imports nothing heavy."""

__version__ = "0.1.0"
