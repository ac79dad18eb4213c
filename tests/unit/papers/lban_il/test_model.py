"""LBAN: the counts of Table 2, the fixed filters, and each layer against a plain rewriting of it."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, conv_transpose2d, linear, max_pool2d
from torchvision.models import resnet18

from fer_utils.experiments.published import load_published
from fer_utils.models import build_model
from fer_utils.papers.lban_il.model import LBAB, LBAN, LBSL, READINGS, VARIANTS, LocalBinaryConv2d, SlimVGG, count_learnable
from fer_utils.training import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"width": 0.06, "input_size": 24, "features": 9}
ROWS = ("LBC", "LBCNN", "SC + STD Conv", "SC + STD Conv + SK CONN", "LBAN")


def on_paper(**options):
    """A network that takes no memory."""
    with torch.device("meta"):
        return LBAN(**options)


def millions(model):
    return round(count_learnable(model) / 1e6, 1)


# -- Table 2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [True, False])
def test_all_five_counts_of_table_2(normalise):
    printed = load_published("lban-il").item("table-2-parameters").rows
    assert {row: (millions(on_paper(variant=row, normalise=normalise)),) for row in ROWS} == {row: printed[row] for row in ROWS}


def test_the_counts_to_the_last_weight():
    exact = {row: count_learnable(on_paper(variant=row, normalise=False)) for row in ROWS}
    assert exact == dict(zip(ROWS, (16_706_247, 18_008_775, 29_424_327, 30_726_855, 19_778_247), strict=True))
    assert {count_learnable(on_paper(variant=row)) - exact[row] for row in ROWS} == {15_616 + 256}
    assert sum(buffer.numel() for name, buffer in on_paper().named_buffers() if name.endswith("filters")) == exact[ROWS[3]] - exact["LBAN"]


def test_the_text_gives_other_counts():
    counts = {row: millions(on_paper(variant=row, reading="text")) for row in ROWS}
    assert counts == dict(zip(ROWS, (3.3, 4.8, 17.7, 19.2, 12.8), strict=True))
    assert millions(on_paper(variant="SC + STD Conv", reading="text", normalise=False)) == 17.6


def test_the_counts_of_the_backbones():
    """Table 2's ResNet18 is the one with the 1,000 classes of ImageNet; all else of it is ours."""
    printed = load_published("lban-il").item("table-2-parameters").rows
    with torch.device("meta"):
        slim, residual, whole = SlimVGG(), build_model("resnet", in_channels=3, input_size=80), resnet18()
    assert (millions(slim), millions(whole)) == (printed["VGG19"][0], printed["ResNet18"][0]) == (20.3, 11.7)
    assert millions(residual) == 11.2
    assert SlimVGG(width=0.05, input_size=24).eval().embed(torch.rand(2, 3, 24, 24)).shape == (2, 26)


def test_on_fer_2013_the_hidden_layer_is_smaller():
    """Of 40 pixels 5 are left, and 3 behind the pooling."""
    assert [on_paper(input_size=size).body.hidden.in_features for size in (80, 40)] == [512 * 25, 512 * 9]


@pytest.mark.parametrize("reading", READINGS)
def test_in_the_first_lbsl_the_fixed_filters_save_what_the_text_says(reading):
    """64 x 128 x 3 x 3 weights with the weight size of 128 that the text names; Table 2 needs one of 64."""
    first = on_paper(reading=reading).body.widen_1
    saved = {"text": 64 * 128 * 9, "table": 64 * 64 * 9}[reading]
    assert first.first.filters.numel() == saved
    assert count_learnable(on_paper(variant="SC + STD Conv + SK CONN", reading=reading).body.widen_1) - count_learnable(first) == saved


