"""The networks: sizes, one interface, what is kept of torchvision's, and VGG-Face from miniature files of each format."""

from __future__ import annotations

import math
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.io import savemat
from torch import nn
from torch.nn.functional import conv2d, cross_entropy, linear, max_pool2d
from torchvision import models as theirs

from fer_utils.models import VGG, AlexNet, ResNet, VGGFace, build_model, load_vgg_face
from fer_utils.models.base import find_flat_size
from fer_utils.models.vgg_face import LAYERS, MEAN
from fer_utils.papers.dlp_cnn.model import BaseDCNN

SMALL = {"base_dcnn": 0.05, "alexnet": 0.05, "vgg": 0.05, "resnet": 0.125}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def on_paper(build, **options) -> nn.Module:
    """A network that takes no memory."""
    with torch.device("meta"):
        return build(**options)


# -- baseDCNN -------------------------------------------------------------------------------------------------------------


def test_base_dcnn_has_the_papers_size():
    model = on_paper(BaseDCNN)
    assert count(model) == 74_943_591
    channels = [(layer.in_channels, layer.out_channels, layer.kernel_size) for layer in model.body if isinstance(layer, nn.Conv2d)]
    assert channels == [(1, 64, (3, 3)), (64, 96, (3, 3)), (96, 128, (3, 3)), (128, 128, (3, 3)), (128, 256, (3, 3)), (256, 256, (3, 3))]
    assert model.embedding_size == 2000


def test_pooling_rounds_up_as_in_caffe():
    convolutions = on_paper(BaseDCNN).body[:16]
    assert isinstance(convolutions[-1], nn.Flatten)
    assert find_flat_size(convolutions, 1, 90) == 256 * 12 * 12
    for layer in convolutions:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = False
    assert find_flat_size(convolutions, 1, 90) == 256 * 11 * 11, "PyTorch's default would lose a row and a column"


def test_base_dcnn_is_the_sequence_of_the_paper():
    model = BaseDCNN(width=0.1, input_size=22, num_classes=3)
    images = torch.rand(2, 1, 22, 22)
    weights = [(layer.weight, layer.bias) for layer in (*model.body, model.classifier) if isinstance(layer, nn.Conv2d | nn.Linear)]
    x = images
    for i, (weight, bias) in enumerate(weights[:6]):
        x = conv2d(x, weight, bias, padding=1).relu()
        x = max_pool2d(x, 2, ceil_mode=True) if i in (0, 1, 3) else x
    features = linear(x.flatten(1), *weights[6]).relu()
    torch.testing.assert_close(model.embed(images), features)
    torch.testing.assert_close(model(images), linear(features, *weights[7]))


def test_a_bottleneck_gives_features_that_can_be_plotted():
    models = [BaseDCNN(width=0.05, input_size=24, bottleneck=2) for _ in range(8)]
    features = torch.cat([model.embed(torch.rand(64, 1, 24, 24)) for model in models])
    assert features.shape == (8 * 64, 2) and models[0].embedding_size == 2
    assert float(features.min()) < 0 < float(features.max()), "not rectified: the whole plane is used"
    with pytest.raises(ValueError, match="bottleneck needs at least 1"):
        BaseDCNN(width=0.05, input_size=24, bottleneck=0)


# -- one interface --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(1, 48), (3, 50)])
def test_one_interface(name, channels, size):
    model = build_model(name, seed=1, num_classes=5, width=SMALL[name], in_channels=channels, input_size=size, image_size=60).eval()
    images = torch.rand(3, channels, size, size)
    features = model.embed(images)
    assert features.shape == (3, model.embedding_size) and bool((features >= 0).all())
    torch.testing.assert_close(model(images), model.classify(features))
    assert model(images).shape == (3, 5)
    again = build_model(name, **model.settings)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(images), model(images))
    assert (again.input_size, again.image_size, again.in_channels, again.num_classes) == (size, 60, channels, 5)
    with pytest.raises(ValueError, match=rf"{name} takes images \[B, {channels}, {size}, {size}\], got \[3, {channels}, 40, 40\]"):
        model(torch.rand(3, channels, 40, 40))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("classes", [3, 7])
