from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import correlate2d
from scipy.special import expit

from fer_utils.papers.daf_cnn.backend import keras
from fer_utils.papers.daf_cnn.model import ChannelAttention, SpatialAttention, attend, build_daf_cnn, copy_layers

SMALL = {"input_size": 24, "image_size": 27, "width": 0.0625, "pools": 2, "embedding_size": 16}
MAPS = np.random.default_rng(0).normal(size=(3, 5, 6, 16)).astype("float32")


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


def count_weights(channels, in_channels=1, convolutions=(3, 3, 4, 4, 4)):
    """Of the convolutions."""
    wide = [in_channels, *(wide for wide, count in zip(channels, convolutions, strict=True) for _ in range(count))]
    return sum(9 * a * b for a, b in pairwise(wide))


# -- attention against plain NumPy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_channel_attention(output):
    layer = ChannelAttention(8, output, seed=1)
    found = numpy_of(layer(MAPS))
    assert found.shape == (3, 1, 1, 16) == layer.compute_output_shape(MAPS.shape)
    w1, b1, w2, b2 = (numpy_of(weight).astype(float) for weight in layer.weights)
    assert w1.shape == (16, 2) and w2.shape == (2, 16)

    def net(values):
        scores = np.maximum(values @ w1 + b1, 0) @ w2 + b2
        return expit(scores) if output == "sigmoid" else scores

    wanted = expit(net(MAPS.mean((1, 2))) + net(MAPS.max((1, 2))))
    np.testing.assert_allclose(found[:, 0, 0], wanted, atol=1e-6)
    if output == "sigmoid":
        assert found.min() > 0.5 and found.max() < expit(2), "a sigmoid around sigmoids leaves half of the range"


def test_spatial_attention_over_channels():
    layer = SpatialAttention(7, seed=2)
    found = numpy_of(layer(MAPS))
    assert found.shape == (3, 5, 6, 1) == layer.compute_output_shape(MAPS.shape)
    kernel, bias = (numpy_of(weight).astype(float) for weight in layer.weights)
    assert kernel.shape == (7, 7, 2, 1)
    for face, own in zip(MAPS, found, strict=True):
        pooled = (face.mean(2), face.max(2))
        scores = sum(correlate2d(one, kernel[:, :, i, 0], mode="same") for i, one in enumerate(pooled)) + bias
        np.testing.assert_allclose(own[..., 0], expit(scores), atol=1e-6)


def test_spatial_attention_along_the_width():
    """The paper's words: mean and maximum over the width, side by side along the width; so each row gets one weight."""
    layer = SpatialAttention(7, "width", seed=2)
    found = numpy_of(layer(MAPS))
    assert found.shape == (3, 5, 1, 1) == layer.compute_output_shape(MAPS.shape)
    kernel, bias = (numpy_of(weight).astype(float) for weight in layer.weights)
    assert kernel.shape == (7, 7, 16, 1)
    for face, own in zip(MAPS, found, strict=True):
        joined = np.pad(np.stack([face.mean(1), face.max(1)], 1), ((3, 3), (2, 3), (0, 0)))  # [5 + 6, 2 + 5, C]
        scores = [(joined[row : row + 7] * kernel[..., 0]).sum() for row in range(5)]
        np.testing.assert_allclose(own[:, 0, 0], expit(np.array(scores) + bias), atol=1e-6)


@pytest.mark.parametrize("mode", ["cascaded", "parallel"])
def test_the_attentions_weigh_in_their_order(mode):
    channel, spatial = ChannelAttention(seed=1), SpatialAttention(seed=2)
    inputs = keras.Input((5, 6, 16))
    found = numpy_of(keras.Model(inputs, attend(inputs, mode, channel, spatial))(MAPS))
    weighted = MAPS * numpy_of(channel(MAPS))
    places = numpy_of(spatial(weighted if mode == "cascaded" else MAPS))
    np.testing.assert_allclose(found, weighted * places, atol=1e-6)


def test_few_channels_still_have_a_network():
    assert ChannelAttention(8)(MAPS[..., :3]).shape == (3, 1, 1, 3)


# -- the network ----------------------------------------------------------------------------------------------------------


def test_shapes_and_counts():
    network = build_daf_cnn(**SMALL)
    images = np.zeros((2, 27, 27, 1), "uint8")
    found = network(images)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"embedding": (2, 16), "scores": (2, 7), "softmax": (2, 7)}
    np.testing.assert_allclose(numpy_of(found["softmax"]).sum(1), 1, atol=1e-6)
    wide = [4, 8, 16, 32, 32]
    normalised = sum(4 * w * n for w, n in zip(wide, (3, 3, 4, 4, 4), strict=True))
    attention = (32 * 4 + 4) + (4 * 32 + 32) + (7 * 7 * 2 + 1)
    dense = (6 * 6 * 32 * 32 + 32) + (32 * 16 + 16) + (16 * 7 + 7)
    assert network.count_params() == count_weights(wide) + normalised + attention + dense
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in network.layers) == 18
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers) == 18
    assert [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]


def test_vgg_s_widths_have_20_million_weights():
    assert count_weights((64, 128, 256, 512, 512), 3) == pytest.approx(20.2e6, rel=2e-3)


