"""What a GPU is good for here, in one command: does it agree with the CPU, how fast is it, and Table VI of the RAF-DB paper at full size.

1. The checks of ``tests/gpu``: losses and trainings agree with the CPU, a killed training goes on to the same bits, no step waits.
2. Images a second of every network at its paper's size: ``fit`` against a plain loop over the same bytes, which moves and reads a batch at
   a time, channels first; in float32 (without TF32 in both) and in bfloat16.
3. ``dlp-cnn/table-6`` at the profile ``paper``, run by run, until the next run would not end in time.

A part that fails is reported, the others go on, and the exit status is 1. With ``--device cpu`` all is a miniature, of half a minute.
Needs torch, numpy, scikit-learn, pandas, Pillow, safetensors, accelerate and pyarrow, with what those bring; AlexNet, VGG and ResNet need
torchvision, and are left out where it is missing. The repository need not be installed. Faces are looked for below ``$FER_DATA``.
Usage: python benchmarks/gpu.py [--device cuda|cpu] [--minutes 10] [--out gpu_results]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "gpu"), str(ROOT / "tests" / "unit")]

import numpy as np
import torch
from checks import CHECKS
from torch.nn.functional import cross_entropy

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments import Run, run_experiments
from fer_utils.experiments.ledger import ledger_path
from fer_utils.models import FaceModel, build_model, list_models
from fer_utils.papers.dlp_cnn.recipe import DLPCNN
from fer_utils.training import FitSettings, Hook, crop_and_flip, fit, prepare_images
from fer_utils.training.features import exact_cudnn

TABLE = "dlp-cnn/table-6"
#: Share of the time that measuring speed may take.
SPEED_SHARE = 0.3
#: Networks that torchvision builds, or their trunk.
BORROWED = {"alexnet", "dam_cnn", "resnet", "serd_network", "vgg", "vgg_face"}
#: On the CPU; others are an eighth of their width.
SMALL = {
    "face_network": {"input_size": 103}, "ws_lgan": {"growth": 4, "input_size": 32}, "ws_lgan_attributes": {"growth": 4, "input_size": 32},
}
#: Of networks that tell no emotions.
CLASSES = {"ws_lgan_attributes": 2}


def has_torchvision() -> bool:
    """Whether it can be imported."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return False
    return True


class Report:
    """Says what goes on, and counts what failed and what was left."""

    def __init__(self, device: torch.device, seconds: float, out: Path) -> None:
        self.device, self.seconds, self.out = device, seconds, out
        self.small = device.type == "cpu"
        # steps before a network's speed is measured, and while it is; of the miniature it says nothing
        self.warm, self.steps = (1, 2) if self.small else (5, 20)
        self.begun = time.monotonic()
        self.failed: list[str] = []
        self.left: list[str] = []
        self.rates: dict[tuple[str, str], float] = {}

    @property
    def spent(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self.begun

    def say(self, text: str) -> None:
        """Print a line, at once: whoever ends the process wants to have seen it."""
        print(f"{self.spent:6.1f} s  {text}", flush=True)

    def attempt(self, name: str, work: Callable[[], str | None]) -> None:
        """Do something, and go on whatever comes of it."""
        try:
            found = work()
        except Exception as error:
            traceback.print_exc(limit=-3)
            self.failed.append(name)
            self.say(f"FAILED  {name}: {type(error).__name__}: {error}")
        else:
            self.say(f"{name}: {found or 'ok'}")


# -- speed ----------------------------------------------------------------------------------------------------------------


def wait_for(device: torch.device) -> float:
    """The time when all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Timer(Hook):
    """Notes when the steps to be timed began and ended."""

    def __init__(self, device: torch.device, first: int, last: int) -> None:
        self._device, self._first, self._last, self._marks = device, first, last, {}

    def after_step(self, step: int, model: torch.nn.Module, parts: object) -> None:
        if step in (self._first, self._last):
            self._marks[step] = wait_for(self._device)

    @property
    def seconds(self) -> float:
        return self._marks[self._last] - self._marks[self._first]


def make_model(name: str, small: bool) -> FaceModel:
    """A network at the paper's size, which is its own, or a small one."""
    sizes = SMALL.get(name, {"width": 0.125, "input_size": 32}) if small else {}
    return build_model(name, seed=0, num_classes=CLASSES.get(name, 7), **sizes)


def make_faces(model: FaceModel, count: int) -> FaceDataset:
    """Random pictures, a tenth wider than the network sees."""
    rng = np.random.default_rng(0)
    side = round(model.input_size / 0.9)
    images, labels = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8), rng.integers(0, model.num_classes, count)
    names = np.array([f"{i}.png" for i in range(count)])
    return FaceDataset("random", images, labels, tuple("abcdefg"[: model.num_classes]), names, np.full(count, "train"))


