"""The networks: Table 1's shapes and counts, equality with a plain form, and what a start, a cut or a second stage leaves as it is."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import conv2d, linear, max_pool2d

from fer_utils.models import build_model, load_face_network
from fer_utils.models.vgg_face import LAYERS, MEAN
from fer_utils.papers.dam_cnn.model import DAMCNN, MPAE, Serd, SerdNetwork, UpperPart, load_trunk
from fer_utils.training import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"trunk": "vgg_face", "width": 1 / 64, "input_size": 64, "num_classes": 4}


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def shapes(outputs):
    return {name: tuple(value.shape) for name, value in outputs.items()}


# -- Table 1 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("paths", "millions"), [(2, 325), (3, 428), (4, 531), (5, 634)])
def test_table_1_at_full_width(paths, millions):
    with torch.device("meta"):
        model = build_model("dam_cnn", paths=paths)
        outputs = shapes(model.compute_outputs(torch.empty(2, 3, 224, 224)))
    mpae = model.mpae
    assert outputs == {
        "maps": (2, 512, 7, 7), "mask": (2, 1, 7, 7), "salient": (2, 512, 7, 7), "representation": (2, 4096),
        "reconstructions": (2, paths, 512, 7, 7), "features": (2, 4096), "scores": (2, 7),
    }
    assert mpae.encoder.weight.shape == (4096, 25088)
    assert [decoder.weight.shape for decoder in mpae.decoders] == [(25088, 4096)] * paths
    assert model.serd.attention.weight.shape == (1, 512, 1, 1) and count(model.serd) == 513
    assert count(mpae.encoder) == 4096 * 25088 + 4096 and count(mpae.decoders[0]) == 4096 * 25088 + 25088
    assert count(model.hidden, model.classifier) == 4096 * 4096 + 4096 + 4096 * 7 + 7
    assert round(count(model.second_stage()) / 1e6) == millions
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.trunk) == 13, "not 16, as section 3.1 says"
    assert count(model.trunk) == 14_714_688


def test_vgg_serd_at_full_width():
    with torch.device("meta"):
        outputs = shapes(build_model("serd_network").compute_outputs(torch.empty(1, 3, 224, 224)))
        plain = build_model("serd_network", attention=False)
        assert "mask" not in plain.compute_outputs(torch.empty(1, 3, 224, 224))
        assert count(plain) == count(build_model("vgg_face", num_classes=7)), "Table 2's other column is VGG-Face itself"
    assert outputs["maps"] == (1, 512, 7, 7) and outputs["features"] == (1, 4096)


def test_what_a_convolutional_decoder_saves():
    with torch.device("meta"):
        dense, convolutional = (DAMCNN(paths=5, decoder=decoder).second_stage() for decoder in ("dense", "convolutional"))
        small = MPAE(128, 8, 512, 2, "convolutional")
    assert count(convolutional.mpae.decoders[0]) == 256 * 512 * 3 * 3 + 512
    assert count(dense.mpae.decoders[0]) / count(convolutional.mpae.decoders[0]) == pytest.approx(87.1, abs=0.05)
    assert [round(count(net) / 1e6) for net in (dense, convolutional)] == [634, 125]
    assert count(small.decoders[0]) == 32 * 128 * 4 * 4 + 128


@pytest.mark.parametrize("side", [1, 2, 5, 7, 8])
def test_a_convolutional_decoder_gives_maps_of_its_side(side):
    mpae = MPAE(3, side, 2 * ((side + 1) // 2) ** 2, 2, "convolutional")
    assert mpae.decode(mpae.encode(torch.rand(4, 3, side, side))).shape == (4, 2, 3, side, side)


# -- equality with a plain form ---------------------------------------------------------------------------------------------


def test_serd_is_equations_1_and_2():
    serd, maps = Serd(5), torch.rand(3, 5, 4, 4)
    nn.init.normal_(serd.attention.weight, std=2)
    nn.init.constant_(serd.attention.bias, -float(serd.attention.weight.detach().sum()) / 2)  # so that places on both sides of 0 are there
    kernel, bias = serd.attention.weight[0, :, 0, 0], serd.attention.bias
    mask, salient = serd(maps)
    for image in range(3):
        for row in range(4):
            for column in range(4):
                weight = torch.tanh(kernel @ maps[image, :, row, column] + bias)
                torch.testing.assert_close(mask[image, :, row, column], weight)
                torch.testing.assert_close(salient[image, :, row, column], (weight * maps[image, :, row, column]).clamp_min(0))
    assert (mask < 0).any() and (salient[(mask < 0).expand_as(salient)] == 0).all()


def test_the_whole_network_is_the_papers():
    model = DAMCNN(**TINY, hidden=16, paths=3).eval()
    nn.init.normal_(model.serd.attention.weight)
    model.mpae.ceiling.copy_(torch.rand_like(model.mpae.ceiling) + 0.5)
    images = torch.rand(2, 3, 64, 64)
    outputs = model.compute_outputs(images)
    maps = images * 255 - torch.tensor(MEAN).view(3, 1, 1)
    for layer in model.trunk:
        if isinstance(layer, nn.Conv2d):
            maps = conv2d(maps, layer.weight, layer.bias, padding=1).clamp_min(0)
        elif isinstance(layer, nn.MaxPool2d):
            maps = max_pool2d(maps, 2)
    mask = torch.tanh(conv2d(maps, model.serd.attention.weight, model.serd.attention.bias))
    salient = (mask * maps).clamp_min(0)
    mpae = model.mpae
    hidden = torch.sigmoid((salient / mpae.ceiling).flatten(1) @ mpae.encoder.weight.T + mpae.encoder.bias)
    made = torch.stack([torch.sigmoid(linear(hidden, decoder.weight, decoder.bias)) for decoder in mpae.decoders], 1)
    features = linear(hidden, model.hidden[0].weight, model.hidden[0].bias).clamp_min(0)
    scores = linear(features, model.classifier.weight, model.classifier.bias)
    expected = {
        "maps": maps, "mask": mask, "salient": salient, "representation": hidden, "reconstructions": made.view(2, 3, 8, 2, 2),
        "features": features, "scores": scores,
    }
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(images), scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.second_stage().eval().compute_outputs(salient)["scores"], scores, rtol=1e-4, atol=1e-5)


def test_a_convolutional_decoder_is_a_transposed_convolution():
    mpae = MPAE(3, 5, 18, 1, "convolutional").eval()
    hidden = torch.rand(2, 18)
    layer = mpae.decoders[0].layer
    expected = layer.bias.view(3, 1, 1).expand(2, 3, 7, 7).clone()
    maps = hidden.view(2, 2, 3, 3)
    for row in range(3):
        for column in range(3):
            expected[..., 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += torch.einsum(
                "bi,iohw->bohw", maps[:, :, row, column], layer.weight
            )
    torch.testing.assert_close(mpae.decode(hidden)[:, 0], torch.sigmoid(expected[..., 1:-1, 1:-1]))


# -- trunks ---------------------------------------------------------------------------------------------------------------


def test_the_mask_starts_open_in_every_place():
    network = build_model("serd_network", seed=0, trunk="face_network")
    load_trunk(network)
    mask = network.eval().compute_outputs(torch.rand(4, 3, 150, 150))["mask"]
    assert mask.min() > 0.5 and mask.max() < 0.95


def test_the_face_network_with_an_open_mask_is_itself():
    network = build_model("serd_network", seed=0, trunk="face_network", num_classes=4).eval()
    load_trunk(network)
    nn.init.zeros_(network.serd.attention.weight)
    nn.init.constant_(network.serd.attention.bias, 20)
    images = torch.rand(2, 3, 150, 150)
    with torch.no_grad():
        outputs, stages = network.compute_outputs(images), load_face_network().compute_stages(images)
    assert outputs["maps"].shape == (2, 128, 8, 8)
    torch.testing.assert_close(outputs["maps"], stages["stage_128"])
    torch.testing.assert_close(outputs["features"], stages["descriptor"])
    part = UpperPart(network, "stage_64").eval()
    torch.testing.assert_close(part.compute_outputs(stages["stage_64"])["scores"], outputs["scores"])
    assert part.serd is network.serd and next(part.parameters()) is network.trunk.stage_128[0].first.weight


def test_vgg_face_from_the_readers_file(tmp_path):
    network = SerdNetwork(**TINY, attention=True)
    before = network.classifier.weight.clone()
    layers = [layer for layer in (*network.trunk, *network.head) if isinstance(layer, nn.Conv2d | nn.Linear)]
    tensors = {}
    for name, layer in zip(LAYERS, layers, strict=False):
        tensors |= {f"{name}.weight": torch.randn_like(layer.weight), f"{name}.bias": torch.randn_like(layer.bias)}
    path = tmp_path / "vgg.safetensors"
    save_file(tensors, path)
    load_trunk(network, path, channels="rgb")
    assert len(layers) == 15
    for name, layer in zip(LAYERS, layers, strict=False):
        assert torch.equal(layer.weight, tensors[f"{name}.weight"]) and layer.weight.device.type == "cpu"
    assert torch.equal(network.classifier.weight, before)


def test_a_shipped_network_comes_back(tmp_path):
    for model in (SerdNetwork(**TINY), SerdNetwork(**TINY, attention=False), DAMCNN(**TINY, hidden=12, paths=2, decoder="convolutional")):
        save_checkpoint(model, tmp_path / "model.safetensors", half=False)
        again, _ = load_checkpoint(tmp_path / "model.safetensors")
        images = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(again(images), model.eval()(images))


def test_stage_two_takes_over_the_trunk_and_the_mask():
    first, second = SerdNetwork(**TINY), DAMCNN(**TINY, hidden=16, paths=2)
    second.start_from(first, torch.full((8, 1, 1), 3.0))
    images = torch.rand(2, 3, 64, 64)
    for name in ("maps", "mask", "salient"):
        assert torch.equal(second.eval().compute_outputs(images)[name], first.eval().compute_outputs(images)[name])
    frozen = {name.split(".")[0] for name, value in second.named_parameters() if not value.requires_grad}
    trained = {name.split(".")[0] for name, value in second.named_parameters() if value.requires_grad}
    assert (frozen, trained) == ({"trunk", "serd"}, {"mpae", "hidden", "classifier"})
    assert first.trunk[1].weight is not second.trunk[1].weight and (second.mpae.ceiling == 3).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SerdNetwork(trunk="resnet"), r"trunk must be one of vgg_face, face_network, got 'resnet'"),
        (lambda: SerdNetwork(trunk="face_network", width=0.5), r"has one width; expected width=1, got 0.5"),
        (lambda: MPAE(3, 2, 8, 0), r"of at least 1, got channels=3, side=2, hidden=8, paths=0"),
        (lambda: MPAE(3, 2, 8, 2, "sparse"), r"decoder must be one of dense, convolutional, got 'sparse'"),
        (lambda: MPAE(3, 7, 20, 2, "convolutional"), r"hidden to be a multiple of 16 for maps of 7x7, got 20"),
        (lambda: MPAE(3, 2, 8).encode(torch.rand(1, 3, 4, 4)), r"takes salient features \[B, 3, 2, 2\], got \[1, 3, 4, 4\]"),
        (lambda: SerdNetwork(**TINY).compute_outputs(torch.rand(1, 3, 32, 32)), r"takes images \[B, 3, 64, 64\], got"),
        (lambda: DAMCNN(**TINY, hidden=8)(torch.rand(1, 3, 32, 32)), r"takes images \[B, 3, 64, 64\], got"),
        (lambda: load_trunk(SerdNetwork(**TINY)), r"VGG-Face takes the path of its weights, got None"),
        (lambda: load_trunk(SerdNetwork(trunk="face_network"), "x.pth"), r"weights ship, and take no path, got x.pth"),
        (lambda: UpperPart(SerdNetwork(**TINY), "stem"), r"stage must be one of stem, .*, stage_128 of the face network, got 'stem'"),
        (lambda: UpperPart(SerdNetwork(trunk="face_network"), "stage_256"), r"got 'stage_256' of face_network"),
        (
            lambda: DAMCNN(**TINY, hidden=8).start_from(SerdNetwork(**TINY, attention=False), torch.ones(8, 1, 1)),
            r"starts from a network of trunk='vgg_face', width=0.015625, input_size=64, attention=True, got .*attention=False",
        ),
        (lambda: DAMCNN(**TINY, hidden=8).start_from(SerdNetwork(**TINY), torch.zeros(8, 1, 1)), r"ceiling must be positive, \[8, 1, 1\]"),
    ],
)
def test_errors_name_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