def test_the_loss_starts_at_ln_k(name, classes):
    images = torch.rand(64, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(64) % classes
    for seed in range(3):
        model = build_model(name, seed=seed, num_classes=classes, width=SMALL[name], input_size=48).train()
        torch.manual_seed(seed)  # of dropout, which alone moves AlexNet's loss by some hundredths
        assert float(cross_entropy(model(images), labels).detach()) == pytest.approx(math.log(classes), abs=0.1)


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_drawn_as_the_paper_says(name):
    model = build_model(name, seed=0, width=0.25, input_size=48)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            expected = 0.01 if layer is model.classifier else (2 / layer.weight[0].numel()) ** 0.5
            tolerance = 5 / (2 * layer.weight.numel()) ** 0.5  # five standard errors of a standard deviation
            assert float(layer.weight.detach().std(correction=0)) == pytest.approx(expected, rel=tolerance)
            assert layer.bias is None or not layer.bias.any()


@given(width=st.floats(0.02, 0.6), name=st.sampled_from(sorted(SMALL)))
@settings(max_examples=20, deadline=None)
def test_width_multiplies_every_layer(width, name):
    model, whole = (
        on_paper(partial(build_model, name), input_size=48, **options) for options in ({"width": width}, {})
    )
    pairs = [
        (mine, full) for mine, full in zip(model.modules(), whole.modules(), strict=True) if isinstance(mine, nn.Conv2d | nn.Linear)
    ]
    assert len(pairs) >= 6
    for mine, full in pairs[:-1]:
        assert len(mine.weight) == max(1, round(len(full.weight) * width))
    assert len(pairs[-1][0].weight) == 7
    model.to_empty(device="cpu")
    assert model.eval()(torch.zeros(1, 1, 48, 48)).shape == (1, 7)


def test_a_seed_leaves_the_callers_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build_model("base_dcnn", seed=2, width=0.05, input_size=24)
    assert torch.equal(torch.rand(3), expected)
    second, other = (build_model("base_dcnn", seed=seed, width=0.05, input_size=24) for seed in (2, 3))
    assert torch.equal(first.body[0].weight, second.body[0].weight) and not torch.equal(first.body[0].weight, other.body[0].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "lenet"}, "unknown model 'lenet'; expected one of alexnet, base_dcnn, .*face_network, .*resnet, .*vgg_face"),
        ({"num_classes": 1}, "at least 2 classes"), ({"in_channels": 2}, "1 or 3 channels"), ({"input_size": 8}, "at least 16 pixels"),
        ({"width": 0.0}, "width must be positive"), ({"image_size": 40}, "faces of 40 pixels .* no window of 90"),
        ({"name": "vgg", "depth": 12}, "depth must be one of 11, 13, 16, 19, got 12"),
        ({"name": "resnet", "depth": 50}, "depth must be one of 18, 34, got 50"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        build_model(**{"name": "base_dcnn", **options})


# -- torchvision ----------------------------------------------------------------------------------------------------------


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize(
    ("ours", "original"),
    [(on_paper(AlexNet, in_channels=3), theirs.alexnet), (on_paper(VGG, in_channels=3, depth=11), theirs.vgg11),
     (on_paper(VGG, in_channels=3), theirs.vgg16), (on_paper(ResNet, in_channels=3, depth=34), theirs.resnet34)],
    ids=["alexnet", "vgg11", "vgg16", "resnet34"],
)  # fmt: skip
def test_at_width_1_the_convolutions_are_torchvisions(ours, original):
    with torch.device("meta"):
        expected = shapes(original())
    assert shapes(ours)[1:] == expected[1:] and shapes(ours)[0][0] == expected[0][0]


def test_resnet_computes_what_torchvisions_does():
    original = theirs.ResNet(theirs.resnet.BasicBlock, [2, 2, 2, 2], num_classes=7)
    original.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    ours = ResNet(in_channels=3, input_size=32)
    for mine, their in zip((*ours.body.parameters(), *ours.classifier.parameters()), original.parameters(), strict=True):
        assert mine.shape == their.shape
        mine.data.copy_(their.data)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), original(images))


