"""Runs of several processes on this machine, for the tests."""

import contextlib
import os
import socket
import subprocess
import sys
import time

WAIT = 240.0  # seconds; more than any of these runs takes on a busy machine


def free_port():
    """A port whose next one is free too."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
    raise RuntimeError("no two neighbouring ports are free")


class Processes:
    """The same command as several processes; use as a context manager."""

    def __init__(self, folder, command, *, count, devices, flags=None, environment=()):
        """Starts them.

        Args:
            folder: where their output goes.
            command: words after `qface`.
            count: how many.
            devices: virtual devices of each.
            flags: process -> words for it; the explicit address by default.
            environment: process -> variables for it.
        """
        port = free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.all = []
        for index in range(count):
            own = [
                f"--coordinator=127.0.0.1:{port}",
                f"--processes={count}",
                f"--process={index}",
            ]
            own = own if flags is None else flags(index)
            if count == 1 and flags is None:
                own = []
            variables = environment(index) if environment else {}
            with self._out(index).open("w") as out, self._err(index).open("w") as err:
                self.all.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "qface_jax.launch.main", *command, *own],
                        stdout=out,
                        stderr=err,
                        env=os.environ
                        | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
                        | variables,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in self.all:
            process.kill()
            process.wait()

    def _out(self, index):
        return self.folder / f"out.{index}"

    def _err(self, index):
        return self.folder / f"err.{index}"

    def said(self, index):
        return self._err(index).read_text()

    def answered(self, index):
        return self._out(index).read_text()

    def statuses(self):
        """Waits for all of them."""
        deadline = time.monotonic() + WAIT
        return [p.wait(max(deadline - time.monotonic(), 1)) for p in self.all]

    def finish(self):
        """Waits for all of them; all must succeed."""
        assert self.statuses() == [0] * len(self.all), self.everything()

    def everything(self):
        return "\n".join(self.said(i)[-3000:] for i in range(len(self.all)))

    def wait_until(self, condition):
        """Waits for something while all of them are alive."""
        deadline = time.monotonic() + WAIT
        while not condition():
            assert all(p.poll() is None for p in self.all), self.everything()
            assert time.monotonic() < deadline, self.everything()
            time.sleep(0.02)
