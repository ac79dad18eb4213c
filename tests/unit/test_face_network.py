"""The face network: its stages, the weights that ship, the crop, and dlib's file and descriptors."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d

from fer_utils.datasets import facsynth
from fer_utils.errors import DataError
from fer_utils.models import FaceNetwork, align_for_face_network, build_model, dlib_weights, face_network, load_face_network
from fer_utils.models.dlib_weights import convert, fold_layers, read_layers
from fer_utils.models.face_network import FACE_TEMPLATE, STAGES
from fer_utils.training.checkpoint import load_checkpoint, save_checkpoint

SHAPES = {
    "stem": (32, 35, 35), "stage_32": (32, 35, 35), "stage_64": (64, 17, 17), "stage_128": (128, 8, 8), "stage_256": (256, 4, 4),
    "stage_out": (256, 2, 2), "descriptor": (128,),
}


@pytest.fixture(scope="module")
def network() -> FaceNetwork:
    return load_face_network(seed=1)


# -- the network ----------------------------------------------------------------------------------------------------------


def test_stages(network):
    images = torch.rand(2, 3, 150, 150)
    with torch.inference_mode():
        stages = network.compute_stages(images)
        assert {name: tuple(maps.shape[1:]) for name, maps in stages.items()} == SHAPES
        torch.testing.assert_close(network.embed(images), stages["descriptor"])
        torch.testing.assert_close(network(images), network.classify(stages["descriptor"]))
        # a trunk can be cut between any two stages
        for count, name in enumerate(STAGES, 1):
            torch.testing.assert_close(network.body[count:](stages[name]), stages["descriptor"])


def test_size():
    with torch.device("meta"):
        network = FaceNetwork()
    assert sum(weights.numel() for weights in network.body.parameters()) == 5_607_488
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == 29
    assert (network.embedding_size, network.image_size) == (128, 150)


def test_a_block_that_halves_fills_with_zeros_at_the_end():
    block = face_network._Residual(2, 3, down=True)
    maps = torch.rand(1, 2, 8, 8)
    found = conv2d(conv2d(maps, block.first.weight, block.first.bias, stride=2).relu(), block.second.weight, block.second.bias, padding=1)
    assert found.shape == (1, 3, 3, 3)
    expected = torch.zeros(1, 3, 4, 4)
    expected[:, :, :3, :3] += found
    expected[:, :2] += avg_pool2d(maps, 2)
    torch.testing.assert_close(block(maps), expected.relu())


def test_it_trains_from_random_weights():
    network = build_model("face_network", seed=0, num_classes=5, input_size=103).train()
    scores = network(torch.rand(4, 3, 103, 103))
    loss = nn.functional.cross_entropy(scores, torch.arange(4))
    assert float(loss.detach()) == pytest.approx(np.log(5), abs=0.3), "scores start small"
    loss.backward()
    assert all(block.second.weight.grad.abs().sum() > 0 for block in network.modules() if isinstance(block, face_network._Residual))


@pytest.mark.parametrize("stage", [*STAGES, "classifier"])
def test_freezing(network, stage):
    network.freeze_below(stage)
    trained = [*STAGES, "classifier"][[*STAGES, "classifier"].index(stage) :]
    for name, weights in network.named_parameters():
        assert weights.requires_grad == (name.removeprefix("body.").split(".")[0] in trained), name
    network.freeze_below("stem")
    assert all(weights.requires_grad for weights in network.parameters())


@pytest.mark.parametrize("options", [{"in_channels": 1}, {"input_size": 102}, {"num_classes": 1}, {"image_size": 149}])
def test_arguments_out_of_range(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        FaceNetwork(**options)


def test_other_images_and_stages(network):
    for compute in (network.embed, network.compute_stages):
        with pytest.raises(ValueError, match=r"face_network takes images \[B, 3, 150, 150\], got \[1, 3, 100, 100\]"):
            compute(torch.rand(1, 3, 100, 100))
    with pytest.raises(ValueError, match=r"stage must be one of stem, .* or classifier, got 'stage_512'"):
        network.freeze_below("stage_512")


# -- the weights that ship --------------------------------------------------------------------------------------------------


def test_only_the_classifier_is_drawn(network):
    other = load_face_network(num_classes=11, seed=2, image_size=165)
    assert (other.num_classes, other.image_size, other.training) == (11, 165, False)
    for name, weights in network.body.state_dict().items():
        assert weights.dtype == torch.float32
        assert torch.equal(weights, other.body.state_dict()[name])
    assert not torch.equal(other.classifier.weight[:7], network.classifier.weight)
    assert torch.equal(load_face_network(seed=1).classifier.weight, network.classifier.weight)


def test_a_checkpoint_brings_it_back(network, tmp_path):
    save_checkpoint(network, tmp_path / "face.safetensors")
    again, _ = load_checkpoint(tmp_path / "face.safetensors")
    assert isinstance(again, FaceNetwork)
    # the weights have been in half precision before, so nothing is lost
    assert all(torch.equal(weights, again.body.state_dict()[name]) for name, weights in network.body.state_dict().items())


def test_damaged_weights(tmp_path, monkeypatch):
    path = tmp_path / "face_network.safetensors"
    monkeypatch.setattr(face_network, "_WEIGHTS", path)
    with pytest.raises(DataError, match=r"face_network.safetensors: cannot be read \(No such file"):
        load_face_network()
    content = bytearray(Path(face_network.__file__).with_name("weights").joinpath(path.name).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged .* expected the weights that ship with the package, of SHA-256 906580bd3cdf"):
        load_face_network()


# -- the crop ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(angle=st.floats(-1, 1), scale=st.floats(0.5, 1.2), x=st.floats(-10, 10), y=st.floats(-10, 10))
def test_points_land_on_the_template(angle, scale, x, y):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (FACE_TEMPLATE - 50) @ turn.T + (100 + x, 100 + y)
    # brightness is the column, so a chip's pixel tells where it came from
    chip = align_for_face_network([np.tile(np.arange(200, dtype=np.uint8), (200, 1))], points[None])[0]
    assert chip.shape == (150, 150)
    across, down = np.round(FACE_TEMPLATE * 1.5 - 0.5).astype(int).T
    np.testing.assert_allclose(chip[down, across], points[:, 0] - 0.5, atol=2)


def test_the_template_is_dlibs_mean_face():
    eye_x = (0.121737, 0.187122, 0.265825, 0.334606, 0.260918, 0.182743)
    eye_y = (0.216423, 0.178758, 0.179852, 0.231733, 0.245099, 0.244077)
    nose, corner = (0.490127, 0.515625), (0.254149, 0.780233)
    padded = (np.array([(np.mean(eye_x), np.mean(eye_y)), nose, corner]) + 0.25) / 1.5 * 100
    np.testing.assert_allclose(FACE_TEMPLATE[[0, 2, 3]], padded, atol=1e-3)
    # the right half mirrors the left one about the nose
    mirrored = [2 * FACE_TEMPLATE[2, 0], 0] + FACE_TEMPLATE[[0, 3]] * [-1, 1]
    np.testing.assert_allclose(FACE_TEMPLATE[[1, 4]], mirrored, atol=2e-2)


# -- dlib's descriptors -------------------------------------------------------------------------------------------------------


def chips_of(stored: dict) -> np.ndarray:
    """Test faces enlarged by repeating every second row and column: no resampling that another version could do otherwise."""
    images = facsynth.load("basic", split="test").images[stored["faces"]]
    rows = np.arange(150) * 2 // 3
    return np.ascontiguousarray(images[:, rows][:, :, rows])


@pytest.fixture(scope="module")
def stored() -> dict:
    """What dlib 20.0.1 computes from its own weights."""
    return json.loads(Path(__file__).with_name("face_network_dlib.json").read_text(encoding="utf-8"))


def test_descriptors_are_dlibs(network, stored):
    chips = torch.tensor(chips_of(stored)).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        found = network.embed(chips)
    theirs = torch.tensor(stored["descriptors"])
    assert torch.pdist(theirs).min() > 0.4, "they are different people"
    assert (found - theirs).norm(dim=1).max() < 2e-3, "what half precision costs"


def test_descriptors_are_dlibs_in_full_precision(stored):
    """Where dlib and its weights are installed: our reading of the file against dlib's, and the stored descriptors."""
    dlib = pytest.importorskip("dlib")
    package = find_spec("face_recognition_models")  # not imported: it needs an old setuptools
    if package is None:
        pytest.skip("face_recognition_models is not installed")
    path = f"{package.submodule_search_locations[0]}/models/dlib_face_recognition_resnet_model_v1.dat"
    network = FaceNetwork().eval()
    network.body.load_state_dict(fold_layers(read_layers(Path(path).read_bytes())))
    chips = chips_of(stored)
    theirs = np.array([dlib.face_recognition_model_v1(path).compute_face_descriptor(chip) for chip in chips])
    with torch.inference_mode():
        found = network.embed(torch.tensor(chips).permute(0, 3, 1, 2) / 255).numpy()
    np.testing.assert_allclose(found, theirs, atol=1e-5)
    np.testing.assert_allclose(stored["descriptors"], theirs, atol=1e-5)