def test_a_narrow_resnet_has_the_right_gradients_channels_last():
    """In double precision the arithmetic is torch's own; in single, and channels last, it is oneDNN's."""
    exact, fast = (build_model("resnet", seed=0, width=0.1, input_size=24).to(kind) for kind in (torch.float64, torch.float32))
    images = torch.rand(16, 1, 24, 24, dtype=torch.float64)
    fast.to(memory_format=torch.channels_last)
    exact(images).square().mean().backward()
    fast(images.float().contiguous(memory_format=torch.channels_last)).square().mean().backward()
    for (name, reference), mine in zip(exact.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), reference.grad, rtol=1e-3, atol=1e-4 * float(reference.grad.abs().max()), msg=name)


# -- VGG-Face -------------------------------------------------------------------------------------------------------------

TINY = {"num_classes": 4, "width": 1 / 32, "input_size": 32}  # convolutions of 2 to 16 channels, hidden layers of 128


@pytest.fixture(scope="module")
def layers() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weights as MatConvNet keeps them, [height, width, inputs, outputs], and biases."""
    rng = np.random.default_rng(0)
    found, inputs = {}, 3
    for name in LAYERS:
        convolution = name.startswith("conv")
        outputs = min(2 ** int(name[4]), 16) if convolution else 4 if name == "fc8" else 128
        side = 3 if convolution else 1
        weight = rng.normal(size=(side, side, inputs, outputs)) * (2 / (side * side * inputs)) ** 0.5
        found[name] = (weight.astype(np.float32), rng.normal(size=outputs).astype(np.float32) / 10)
        inputs = outputs
    return found


def expected_scores(layers, images: torch.Tensor) -> torch.Tensor:
    """VGG-Face written out, from MatConvNet's arrays and RGB images from 0 to 255."""
    x = images * 255 - torch.tensor(MEAN).view(3, 1, 1)
    for name, (weight, bias) in layers.items():
        x = conv2d(x, torch.from_numpy(weight.transpose(3, 2, 0, 1).copy()), torch.from_numpy(bias), padding=weight.shape[0] // 2)
        x = x if name == "fc8" else x.relu()
        x = max_pool2d(x, 2) if name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3") else x
    return x.flatten(1)


def as_state_dict(layers, rename=str, flat: bool = True, bgr: bool = False) -> dict[str, torch.Tensor]:
    state = {}
    for name, (weight, bias) in layers.items():
        tensor = torch.from_numpy(weight.transpose(3, 2, 0, 1).copy())
        if bgr and name == "conv1_1":
            tensor = tensor.flip(1)
        state[f"{rename(name)}.weight"] = tensor.flatten(1) if flat and name[0] == "f" else tensor.contiguous()
        state[f"{rename(name)}.bias"] = torch.from_numpy(bias)
    return state


def write_matconvnet(path: Path, layers, old: bool) -> None:
    cells = []
    for name, (weight, bias) in layers.items():
        pair = np.empty((1, 2), dtype=object)
        pair[0] = [weight, bias[None]]
        stored = {"filters": weight, "biases": bias[None]} if old else {"weights": pair}
        cells += [{"type": "conv", "name": name, **stored}, {"type": "relu", "name": name.replace("conv", "relu").replace("fc", "relu")}]
    held = np.empty((1, len(cells)), dtype=object)
    held[0] = cells
    savemat(path, {"layers": held, "meta": {"inputs": 1}})


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def check(model: VGGFace, layers, images: torch.Tensor) -> None:
    torch.testing.assert_close(model.eval()(images), expected_scores(layers, images), rtol=1e-4, atol=1e-3)


def test_vgg_face_has_the_originals_size():
    model = on_paper(VGGFace)
    # VGG-16 with 2,622 instead of 1,000 classes
    with torch.device("meta"):
        assert count(model) == count(theirs.vgg16(num_classes=2622)) == 145_002_878
    assert model.embedding_size == 4096
    assert on_paper(VGGFace, **model.settings).settings == model.settings


@pytest.mark.parametrize("old", [False, True], ids=["weights", "filters"])
def test_vgg_face_from_matconvnet(tmp_path, layers, images, old):
    path = tmp_path / "vgg-face.mat"
    write_matconvnet(path, layers, old)
    model = VGGFace(**TINY)
    load_vgg_face(model, path)
    check(model, layers, images)


def torch_sequence(name: str) -> str:
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, "32.1", "35.1", "38.1")
    return str(numbers[LAYERS.index(name)])