def test_every_row_of_tables_1_and_2_can_be_built():
    published = load_published("lban-il")
    rows = {"LBAN" if row == "LBSL + encoder-decoder" else row for row in published.item("table-1").rows}
    rows |= {row for row in published.item("table-2").rows if "VGG" not in row and "ResNet" not in row}
    assert rows == set(VARIANTS)
    for row in rows:
        model = build_model("lban", seed=0, variant=row, **SMALL).eval()
        assert model(torch.rand(2, 3, 24, 24)).shape == (2, 7)
        has_filters, has_attention = any("filters" in name for name in model.state_dict()), hasattr(model.body.block_1.attention, "weigh")
        assert has_filters == (VARIANTS[row].unit == "fixed") and has_attention == VARIANTS[row].attention
        assert any("shortcut" in name for name in model.state_dict()) == (VARIANTS[row].shortcuts and VARIANTS[row].unit != "plain")


# -- fixed filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_exact(sparsity):
    filters = LocalBinaryConv2d(20, 5, hidden_channels=30, sparsity=sparsity).filters
    assert filters.dtype == torch.int8 and filters.shape == (30, 20, 3, 3)
    assert int((filters != 0).sum()) == round((1 - sparsity) * 5400) and set(filters.unique().tolist()) <= {-1, 0, 1}
    kept = int((filters != 0).sum())
    assert abs(int(filters.sum())) < 5 * math.sqrt(kept), "signs are even"


def test_drawing_with_replacement_leaves_more_zeros():
    for sparsity in (0.1, 0.5, 0.9):
        layer = LocalBinaryConv2d(100, 5, hidden_channels=100, sparsity=sparsity, with_replacement=True)
        share = float((layer.filters != 0).double().mean())
        assert share == pytest.approx(1 - math.exp(sparsity - 1), abs=5 * 0.5 / 300)
    assert 1 - math.exp(-0.5) == pytest.approx(0.393, abs=5e-4), "39 % of the weights where half were meant"


def test_filters_are_drawn_from_the_seed_and_do_not_learn():
    first, again, other = (build_model("lban", seed=seed, **SMALL).train() for seed in (0, 0, 1))
    start = {name: buffer.clone() for name, buffer in first.named_buffers() if name.endswith("filters")}
    assert start and not any("filters" in name for name, _ in first.named_parameters())
    assert all(torch.equal(start[name], again.state_dict()[name]) for name in start)
    assert any(not torch.equal(start[name], other.state_dict()[name]) for name in start)
    optimizer = torch.optim.SGD(first.parameters(), lr=0.1, weight_decay=0.5)
    first(torch.rand(4, 3, 24, 24)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(start[name], first.state_dict()[name]) for name in start)
    assert not torch.equal(first.body.widen_1.first.mix.weight, again.body.widen_1.first.mix.weight)


@pytest.mark.parametrize("half", [True, False])
def test_filters_travel_in_a_checkpoint(tmp_path, half):
    model = build_model("lban", seed=3, **SMALL).train()
    for _ in range(30):
        model(torch.rand(8, 3, 24, 24))  # statistics
    model.eval()
    save_checkpoint(model, tmp_path / "lban.safetensors", half=half)
    torch.manual_seed(99)
    found, _ = load_checkpoint(tmp_path / "lban.safetensors")
    names = [name for name in model.state_dict() if name.endswith("filters")]
    assert len(names) == 3 + 6 + 6 and all(torch.equal(model.state_dict()[name], found.state_dict()[name]) for name in names)
    assert all(load_file(tmp_path / "lban.safetensors")[name].dtype == torch.int8 for name in names), "a byte a weight"
    images = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(found(images), model(images), rtol=0.05 if half else 0, atol=0.005 if half else 0)
    assert found.settings == model.settings


# -- each layer against a rewriting ---------------------------------------------------------------------------------------


def test_a_local_binary_convolution_is_two_convolutions():
    layer = LocalBinaryConv2d(3, 4, hidden_channels=5, stride=2)
    maps = torch.rand(2, 3, 7, 6)
    expected = torch.zeros(2, 5, 4, 3)
    padded = nn.functional.pad(maps, (1, 1, 1, 1))
    for filter, row, column in np.ndindex(5, 4, 3):
        window = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        plus, minus = (window[:, layer.filters[filter] == sign].sum(1) for sign in (1, -1))
        expected[:, filter, row, column] = plus - minus
    expected = torch.einsum("of,bfhw->bohw", layer.mix.weight[:, :, 0, 0], expected.relu())
    torch.testing.assert_close(layer(maps), expected)