# -- dlib's file --------------------------------------------------------------------------------------------------------------


def integer(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def real(value: float) -> bytes:
    mantissa, exponent = np.frexp(value)
    return integer(int(mantissa * 2**24)) + integer(int(exponent) - 24)


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def tensor(values: np.ndarray) -> bytes:
    shape = (*values.shape, *(1,) * (4 - values.ndim)) if values.size else (0,) * 4
    return integer(2) + b"".join(map(integer, shape)) + values.astype("<f4").tobytes()


ALIAS = integer(1) + integer(1) * 4
RATES = b"".join(map(real, (1.0, 1.0, 1.0, 0.0)))
REMAINS = b"110" + tensor(np.empty(0)) * 3
HEAD = integer(1) + text("loss_metric_2") + real(0.04) + real(0.6) + integer(2) * 7 + integer(3)
INPUT = text("input_rgb_image_sized") + b"".join(map(real, (122.782, 117.001, 104.298))) + integer(150) * 2


def convolution(layer: nn.Conv2d, weights: np.ndarray) -> bytes:
    sizes = (layer.out_channels, *layer.kernel_size, *layer.stride, *layer.padding)
    return text("con_4") + tensor(weights) + b"".join(map(integer, sizes)) + ALIAS * 2 + RATES + REMAINS


def affine(values: np.ndarray) -> bytes:
    return text("affine_") + tensor(values) + ALIAS * 2 + integer(0) + REMAINS


def linear(weights: np.ndarray) -> bytes:
    return text("fc_2") + integer(weights.shape[1]) + integer(weights.shape[0]) + tensor(weights) + ALIAS * 2 + integer(1) + RATES + REMAINS


def write(*layers: bytes) -> bytes:
    first, *others = layers
    return HEAD + INPUT + first + integer(1) + b"".join(others)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_integers(value):
    assert dlib_weights._Stream(integer(value), 0).integer() == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_reals(value):
    assert dlib_weights._Stream(real(value), 0).real() == value


def test_a_small_stream():
    rng = np.random.default_rng(0)
    convolved, scaled, mixed = rng.random(2 * (3 * 9 + 1)), rng.random(4), rng.random((2, 5))
    pool = text("avg_pool_2") + b"".join(map(integer, (2, 2, 2, 2, 0, 0))) + REMAINS
    content = write(
        convolution(nn.Conv2d(3, 2, 3, stride=2), convolved), affine(scaled), text("relu_") + REMAINS, pool, text("add_prev_") + REMAINS,
        linear(mixed),
    )
    layers = read_layers(content)
    assert [layer.kind for layer in layers] == ["con_4", "affine_", "relu_", "avg_pool_2", "add_prev_", "fc_2"]
    assert layers[0].sizes == (2, 3, 3, 2, 2, 0, 0) and layers[3].sizes == (2, 2, 2, 2, 0, 0) and layers[5].sizes == (5, 2, 1)
    for position, values in ((0, convolved), (1, scaled), (5, mixed.ravel())):
        np.testing.assert_array_equal(layers[position].weights, values.astype(np.float32))
    with pytest.raises(ValueError, match=f"ends at byte {len(content) - 1}"):
        read_layers(content[:-1])
    for wrong, message in ((b"\x01", "ends at byte"), (b"\x71\x01", "no integer at byte"), (text("svm_"), "unknown layer 'svm_'")):
        with pytest.raises(ValueError, match=message):
            read_layers(content + wrong)
    with pytest.raises(ValueError, match="has 2 layers with weights instead of 30"):
        fold_layers(layers)


def test_a_whole_file(tmp_path):
    """The converted weights compute what convolution, scale and shift compute one after the other."""
    rng = np.random.default_rng(0)
    network = FaceNetwork().eval()
    parts, written = {}, []
    for name, layer in network.body.named_modules():
        if isinstance(layer, nn.Conv2d):
            weights = rng.normal(0, 0.05, layer.weight.numel() + layer.out_channels).astype(np.float32)
            scaled = rng.normal(1, 0.1, 2 * layer.out_channels).astype(np.float32)
            written += [convolution(layer, weights), affine(scaled)]
            parts[name] = (weights, scaled)
        elif isinstance(layer, nn.Linear):
            mixed = rng.normal(0, 0.05, (256, 128)).astype(np.float32)
            written.append(linear(mixed))
    source, target = tmp_path / "made.dat", tmp_path / "made.safetensors"
    source.write_bytes(write(*written))
    found = fold_layers(read_layers(source.read_bytes()))
    network.body.load_state_dict(found)
    np.testing.assert_array_equal(found["descriptor.2.weight"], mixed.T)
    maps = torch.rand(1, 64, 17, 17)
    block = network.body.get_submodule("stage_128.0")
    weights, scaled = parts["stage_128.0.first"]
    weights, scaled = torch.tensor(weights), torch.tensor(scaled)[:, None, None].chunk(2)
    plain = conv2d(maps, weights[:-128].view(128, 64, 3, 3), weights[-128:], stride=2)
    torch.testing.assert_close(block.first(maps), plain * scaled[0] + scaled[1], rtol=1e-4, atol=1e-5)
    assert convert(source, target) == convert(source, tmp_path / "again.safetensors")
    assert target.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    length = struct.unpack("<Q", target.read_bytes()[:8])[0]
    about = json.loads(json.loads(target.read_bytes()[8 : 8 + length])["__metadata__"]["provenance"])
    assert about["author"] == "Davis E. King" and "CC0" in about["licence"]


def test_files_that_are_no_network(tmp_path):
    with pytest.raises(DataError, match=r"missing\.dat: cannot be read"):
        convert(tmp_path / "missing.dat", tmp_path / "out")
    (tmp_path / "other.dat").write_bytes(b"something else")
    with pytest.raises(DataError, match="holds no input_rgb_image_sized; expected dlib_face_recognition_resnet_model_v1"):
        convert(tmp_path / "other.dat", tmp_path / "out")
    assert not (tmp_path / "out").exists()