@pytest.mark.parametrize(("pools", "side"), [(5, 3), (4, 6), (3, 12), (0, 96)])
def test_how_many_pools_leave_how_much(pools, side):
    """After five halvings a kernel of 7x7 meets maps of 3x3."""
    network = build_daf_cnn(convolutions=(1,) * 5, channels=(1,) * 5, pools=pools, dense=2, embedding_size=2)
    assert network.get_layer("spatial_attention").input.shape[1:3] == (side, side)


@pytest.mark.parametrize(("switch", "fewer"), [({"attention": None}, 391), ({"attention": "parallel"}, 0), ({"pool_over": "width"}, -1470)])
def test_switches(switch, fewer):
    """Without attention a network is as it was but for the attentions; over the width, the kernel has the maps' 32 channels, not 2."""
    whole, other = build_daf_cnn(**SMALL), build_daf_cnn(**SMALL, **switch)
    assert whole.count_params() - other.count_params() == fewer
    names = [layer.name for layer in other.layers]
    assert ("channel_attention" in names) == (switch.get("attention", "cascaded") is not None)
    first = "block1_convolution1"
    np.testing.assert_array_equal(whole.get_layer(first).get_weights()[0], other.get_layer(first).get_weights()[0])


def test_a_seed_is_a_network():
    first, same, other = (build_daf_cnn(**SMALL, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    drawn = [not np.array_equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1]
    assert all(drawn) and len({a.tobytes() for a in first if a.ndim > 1}) == len(drawn), "each layer draws its own"


@pytest.mark.parametrize("attention", ["cascaded", "parallel", None])
def test_a_saved_network_is_the_same(tmp_path, attention):
    network = build_daf_cnn(**SMALL, attention=attention, net_output="sigmoid", pool_over="width", kernel_size=3, reduction=4)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    images = np.random.default_rng(0).integers(0, 255, (2, 27, 27, 1), dtype=np.uint8)
    for name, value in network(images).items():
        np.testing.assert_array_equal(numpy_of(value), numpy_of(loaded(images)[name]))
    for layer in (layer for layer in network.layers if "attention" in layer.name or layer.name == "crop_and_flip"):
        assert loaded.get_layer(layer.name).get_config() == layer.get_config()


def test_weights_of_each_face_can_be_read():
    network = build_daf_cnn(**SMALL)
    looked = keras.Model(network.input, [network.get_layer(f"{kind}_attention").output for kind in ("channel", "spatial")])
    channel, spatial = looked(np.zeros((2, 27, 27, 1), "uint8"))
    assert tuple(channel.shape) == (2, 1, 1, 32) and tuple(spatial.shape) == (2, 6, 6, 1)


def test_the_softmax_of_the_second_stage_is_its_own():
    source, target = build_daf_cnn(**SMALL, seed=1), build_daf_cnn(6, **SMALL, seed=2)
    own = target.get_layer("scores").get_weights()
    copy_layers(source, target)
    for layer in target.layers:
        wanted = own if layer.name == "scores" else source.get_layer(layer.name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), wanted, strict=True))
    with pytest.raises(ValueError, match=r"the layer 'embedding' has weights of \[\(32, 8\), \(8,\)\], the source's are \[\(32, 16\)"):
        copy_layers(source, build_daf_cnn(**{**SMALL, "embedding_size": 8}))
    with pytest.raises(ValueError, match=r"the layer 'channel_attention' has weights of .*, the source's are missing"):
        copy_layers(build_daf_cnn(**SMALL, attention=None), target)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attention": "both"}, r"attention must be one of 'cascaded', 'parallel', None, got 'both'"),
        ({"net_output": "relu"}, r"net_output must be one of 'linear', 'sigmoid', got 'relu'"),
        ({"pool_over": "height"}, r"pool_over must be one of 'channels', 'width', got 'height'"),
        ({"reduction": 0}, r"reduction must be at least 1, got 0"),
        ({"kernel_size": 0}, r"kernel_size must be at least 1, got 0"),
        ({"image_size": 20}, r"image_size must be at least input_size \(24\), got 20"),
        ({"in_channels": 2}, r"in_channels must be 1 or 3, got 2"),
        ({"convolutions": (3, 3)}, r"each block needs convolutions and channels, at least 1 each, got \(3, 3\) and \(64, "),
        ({"pools": 6}, r"pools must be 0 to 5, one a block at most, got 6"),
        ({"pools": 5, "input_size": 24}, r"5 pools need an input_size of at least 32, got 24"),
        ({"dropout": 1.0}, r"a dropout from 0 and below 1, got .*dropout=1\.0"),
        ({"embedding_size": 0}, r"1 output of each dense layer, .* got .*embedding_size=0"),
        ({"width": 0}, r"width must be positive, got 0"),
    ],
)
def test_what_does_not_fit_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        build_daf_cnn(**{**SMALL, **wrong})


@pytest.mark.parametrize("layer", [ChannelAttention(), SpatialAttention()])
def test_attention_needs_maps(layer):
    with pytest.raises(ValueError, match=r"attention needs maps \[B, H, W, C\], got the shape \[3, 16\]"):
        layer(MAPS[:, 0, 0])