def torchvision_names(name: str) -> str:
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    return f"features.{numbers[LAYERS.index(name)]}" if name[0] == "c" else f"classifier.{3 * (int(name[2]) - 6)}"


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "rename",
    [
        str, lambda n: n.replace("conv", "conv_"), lambda n: f"features.{n.replace('conv', 'conv_')}" if n[0] == "c" else f"fc.{n}",
        torch_sequence, torchvision_names, lambda n: f"module.{n}",
    ],
    ids=["dag", "underscore", "folders", "sequence", "torchvision", "parallel"],
)
def test_vgg_face_from_state_dicts(tmp_path, layers, images, rename, flat):
    path = tmp_path / "vgg_face.pth"
    torch.save(as_state_dict(layers, rename, flat), path)
    model = VGGFace(**TINY)
    load_vgg_face(model, path, channels="rgb")
    check(model, layers, images)


def test_vgg_face_knows_the_order_of_colours(tmp_path, layers, images):
    path = tmp_path / "vgg_face.safetensors"
    save_file(as_state_dict(layers, bgr=True), path)
    model = VGGFace(**TINY)
    with pytest.raises(ValueError, match=r"does not say which order of colours .* channels='rgb' .* channels='bgr'"):
        load_vgg_face(model, path)
    load_vgg_face(model, path, channels="bgr")
    check(model, layers, images)
    load_vgg_face(model, path, channels="rgb")
    assert not torch.allclose(model.eval()(images), expected_scores(layers, images), rtol=1e-2)


def test_vgg_face_in_part(tmp_path, layers):
    path = tmp_path / "vgg_face.pt"
    torch.save({"epoch": 3, "state_dict": as_state_dict(layers)}, path)
    model = VGGFace(**{**TINY, "num_classes": 7})
    with pytest.raises(ValueError, match=r"vgg_face.pt: fc8 has weights \[4, 128\] .*; expected \[7, 128\]"):
        load_vgg_face(model, path, channels="rgb")
    before = model.classifier.weight.clone()
    load_vgg_face(model, path, channels="rgb", last="fc7")
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.body[-3].weight, torch.from_numpy(layers["fc7"][0][0, 0].T))
    larger = VGGFace(num_classes=7, width=1 / 32, input_size=64)
    load_vgg_face(larger, path, channels="rgb", last="conv5_3")
    assert torch.equal(larger.body[28].bias, torch.from_numpy(layers["conv5_3"][1]))


def test_vgg_face_refuses_what_it_cannot_read(tmp_path, layers):
    model = VGGFace(**TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = as_state_dict(layers)
    torch.save({name: value for name, value in state.items() if name != "conv3_2.bias"}, tmp_path / "short.pth")
    torch.save({**state, "conv5_3.bias": torch.zeros(3)}, tmp_path / "shape.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "broken.safetensors").write_bytes(struct.pack("<Q", 10) + b"{")
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0" * 20)
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64))
    savemat(tmp_path / "other.mat", {"x": 1})
    savemat(tmp_path / "empty.mat", {"layers": np.array([[{"name": "conv1_1", "type": "conv"}]], dtype=object)})
    (tmp_path / "VGG_FACE.caffemodel").write_bytes(b"\n")
    cases = {
        "short.pth": "conv3_2 not found", "shape.pth": r"conv5_3 has .* biases \[3\]; expected", "module.pth": "no plain state_dict",
        "list.pth": "no state_dict", "broken.pth": "cannot be read", "broken.safetensors": "cannot be read", "broken.mat": "cannot be read",
        "new.mat": "version 7.3; save it again in MATLAB with -v7", "other.mat": "conv1_1 not found",
        "empty.mat": "conv1_1 has no weights and biases", "VGG_FACE.caffemodel": r"\.caffemodel cannot be read; .* Convert",
        "nowhere.mat": "not found", "nowhere.pth": "not found",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
            load_vgg_face(model, tmp_path / name, channels="rgb")
    with pytest.raises(ValueError, match=r"last must be one of conv1_1, .*, got 'fc9'"):
        load_vgg_face(model, tmp_path / "short.pth", last="fc9")
    with pytest.raises(ValueError, match="channels must be 'rgb' or 'bgr', got 'grb'"):
        load_vgg_face(model, tmp_path / "short.pth", channels="grb")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