def test_new_filters_are_seen_at_once():
    layer, other = LocalBinaryConv2d(3, 4), LocalBinaryConv2d(3, 4)
    maps = torch.rand(2, 3, 7, 6)
    with torch.inference_mode():
        before = layer(maps)
    layer(maps.requires_grad_()).sum().backward()
    layer.load_state_dict(other.state_dict())
    torch.testing.assert_close(layer(maps), other(maps))
    assert not torch.equal(layer(maps), before)
    torch.testing.assert_close(layer.double()(maps.double()), other(maps).double(), rtol=1e-5, atol=1e-5)
    assert layer.filters.dtype == torch.int8 and list(layer.state_dict()) == ["filters", "mix.weight"]


def normalise(maps, norm):
    return batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def rewrite_lbsl(unit, maps, stride=1):
    first = unit.first
    out = normalise(conv2d(maps, first.filters.double(), stride=stride, padding=1), first.norm).relu()
    out = normalise(conv2d(out, first.mix.weight), unit.norm)
    out = conv2d(out.relu(), unit.standard.weight, padding=1)
    return (out + conv2d(maps, unit.shortcut.weight, stride=stride)).relu()


def rewrite_attention(block, maps, samplings):
    """The encoder down, the decoder up, with the maps of the same size added on the way."""
    levels = [maps]
    for i in range(samplings):
        levels.append(rewrite_lbsl(block.encoder[i], max_pool2d(levels[-1], 2)))
    out = levels.pop()
    for i in range(samplings):
        out = conv_transpose2d(out, block.enlarge[i].weight, stride=2, padding=1) + levels.pop()
        out = rewrite_lbsl(block.decoder[i], out)
    for layer in block.weigh:
        out = conv2d(out.relu(), layer.weight)
    return out.sigmoid()


