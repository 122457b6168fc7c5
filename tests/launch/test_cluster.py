"""Which process this is: from flags, and from what clusters set."""

import argparse

import pytest

from qface_jax.errors import ConfigError
from qface_jax.launch import cluster
from qface_jax.launch.cluster import Membership, membership

SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_STEP_NODELIST": "gpu[007-010],gpu12",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPENMPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


def parse(*words):
    parser = argparse.ArgumentParser()
    cluster.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def no_cluster(monkeypatch):
    for name in (*SLURM, *OPENMPI, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_without_flags_it_is_alone():
    assert membership(parse()) is None


def test_explicit_flags():
    words = ("--coordinator=node0:9900", "--processes=4", "--process=3")
    assert membership(parse(*words)) == Membership("node0", 9900, 4, 3, None)
    words = ("--coordinator=[::1]:9900", "--processes=1", "--process=0")
    assert membership(parse(*words)) == Membership("::1", 9900, 1, 0, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--coordinator=a:1"], "--coordinator without --processes, --process"),
        (["--process=0", "--processes=2"], "without --coordinator"),
        (["--coordinator=a", "--processes=2", "--process=0"], "must be HOST:PORT"),
        (["--coordinator=a:99999", "--processes=2", "--process=0"], "must be HOST:PO"),
        (["--coordinator=a:1", "--processes=2", "--process=2"], "within 0 .. 1"),
        (["--coordinator=a:1", "--processes=2", "--process=-1"], "within 0 .. 1"),
        (["--cluster=slurm", "--processes=2"], "--processes: --cluster=slurm finds"),
        (["--host-timeout=0"], "--host-timeout: got 0, must be > 0"),
        (["--join-timeout=-1"], "--join-timeout: got -1, must be > 0"),
    ],
)
def test_wrong_flags(words, said):
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        membership(parse(*words))


@pytest.mark.parametrize("kind", ["auto", *cluster.CLUSTERS])
def test_no_such_cluster_here(kind, no_cluster):
    with pytest.raises(ConfigError, match=f"--cluster={kind}: this process was not"):
        membership(parse(f"--cluster={kind}"))


@pytest.mark.parametrize("kind", ["slurm", "auto"])
def test_slurm(kind, no_cluster, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    # Alone on its host, so it takes all accelerators there.
    port = 12345 % 4096 + 65535 - 4096 + 1
    assert membership(parse(f"--cluster={kind}")) == Membership(
        "gpu007", port, 4, 2, None
    )
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "8(x4)")
    monkeypatch.setenv("SLURM_LOCALID", "5")
    assert membership(parse(f"--cluster={kind}")).devices == [5]


def test_the_roll_calls_port_exists_too(no_cluster, monkeypatch):
    for name, value in (SLURM | {"SLURM_JOB_ID": "4095"}).items():
        monkeypatch.setenv(name, value)
    assert membership(parse("--cluster=slurm")).port == 65534


@pytest.mark.parametrize("kind", ["openmpi", "auto"])
def test_openmpi(kind, no_cluster, monkeypatch):
    for name, value in OPENMPI.items():
        monkeypatch.setenv(name, value)
    found = membership(parse(f"--cluster={kind}"))
    assert (found.coordinator, found.count, found.index) == ("10.96.0.1", 8, 3)
    assert found.devices == [1]


def test_every_detector_exists_in_this_jax():
    from jax._src.clusters import ClusterEnv

    known = {found.__name__ for found in ClusterEnv._cluster_types}
    assert {name for names in cluster.CLUSTERS.values() for name in names} <= known
