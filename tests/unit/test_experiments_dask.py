"""A real scheduler and real workers on loopback."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
import toy_experiments as toy

from fer_utils.experiments import ExperimentError, Run, read_ledger, register_experiment, run_experiment
from fer_utils.experiments.ledger import Ledger

Client = pytest.importorskip("dask.distributed").Client  # before a test puts another in its place


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers, each a process of its own: its address, and the workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"env": toy.environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    dask = [sys.executable, "-m", "dask"]
    here = ["--no-dashboard", "--host", "127.0.0.1"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", str(port), *here], **quiet)
    workers = [subprocess.Popen([*dask, "worker", address, "--nthreads", "1", "--no-nanny", *here], **quiet) for _ in range(2)]
    with Client(address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def starts(folder):
    """How often each run began, by which processes."""
    return {path.stem: path.read_text().split() for path in folder.glob("*.began")}


def under_way(folder, worker):
    """The runs that a worker began and that have not ended."""
    return {stem for stem, pids in starts(folder).items() if str(worker.pid) in pids and not (folder / f"{stem}.ended").exists()}


def test_a_worker_is_killed_and_nothing_is_lost_or_entered_twice(empty_registry, tmp_path, cluster):
    address, workers = cluster
    plan = [Run("sleeper", toy.sleep, {"log": str(tmp_path), "seconds": 1.2}, seed) for seed in range(6)]
    register_experiment("toy/table-1")(lambda setup: plan)
    found = {}

    def run():
        found["done"] = run_experiment("toy/table-1", scheduler=address, data=tmp_path)

    client = threading.Thread(target=run)
    client.start()
    # kill a worker in the midst of a run, while there is another one to take it over
    toy.wait_for(lambda: any(under_way(tmp_path, worker) for worker in workers))
    victim = next(worker for worker in workers if under_way(tmp_path, worker))
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    cut = under_way(tmp_path, victim)
    client.join(timeout=90)
    assert not client.is_alive() and found["done"] == 6

    ledger = Ledger("toy/table-1", "book", "facsynth", tmp_path)
    assert [run["seed"] for run in ledger.runs] == [0, 1, 2, 3, 4, 5], "each run once"
    assert len({run["key"] for run in ledger.runs}) == 6
    assert sorted(read_ledger("toy/table-1", data=tmp_path)["value"]) == [0, 1, 2, 3, 4, 5]
    again = {stem for stem, pids in starts(tmp_path).items() if len(pids) > 1}
    assert cut and cut <= again, "the run that was cut off began again, on the other worker"
    assert all(str(victim.pid) not in starts(tmp_path)[stem][-1:] for stem in cut)

    before = starts(tmp_path)
    assert run_experiment("toy/table-1", scheduler=address, data=tmp_path) == 0 and starts(tmp_path) == before, "a second call runs nothing"


def test_local_workers(empty_registry, tmp_path, monkeypatch):
    """The plan's failing run is named; the others, in two processes beside this one, are kept.

    The cluster listens on a port of the machine: without its certificates nobody gets in. Its processes keep their memory.
    """
    found, real = {}, Client

    def connect(cluster, **options):
        address = found["address"] = cluster.scheduler_address
        with pytest.raises((OSError, TimeoutError)):
            real(address.replace("tls://", "tcp://"), timeout=2)
        with pytest.raises((OSError, TimeoutError, TypeError)):
            real(address, timeout=2)
        client = real(cluster, **options)
        found["environments"] = list(client.run(lambda: dict(os.environ)).values())
        return client

    # a cluster with Dask's own settings, of another test, leaves it in this process, whose environment workers inherit
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.setattr("distributed.Client", connect)
    monkeypatch.setattr("dask.distributed.Client", connect)
    plan = [Run("sleeper", toy.sleep, {"log": str(tmp_path), "seconds": 0.4}, seed) for seed in range(3)]
    register_experiment("toy/table-1")(lambda setup: [Run("bad", toy.fail), *plan])
    with pytest.raises(ExperimentError, match=r"^toy/table-1: bad: RuntimeError: no luck$"):
        run_experiment("toy/table-1", workers=2, data=tmp_path)
    assert [run["seed"] for run in Ledger("toy/table-1", "book", "facsynth", tmp_path).runs] == [0, 1, 2]
    pids = {pid for pids in starts(tmp_path).values() for pid in pids}
    assert str(os.getpid()) not in pids and len(pids) == 2
    assert found["address"].startswith("tls://")
    assert len(found["environments"]) == 2 and all("OMP_NUM_THREADS" in each for each in found["environments"])
    assert not any("MALLOC_TRIM_THRESHOLD_" in each for each in found["environments"]), "Dask's own, which doubles the time of a training"


def test_a_worker_of_two_threads_draws_what_one_thread_draws(empty_registry, tmp_path):
    """torch's generator belongs to the process: two runs at once would draw from each other's."""
    from distributed import LocalCluster

    register_experiment("toy/table-1")(lambda setup: [Run("drawn", toy.draw_slowly, seed=seed) for seed in range(4)])
    run_experiment("toy/table-1", data=tmp_path / "here")
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, memory_limit=0) as cluster:
        run_experiment("toy/table-1", scheduler=cluster.scheduler_address, data=tmp_path / "there")
    here, there = (list(read_ledger("toy/table-1", data=tmp_path / place)["value"]) for place in ("here", "there"))
    assert here == there and len(set(here)) == 4


def test_no_scheduler_answers(empty_registry, tmp_path, monkeypatch):
    from fer_utils.experiments import running

    monkeypatch.setattr(running, "TIMEOUT_S", 0.5)
    register_experiment("toy/table-1")(toy.plan_skills)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        run_experiment("toy/table-1", scheduler="tcp://127.0.0.1:9", data=tmp_path)
    with pytest.raises(ValueError, match="workers are local processes"):
        run_experiment("toy/table-1", scheduler="tcp://127.0.0.1:9", workers=2, data=tmp_path)
