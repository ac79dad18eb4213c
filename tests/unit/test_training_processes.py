"""The training loop in processes of its own: killed at any step, and two that share a batch."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_objectives
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from fer_utils.datasets.base import FaceDataset
from fer_utils.losses import CenterLoss, ContrastiveLoss, FeatureBank, IsletsLoss, LocalityPreservingLoss
from fer_utils.models import build_model
from fer_utils.training import CrossEntropyWithMetric, FitSettings, crop_and_flip, fit

ROOT = Path(__file__).resolve().parents[2]
STEPS = 60
SETTINGS = FitSettings(
    steps=STEPS, batch_size=16, milestones=(40,), validation_share=0.25, validate_every=7, precision="float32"
)


def make_faces() -> FaceDataset:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    images = rng.integers(0, 256, (80, 26, 26), dtype=np.uint8)
    names = np.array([f"{i:02d}.png" for i in range(80)])
    return FaceDataset("noise", images, labels, ("anger", "fear", "sadness"), names, np.full(80, "train"), identities=np.arange(80) // 4)


class Pull(nn.Module):
    """A toy loss with a parameter, whose gradient differs between the processes' shares."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.ones(size))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (embeddings - self.point).square().sum(1).mean()


def slowly(images: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
    time.sleep(0.01)
    return crop_and_flip(images, generator, size)


def train(checkpoint: str, seconds: float = 0.0) -> tuple[list[float], dict[str, torch.Tensor]]:
    torch.set_num_threads(1)
    model = build_model("alexnet", seed=1, num_classes=3, width=0.03, input_size=24)  # with dropout
    objective = CrossEntropyWithMetric(Pull(model.embedding_size), 0.05)
    history = fit(model, make_faces(), SETTINGS, augment=slowly, objective=objective, checkpoint=checkpoint, checkpoint_seconds=seconds)
    return history.losses.tolist(), model.state_dict()


def read_step(path: Path) -> int:
    while path.exists():
        try:
            with safe_open(path, framework="pt") as file:
                return json.loads(file.metadata()["content"])["step"]
        except RuntimeError:  # replaced while it was opened
            continue
    return 0


def test_a_killed_run_ends_with_the_same_bits(tmp_path, one_thread):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    losses, state = train(str(whole))
    context = multiprocessing.get_context("forkserver")  # one import for all of them
    context.set_forkserver_preload(["fer_utils.training"])
    rng, killed = np.random.default_rng(), []
    for target in (1, 9, 20, 34, 50):  # some before, some behind validations and the milestone
        process = context.Process(target=train, args=(str(broken),))
        process.start()
        deadline = time.monotonic() + 120
        while read_step(broken) < target and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))  # anywhere in a step, or in the middle of a write
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        killed.append(read_step(broken))
    assert killed == sorted(killed) and target <= killed[-1] < STEPS, killed
    resumed_losses, resumed = train(str(broken))
    assert resumed_losses == losses
    assert all(torch.equal(resumed[name], value) for name, value in state.items())
    first, second = load_file(whole), load_file(broken)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first), killed


SCRIPT = """
import json, os, sys
sys.path[:0] = [{root!r}, {tests!r}]
import torch
from accelerate import PartialState
from test_training_processes import KINDS, train_kind
torch.set_num_threads(1)
results = {{}}
for kind in KINDS:
    for again in (False, True):  # a finished training only gives back its weights
        results[kind] = train_kind(kind, int(os.environ["RANK"]), {out!r} + kind + ".safetensors")
state = PartialState()
open(f"{out}.{{state.process_index}}", "w").write(json.dumps(dict(count=state.num_processes, results=results)))
"""
SHARED = {"steps": 40, "batch_size": 16, "milestones": (30,), "precision": "float32", "learning_rate": 0.02}
LOSSES = {
    "point": Pull, "center": lambda size: CenterLoss(3, size), "islets": lambda size: IsletsLoss(3, size, update="gradient"),
    "locality": lambda size: LocalityPreservingLoss(5, bank=FeatureBank(toy_objectives.make_faces().labels.copy(), size)),
    "contrastive": lambda size: ContrastiveLoss(margin=2.0),
}
KINDS = (*toy_objectives.KINDS, *LOSSES)


def train_kind(kind: str, rank: int = 0, checkpoint: str | None = None) -> dict[str, object]:
    """Train with an objective of a kind; processes other than the first come with other weights, which must not matter."""
    metric = kind in LOSSES
    made, model = toy_objectives.prepare("softmax" if metric else kind), toy_objectives.build("softmax" if metric else kind)
    torch.manual_seed(0)
    objective = CrossEntropyWithMetric(LOSSES[kind](model.embedding_size), 0.05) if metric else made.objective
    with torch.no_grad():
        for tensor in (*model.parameters(), *objective.parameters()):
            tensor += rank  # the first process's count
    changes = {"validation_share": 0.25, "validate_every": 5} if kind == "point" else {}
    history = fit(model, made.data, FitSettings(**SHARED, **changes), objective=objective, checkpoint=checkpoint, **made.options)
    kept = [buffer for buffer in objective.buffers() if buffer.is_floating_point() and buffer.isfinite().all()]
    tensors = [*model.parameters(), *objective.parameters(), *kept]
    weights = torch.cat([tensor.detach().flatten() for tensor in tensors]).tolist()
    return {"parts": {name: part.tolist() for name, part in history.parts.items()}, "validations": history.validations, "weights": weights}


@pytest.mark.slow
def test_two_processes_share_a_batch(tmp_path, one_thread):
    script, out = tmp_path / "train.py", tmp_path / "result"
    script.write_text(SCRIPT.format(root=str(ROOT), tests=str(Path(__file__).parent), out=str(out)))
    # a free port: Accelerate 1.0 hands "any", which is 0, down to the processes, and they wait there for ever
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # Accelerate's name for "start several processes"; without GPUs they use gloo on the CPU
    options = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, f"--main_process_port={port}", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(Path(f"{out}.{rank}").read_text()) for rank in (0, 1))
    assert first["count"] == 2 and first == second, "both processes end with the same"
    for kind in KINDS:
        alone, shared = json.loads(json.dumps(train_kind(kind))), first["results"][kind]
        assert alone["parts"].keys() == shared["parts"].keys()
        for name, part in alone["parts"].items():
            np.testing.assert_allclose(shared["parts"][name], part, rtol=1e-4, atol=1e-6, err_msg=f"{kind}: {name}")
        assert alone["validations"] == shared["validations"]
        np.testing.assert_allclose(shared["weights"], alone["weights"], rtol=1e-3, atol=2e-5, err_msg=kind)
        losses = alone["parts"]["loss"]
        assert losses[-1] < losses[0] - 0.03, f"{kind}: a curve, not a line"