def test_the_network_is_what_the_paper_describes():
    model = LBAN(**SMALL, num_classes=5)
    for layer in model.modules():  # statistics as after some training
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2), nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5), nn.init.uniform_(layer.bias, -0.2, 0.2)
    model.eval().double()
    images = torch.rand(2, 3, 24, 24, dtype=torch.float64)
    body, found = model.body, []
    maps = normalise(conv2d(images, body.stem[0].weight, padding=1), body.stem[1]).relu()
    blocks = ((body.widen_1, body.block_1, 2, 1), (body.widen_2, body.block_2, 1, 2), (body.widen_3, body.block_3, 0, 3))
    for widen, block, samplings, forward in blocks:
        maps = rewrite_lbsl(widen, maps, stride=2)
        attention = rewrite_attention(block.attention, maps, samplings)
        assert len(block.main) == forward
        for unit in block.main:
            maps = rewrite_lbsl(unit, maps)
        maps = (1 + attention) * maps
        found.append(attention)
    assert maps.shape[-1] == 3
    pooled = avg_pool2d(maps, 2, ceil_mode=True).flatten(1)
    features = normalise(linear(pooled, body.hidden.weight, body.hidden.bias), body.norm)
    torch.testing.assert_close(model.embed(images), features)
    torch.testing.assert_close(model(images), linear(features, model.classifier.weight, model.classifier.bias))
    for ours, theirs in zip(model.attend(images), found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_plain_sum_is_a_shortcut_where_the_text_has_no_weights():
    unit = LBSL(4, 4, reading=READINGS["text"]).eval()
    maps = torch.rand(2, 4, 5, 5)
    nn.init.zeros_(unit.standard.weight)
    torch.testing.assert_close(unit(maps), maps)
    assert isinstance(unit.shortcut, nn.Identity) and LBSL(4, 5, reading=READINGS["text"]).shortcut.kernel_size == (3, 3)
    alone = LBSL(4, 4, standard=False, shortcut=False).eval()
    torch.testing.assert_close(alone(maps), alone.norm(alone.first(maps)).relu())


def test_attention_lies_between_0_and_1_at_every_pixel():
    model = LBAN(width=0.06, input_size=80).train()  # with the statistics of these images: the network has seen no others
    images = torch.rand(2, 3, 80, 80)
    maps = model.attend(images)
    assert [tuple(found.shape) for found in maps] == [(2, 8, 40, 40), (2, 15, 20, 20), (2, 31, 10, 10)]
    assert all(float(found.detach().min()) > 0 and float(found.detach().max()) < 1 for found in maps)
    assert all(float(found.detach().mean()) == pytest.approx(0.5, abs=0.1) for found in maps), "open and shut alike, to begin with"
    assert sum(isinstance(layer, LBAB) for layer in model.body) == 3
    none = LBAN(**SMALL, variant="LBSL")
    with pytest.raises(ValueError, match=r"the variant 'LBSL' has no attention; those with it are LBAN, LBCNN, LBC, SC \+ STD"):
        none.attend(torch.rand(1, 3, 24, 24))


@pytest.mark.parametrize("size", [16, 17, 23, 30, 40])
@pytest.mark.parametrize("reading", READINGS)
def test_any_size_of_image_and_channels(size, reading):
    model = LBAN(width=0.03, input_size=size, in_channels=1, reading=reading, num_classes=3)
    assert model(torch.rand(2, 1, size, size)).shape == (2, 3)
    with pytest.raises(ValueError, match=rf"lban takes images \[B, 1, {size}, {size}\], got \[1, 3, 50, 50\]"):
        model.attend(torch.rand(1, 3, 50, 50))


def test_dropout_comes_behind_the_features():
    model = LBAN(**SMALL).train()
    torch.manual_seed(0)
    features = model.embed(torch.rand(64, 3, 24, 24)).detach()
    scores = [model.classify(features) for _ in range(2)]
    assert not torch.equal(*scores) and bool((features < 0).any()) and bool((features != 0).all())
    torch.testing.assert_close(features.mean(0), torch.zeros(9), atol=1e-4, rtol=0)
    assert model.eval().embedding_size == 9 and torch.equal(model.classify(features), model.classify(features))


@pytest.mark.parametrize("normalise", [True, False])
def test_maps_start_neither_faint_nor_huge(normalise):
    model = LBAN(width=0.25, input_size=32, normalise=normalise).train()
    maps = torch.rand(16, 3, 32, 32)
    for name, layer in model.body.named_children():
        maps = layer(maps)
        size = float(maps.detach().square().mean().sqrt())
        if name == "norm" and normalise:
            assert 0.09 < size < 0.11, "features start short, so that the classifier's first steps do not overshoot"
        else:
            assert 0.2 < size < 20, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "VGG"}, "variant must be one of 'LBAN', 'LBCNN', 'LBC', .* got 'VGG'"),
        ({"reading": "both"}, "reading must be one of 'table', 'text', got 'both'"),
        ({"sparsity": 1.0}, "sparsity is the share of weights that are 0, at least 0 and below 1, got 1.0"),
        ({"sparsity": -0.1}, "sparsity is the share"), ({"features": 0}, "features must be at least 1, got 0"),
        ({"input_size": 8}, "at least 16 pixels"), ({"width": 0.0}, "width must be positive"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        build_model("lban", **{**SMALL, **options})


def test_a_local_binary_convolution_without_channels():
    with pytest.raises(ValueError, match=r"channels and a stride of at least 1, got in_channels=0, out_channels=3, hidden_channels=None"):
        LocalBinaryConv2d(0, 3)
    assert "3, 4, hidden_channels=3, stride=1, sparsity=0.5, with_replacement=False" in repr(LocalBinaryConv2d(3, 4))
