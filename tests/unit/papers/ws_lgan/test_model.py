"""WS-LGAN's parts beside plain implementations, its sizes at full width, and what stays frozen."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm
from torchvision.models import DenseNet

from fer_utils.models import build_model
from fer_utils.papers.ws_lgan.model import (
    WSLGAN,
    AttributeNetwork,
    SelectiveFeatureUnit,
    build_backbone,
    normalise_maps,
    pool_attended,
)
from fer_utils.training import load_checkpoint, save_checkpoint
from fer_utils.training.stages import set_training_mode

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {"input_size": 16, "layers": (1, 2, 1), "growth": 4}
SMALL = {**TINY, "amg_layers": (1, 1, 2), "embedding": 5}


def images(count=6, side=16):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(3))


def stir(model):
    """Give normalisations statistics and weights of their own, so that a mistake in them shows."""
    generator = torch.Generator().manual_seed(4)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            for value in (layer.weight.data, layer.running_var):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            for value in (layer.bias.data, layer.running_mean):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    nn.init.normal_(model.classifier.weight)
    return model.eval()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def count_by_hand(layers, growth, stem):
    """Weights of 1x1, 3x3 and normalisations, channel by channel; and the channels at the end."""
    total, channels = 9 * stem, stem
    for number, length in enumerate(layers):
        if number:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
        for _ in range(length):
            total += 2 * channels + 4 * growth * channels + 8 * growth + 9 * 4 * growth * growth
            channels += growth
    return total + 2 * channels, channels


# -- sizes ----------------------------------------------------------------------------------------------------------------


def test_sizes_at_full_width():
    with torch.device("meta"):
        model = WSLGAN()
        faces = torch.empty(2, 1, 48, 48)
        branch = model.generator.eyes
        for body, layers, channels in ((branch.body, (6, 12, 24), 1024), (model.body, (6, 6, 6), 352)):
            weights, found = count_by_hand(layers, 32, 64)
            assert found == channels and count(body) == weights
            assert body(faces).shape == (2, channels, 12, 12)
            sides, maps = [], faces
            for layer in body:
                maps = layer(maps)
                sides.append(maps.shape[-1])
            assert list(dict.fromkeys(sides)) == [48, 24, 12] and [sides.count(side) for side in (24, 12)] == [
                layers[1] + 4, layers[2] + 3
            ], "nothing but the two transitions halves the side"
        outputs = model.eval().compute_outputs(faces)
    assert branch.embedding_size == 1024 and count(branch) == count(branch.body) + 2 * 1025 == 4_262_530
    assert model.embedding_size == 352 and model.unit.squeeze[0].out_features == 352 // 16 == 22
    assert {name: tuple(value.shape[1:]) for name, value in outputs.items()} == {
        "features": (352,), "scores": (7,), "eyes": (128,), "mouth": (128,), "global": (128,), "maps": (2, 12, 12), "weights": (3, 352),
    }


def test_rivals_at_full_width():
    with torch.device("meta"):
        sizes = {
            name: (model.embedding_size, model.branches, model.unit is not None, model.generator is not None)
            for name, model in {
                "GFNet": WSLGAN(features="global"), "LFNet": WSLGAN(features="local"), "sum": WSLGAN(fusion="sum"),
                "concatenate": WSLGAN(fusion="concatenate"),
            }.items()
        }
    everything = ("eyes", "mouth", "global")
    assert sizes == {
        "GFNet": (352, ("global",), False, False), "LFNet": (352, ("eyes", "mouth"), True, True),
        "sum": (352, everything, False, True), "concatenate": (3 * 352, everything, False, True),
    }


def test_compression_and_growth_can_be_switched():
    kept = [build_backbone(1, (6, 6, 6), 32, compression)[1] for compression in (0.5, 1.0)]
    assert kept == [352, 64 + 3 * 6 * 32]
    assert build_backbone(3, (2, 2), 12, 0.5)[1] == (24 + 24) // 2 + 24


# -- beside plain implementations -----------------------------------------------------------------------------------------


def test_the_backbone_is_torchvisions():
    channels = build_backbone(1, (2, 3, 1), 4, 0.5)[1]
    model = AttributeNetwork(input_size=16, layers=(2, 3, 1), growth=4)
    assert channels == model.embedding_size
    stir(model)
    theirs = DenseNet(growth_rate=4, block_config=(2, 3, 1), num_init_features=8, num_classes=2).features
    theirs.conv0, theirs.norm0, theirs.relu0, theirs.pool0 = nn.Conv2d(1, 8, 3, padding=1, bias=False), *(nn.Identity() for _ in range(3))
    own = model.body.state_dict()
    assert len(own) == len(theirs.state_dict())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own.values(), strict=True)))
    torch.testing.assert_close(model.body(images()), theirs.eval()(images()).relu())


def test_a_map_is_the_weighted_sum_of_the_last_maps():
    model = stir(AttributeNetwork(**TINY))
    faces = images()
    with torch.no_grad():
        last, scores = model.body(faces), model(faces)  # [B, C, H, W], [B, 2]
        weight, bias = model.classifier.weight, model.classifier.bias
        expected = {"predicted": torch.zeros(6, 4, 4), "positive": torch.zeros(6, 4, 4)}
        for i in range(6):
            for channel in range(model.embedding_size):
                expected["predicted"][i] += weight[int(scores[i].argmax()), channel] * last[i, channel]
                expected["positive"][i] += weight[1, channel] * last[i, channel]
        for evidence, maps in expected.items():
            found = model.compute_evidence(faces, evidence)
            torch.testing.assert_close(found, maps)
        torch.testing.assert_close(found.mean((1, 2)) + bias[1], scores[:, 1])
        torch.testing.assert_close(expected["predicted"].mean((1, 2)) + bias[scores.argmax(1)], scores.amax(1))


def test_maps_are_brought_to_their_range():
    maps = torch.stack([torch.tensor([[-3.0, 1.0], [0.0, 5.0]]), torch.full((2, 2), 7.0)])
    assert torch.equal(normalise_maps(maps), torch.tensor([[[0, 0.5], [0.375, 1]], [[0, 0], [0, 0]]]))


def test_bilinear_attention_pooling_is_that_of_whole_maps():
    generator = torch.Generator().manual_seed(0)
    features, maps = torch.rand(2, 5, 3, 4, generator=generator), torch.rand(2, 2, 3, 4, generator=generator)
    expected = torch.zeros(2, 2, 5)
    for b in range(2):
        for p in range(2):
            for c in range(5):
                expected[b, p, c] = (maps[b, p] * features[b, c]).mean()
    torch.testing.assert_close(pool_attended(features, maps), expected)


def test_the_unit_is_equations_5_to_9():
    """On whole maps, channel by channel, as the paper writes it; ours works on their means."""
    unit = SelectiveFeatureUnit(32, 3)
    nn.init.uniform_(unit.squeeze[1].bias, 1, 2)  # else the rectifier may leave nothing of two numbers
    unit.eval()
    maps = torch.rand(4, 3, 32, 5, 5)  # eyes, mouth, whole face
    squeeze, norm = unit.squeeze[0].weight, unit.squeeze[1]
    union = maps[:, 0] + maps[:, 1] + maps[:, 2]
    compact = batch_norm(union.mean((2, 3)) @ squeeze.T, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()  # [B, d]
    assert compact.shape == (4, 2)
    eyes, mouth, whole = (matrix.weight for matrix in unit.select)
    fused = torch.zeros(4, 32, 5, 5)
    for b in range(4):
        for c in range(32):
            powers = [torch.exp(matrix[c] @ compact[b]) for matrix in (eyes, mouth, whole)]
            e, m, g = (power / sum(powers) for power in powers)
            fused[b, c] = e * maps[b, 0, c] + m * maps[b, 1, c] + g * maps[b, 2, c]
    found, weights = unit(maps.mean((3, 4)))
    torch.testing.assert_close(found, fused.mean((2, 3)))
    torch.testing.assert_close(weights.sum(1), torch.ones(4, 32))
    assert weights.shape == (4, 3, 32) and weights.std(0).min() > 0, "each face has weights of its own"


@pytest.mark.parametrize("options", [{}, {"features": "global"}, {"features": "local"}, {"fusion": "sum"}, {"fusion": "concatenate"}])
def test_the_network_is_its_parts_on_whole_maps(options):
    model = stir(WSLGAN(**SMALL, **options))
    faces = images()
    with torch.no_grad():
        outputs, maps = model.compute_outputs(faces), model.body(faces)
        streams = {"global": maps}
        if model.generator is not None:
            for i, part in enumerate(("eyes", "mouth")):
                attention = normalise_maps(getattr(model.generator, part).compute_evidence(faces))
                torch.testing.assert_close(outputs["maps"][:, i], attention)
                streams[part] = attention[:, None] * maps
        stacked = torch.stack([streams[name] for name in model.branches], dim=1)  # [B, P, C, H, W]
        if options.get("fusion") == "concatenate":
            fused = stacked.flatten(1, 2)
        elif model.unit is None:
            fused = stacked.sum(1)
        else:
            fused = (stacked * outputs["weights"][..., None, None]).sum(1)
        features = fused.mean((2, 3))
        torch.testing.assert_close(outputs["features"], features)
        torch.testing.assert_close(model.embed(faces), features)
        torch.testing.assert_close(model(faces), outputs["scores"])
        torch.testing.assert_close(outputs["scores"], model.classifier(features))
        for name in model.branches:
            torch.testing.assert_close(outputs[name], model.auxiliary[name](streams[name].mean((2, 3))))
    named = {"features", "scores", *model.branches} | ({"maps"} if model.generator else set()) | ({"weights"} if model.unit else set())
    assert set(outputs) == named


# -- how it is used -------------------------------------------------------------------------------------------------------


def test_one_image_is_enough_to_predict():
    """A stream alone gives what it gives beside its twin."""
    model = stir(WSLGAN(**SMALL))
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([model(image[None]) for image in images()]), model(images()))


def test_the_generator_stays_as_it_is_in_training_mode():
    model = WSLGAN(**SMALL)
    for switch in (lambda: model.train(), lambda: set_training_mode(model)):
        switch()
        assert model.training and model.unit.training and not any(module.training for module in model.generator.modules())
        before = {name: value.clone() for name, value in model.generator.state_dict().items()}
        model.compute_outputs(images())["scores"].sum().backward()
        assert all(torch.equal(value, before[name]) for name, value in model.generator.state_dict().items())
    assert all(parameter.grad is None for parameter in model.generator.parameters())
    assert all(parameter.grad is not None for parameter in model.body.parameters())


def test_trained_branches_are_taken_over(tmp_path):
    eyes, mouth = (stir(AttributeNetwork(input_size=16, layers=(1, 1, 2), growth=4)) for _ in range(2))
    model = WSLGAN(**SMALL)
    model.set_branches(eyes, mouth)
    model.eval()
    with torch.no_grad():
        expected = torch.stack([normalise_maps(branch.compute_evidence(images())) for branch in (eyes, mouth)], dim=1)
        torch.testing.assert_close(model.generator(images()), expected)
    WSLGAN(**SMALL, features="global").set_branches(eyes, mouth)
    save_checkpoint(model, tmp_path / "net.safetensors", half=False)
    again, _ = load_checkpoint(tmp_path / "net.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(images()), model(images()))
    wrong = AttributeNetwork(input_size=16, layers=(1, 1, 1), growth=4)
    with pytest.raises(ValueError, match=r"the branch of the mouth has layers=\[1, 1, 1\]; expected \[1, 1, 2\], this network's"):
        model.set_branches(eyes, wrong)


def test_maps_can_be_given():
    model = stir(WSLGAN(**SMALL))
    with torch.no_grad():
        own = model.compute_outputs(images())
        torch.testing.assert_close(model.compute_outputs(images(), own["maps"])["scores"], own["scores"])
        flat = model.compute_outputs(images(), torch.ones(6, 2, 4, 4))
        pooled, _ = model.compute_branches(images(), torch.ones(6, 2, 4, 4))
    torch.testing.assert_close(pooled[:, 0], pooled[:, 2])
    assert not torch.allclose(flat["scores"], own["scores"])


def test_one_seed_starts_all_methods_alike():
    """Feature Extractors are equal, whatever is behind them."""
    models = [build_model("ws_lgan", seed=5, **SMALL, **options) for options in ({}, {"features": "global"}, {"fusion": "sum"})]
    states = [model.body.state_dict() for model in models]
    assert all(torch.equal(value, state[name]) for state in states[1:] for name, value in states[0].items())
    generators = [models[i].generator.state_dict() for i in (0, 2)]
    assert all(torch.equal(value, generators[1][name]) for name, value in generators[0].items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WSLGAN(**SMALL, features="eyes"), r"features must be one of 'both', 'global', 'local', got 'eyes'"),
        (lambda: WSLGAN(**SMALL, fusion="max"), r"fusion must be one of 'select', 'sum', 'concatenate', got 'max'"),
        (lambda: WSLGAN(**SMALL, evidence="all"), r"evidence must be one of 'predicted', 'positive', got 'all'"),
        (lambda: WSLGAN(**{**SMALL, "embedding": 0}), r"embedding must be at least 1, got 0"),
        (lambda: WSLGAN(**{**SMALL, "amg_layers": (1, 1)}), r"both backbones need as many blocks"),
        (lambda: WSLGAN(**{**SMALL, "input_size": 18}), r"must be a multiple of 4, which 3 blocks with transitions need, got 18"),
        (lambda: WSLGAN(**{**SMALL, "growth": 0}), r"growth of at least 1 .* got layers=\[1, 2, 1\], growth=0"),
        (lambda: WSLGAN(**SMALL, compression=1.5), r"compression above 0 and at most 1"),
        (lambda: AttributeNetwork(num_classes=3), r"tells two classes apart, an attribute and none, got num_classes=3"),
        (lambda: AttributeNetwork(**TINY).compute_evidence(images(), "negative"), r"evidence must be one of 'predicted', 'positive'"),
        (lambda: AttributeNetwork(**TINY).compute_evidence(images(2, 20)), r"takes images \[B, 1, 16, 16\], got \[2, 1, 20, 20\]"),
        (lambda: WSLGAN(**SMALL)(images(2, 20)), r"takes images \[B, 1, 16, 16\]"),
        (lambda: WSLGAN(**SMALL).compute_outputs(images(), torch.ones(6, 3, 4, 4)), r"maps of eyes and mouth, got \[6, 3, 4, 4\]"),
        (lambda: WSLGAN(**SMALL).compute_outputs(images(), torch.ones(6, 2, 8, 8)), r"must be \[6, P, 4, 4\], got \[6, 2, 8, 8\]"),
        (lambda: SelectiveFeatureUnit(0), r"must be at least 1, got 0, 3 and 16"),
    ],
)
def test_errors_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_of_the_unit_start_free():
    """Neither even nor decided: a softmax over three numbers of the size of features."""
    weights = WSLGAN(**SMALL).train().compute_outputs(images(32))["weights"].detach().numpy()
    assert np.abs(weights.mean((0, 2)) - 1 / 3).max() < 0.25 and weights.max() < 0.999