def train_plainly(model: FaceModel, faces: FaceDataset, batch: int, device: torch.device, bfloat16: bool) -> Iterator[None]:
    """A plain loop; yields after every step."""
    images, labels = prepare_images(faces.images, model.in_channels, model.image_size), torch.tensor(faces.labels)
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    while True:
        chosen = torch.randint(len(images), (batch,), generator=generator)
        pixels = crop_and_flip(images[chosen], generator, model.input_size).to(device).float() / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            scores = model(pixels)
        loss = cross_entropy(scores.float(), labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # to print it
        yield


def measure_speed(report: Report, name: str, precision: str) -> str:
    """Images a second of our loop and of the plain one."""
    device, batch, last = report.device, 4 if report.small else 64, report.warm + report.steps
    model, timer = make_model(name, report.small), Timer(device, report.warm, last)
    faces = make_faces(model, 4 * batch)
    settings = FitSettings(steps=last, batch_size=batch, learning_rate=0.001, precision=precision, milestones=())
    fit(model, faces, settings, hooks=[timer], progress=False)
    del model
    with exact_cudnn():
        steps = train_plainly(make_model(name, report.small), faces, batch, device, precision == "bfloat16")
        for _ in range(report.warm):
            next(steps)
        begun = wait_for(device)
        for _ in range(report.steps):
            next(steps)
        plain = wait_for(device) - begun
        steps.close()
    ours = report.rates[name, precision] = batch * report.steps / timer.seconds
    return f"{ours:,.0f} images/s, a plain loop {batch * report.steps / plain:,.0f}, ratio {plain / timer.seconds:.2f}"


def measure_speeds(report: Report) -> None:
    """All networks, those of Table VI's first rows first."""
    for name in sorted(list_models(), key=lambda name: name != "base_dcnn"):
        for precision in ("float32", "bfloat16"):
            title = f"{name}, {precision}"
            if name in BORROWED and not has_torchvision():
                report.left.append(f"{title}: torchvision is missing")
            elif report.spent > SPEED_SHARE * report.seconds:
                report.left.append(f"{title}: no time")
            else:
                report.attempt(title, lambda name=name, precision=precision: measure_speed(report, name, precision))
                if report.device.type == "cuda":
                    torch.cuda.empty_cache()


# -- Table VI -------------------------------------------------------------------------------------------------------------


class TimeKeeper:
    """Lets a run begin where the longest before it, or at first a guess, would still end in time."""

    def __init__(self, report: Report, guess: float) -> None:
        self.report, self.guess = report, guess
        self.took: list[float] = []
        self.begun: float | None = None

    def __call__(self, run: Run) -> bool:
        report = self.report
        if self.begun is not None:
            self.took.append(report.spent - self.begun)
            self.begun = None
        longest = max(self.took, default=self.guess)
        if run.name.startswith(("AlexNet", "VGG")) and not has_torchvision():
            problem = "torchvision is missing"
        elif report.spent + 1.1 * longest > report.seconds:
            problem = f"would take about {longest:.0f} s"
        else:
            self.begun = report.spent
            return True
        report.left.append(f"{TABLE}: {run.name}, seed {run.seed}: {problem}")
        return False


def run_table(report: Report) -> str:
    """As many runs as end in time."""
    profile = "smoke" if report.small else "paper"
    recipe, rate = DLPCNN().at(profile), report.rates.get(("base_dcnn", "float32"))
    # training at the speed that was measured, and half of that again for the classifiers
    guess = 1.5 * recipe.iterations * recipe.batch_size / rate if rate else 0.0
    done = run_experiments([TABLE], profile, "facsynth", data=report.out, wanted=TimeKeeper(report, guess), say=report.say)
    return f"{done} runs are in {ledger_path(TABLE, profile, 'facsynth', report.out)}"


# -- all ------------------------------------------------------------------------------------------------------------------


def describe(device: torch.device) -> str:
    """Device and versions."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    cuda = f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if device.type == "cuda" else ""
    return f"{device.type}: {name}; Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}{cuda}"


def main(arguments: list[str] | None = None) -> int:
    """Do all parts; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("gpu_results"))
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --device cpu runs a miniature")
    if device.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
        torch.set_num_threads(1)  # toys gain nothing by more
    report = Report(device, 60 * given.minutes, given.out)
    report.say(describe(device))
    for name, check in CHECKS.items():
        report.attempt(name, lambda check=check: check(device))
    measure_speeds(report)
    report.attempt(TABLE, lambda: run_table(report))
    for text in report.left:
        report.say(f"left    {text}")
    report.say(f"{len(report.failed)} failed{': ' * bool(report.failed)}{', '.join(report.failed)}; {len(report.left)} left")
    return int(bool(report.failed))


if __name__ == "__main__":
    raise SystemExit(main())
