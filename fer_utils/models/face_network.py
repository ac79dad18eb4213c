"""dlib's face descriptor network, with the weights that ship: it learned from more faces than any FER dataset has.

Davis King trained it to tell people apart, and published it in 2017; ``weights/README.md`` says on whose faces. Its stages serve as a
frozen trunk, or as the start of a fine-tuning.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load
from torch import nn
from torch.nn.functional import avg_pool2d, pad, relu

from ..errors import DataError
from ..preprocess import align_faces
from .base import FaceModel, initialise
from .registry import build_model, register_model

__all__ = ["FACE_TEMPLATE", "STAGES", "FaceNetwork", "align_for_face_network", "load_face_network"]

#: Parts of the network, in order.
STAGES = ("stem", "stage_32", "stage_64", "stage_128", "stage_256", "stage_out", "descriptor")

#: Where the eyes' centres, the nose tip and the mouth corners lie in a face of 100x100 as dlib crops it: dlib's mean of 68 points (the
#: eye's six averaged), with its padding of a quarter of the face on each side.
FACE_TEMPLATE = np.array([[31.699, 31.066], [66.984, 31.066], [49.342, 51.042], [33.610, 68.682], [65.074, 68.682]], dtype=np.float32)

# Mean of the training images (RGB, 0 to 255) and the scale, both as the file of dlib has them.
_MEAN, _SCALE = (122.782, 117.001, 104.298), 256.0
_INPUT_SIZE = 150
# Below it the last 3x3 convolutions without margin have fewer than three pixels to stand on.
_SMALLEST = 103

_WEIGHTS = Path(__file__).parent / "weights" / "face_network.safetensors"
#: Of the file that ships: :mod:`~fer_utils.models.dlib_weights` wrote it.
_SHA256 = "906580bd3cdf1cdabc2890fb55e24d85e64036c4342ecc9a857602318d78c3a1"


class _Centre(nn.Module):
    """Images from 0 to 1 to the scale on which the network was trained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * 255 - self.mean) / _SCALE


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``relu(second(relu(first(x))) + x)``.

    With ``down`` the first has stride 2 and no margin, and the shortcut is the mean of 2x2 pixels. Sides may then differ by one pixel, and
    channels by any number: the smaller one is filled with zeros at the right, at the bottom and in the last channels, as in dlib.
    """

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found = self.second(relu(self.first(maps)))
        if not self.down:
            return relu(found + maps)
        shortcut = avg_pool2d(maps, 2)
        shape = [max(sides) for sides in zip(found.shape[1:], shortcut.shape[1:], strict=True)]
        return relu(_fill(found, shape) + _fill(shortcut, shape))


def _fill(maps: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    channels, height, width = (wanted - held for wanted, held in zip(shape, maps.shape[1:], strict=True))
    return pad(maps, (0, width, 0, height, 0, channels))


def _stage(inputs: int, outputs: int, blocks: int, *, down: bool = True) -> nn.Sequential:
    return nn.Sequential(_Residual(inputs, outputs, down), *(_Residual(outputs, outputs, False) for _ in range(blocks - 1)))


@register_model
class FaceNetwork(FaceModel):
    """dlib's ResNet of 29 convolutions and 5.6 million weights, for RGB faces of 150x150.

    ``body`` holds the stages by name, so ``body[:k]`` computes what ``body[k:]`` goes on from. For 150 pixels they give

    ==============  ============  =====================================================
    stage           channels      made of
    ==============  ============  =====================================================
    ``stem``        32 of 35x35   7x7 convolution and 3x3 maximum, both of stride 2
    ``stage_32``    32 of 35x35   3 residual blocks
    ``stage_64``    64 of 17x17   4 residual blocks, the first of which halves the side
    ``stage_128``   128 of 8x8    3 residual blocks, as above
    ``stage_256``   256 of 4x4    3 residual blocks, as above
    ``stage_out``   256 of 2x2    1 residual block, as above
    ``descriptor``  128 features  mean over the pixels, linear layer without bias
    ==============  ============  =====================================================

    The original's batch normalisations, constants since its training ended, are folded into the convolutions. Weights are drawn at random;
    :func:`load_face_network` gives the trained ones. With those, two faces of one person have descriptors less than 0.6 apart, mostly.

    Parameters
    ----------
    num_classes : int
    in_channels : {3}
        The network takes RGB.
    input_size : int
        Side of what the network sees, at least 103; it was trained on 150.
    image_size : int, optional
        Side to which whole faces are brought first; ``input_size`` by default.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "face_network"

    def __init__(self, num_classes: int = 7, in_channels: int = 3, input_size: int = _INPUT_SIZE, image_size: int | None = None) -> None:
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, input_size=input_size, image_size=image_size or input_size
        )
        if in_channels != 3 or input_size < _SMALLEST:
            given = f"in_channels={in_channels}, input_size={input_size}"
            raise ValueError(f"the face network takes RGB images (in_channels=3) of at least {_SMALLEST} pixels, got {given}")
        parts = (
            nn.Sequential(_Centre(), nn.Conv2d(3, 32, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            _stage(32, 32, 3, down=False), _stage(32, 64, 4), _stage(64, 128, 3), _stage(128, 256, 3), _stage(256, 256, 1),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 128, bias=False)),
        )
        self.body = nn.Sequential(OrderedDict(zip(STAGES, parts, strict=True)))
        self.classifier = nn.Linear(128, num_classes)
        initialise(self)
        # nothing normalises here: drawn at random, each block would double the variance
        for block in self.body.modules():
            if isinstance(block, _Residual):
                nn.init.zeros_(block.second.weight)

    def compute_stages(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute what every stage gives.

        Parameters
        ----------
        images : float ``[B, 3, input_size, input_size]``
            RGB from 0 to 1.

        Returns
        -------
        dict
            By the names of ``STAGES``: maps ``[B, channels, side, side]``, 0 or more; last the ``descriptor`` ``[B, 128]``.

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        self.check_images(images)
        found = {}
        for name, stage in self.body.named_children():
            images = found[name] = stage(images)
        return found

    def freeze_below(self, stage: str) -> None:
        """Train this stage and all above it, and keep the weights of those below.

        Parameters
        ----------
        stage : str
            One of ``STAGES``, or ``"classifier"`` to train nothing but the last layer.

        Raises
        ------
        ValueError
            For another stage.
        """
        if stage not in (*STAGES, "classifier"):
            raise ValueError(f"stage must be one of {', '.join(STAGES)} or classifier, got {stage!r}")
        trained = False
        for name, part in (*self.body.named_children(), ("classifier", self.classifier)):
            trained |= name == stage
            part.requires_grad_(trained)


def load_face_network(num_classes: int = 7, *, seed: int | None = None, image_size: int | None = None) -> FaceNetwork:
    """Build the network with the weights that ship; only the classifier is new.

    Parameters
    ----------
    num_classes : int
    seed : int, optional
        Draws the classifier, as in :func:`~fer_utils.models.registry.build_model`.
    image_size : int, optional
        Side to which whole faces are brought before 150 pixels are cut out of them.

    Returns
    -------
    FaceNetwork
        In evaluation mode; the file is in half precision, the network in float32.

    Raises
    ------
    DataError
        If the file of weights is missing or damaged.
    ValueError
        If an argument is out of range.
    """
    model = build_model(FaceNetwork.name, seed=seed, num_classes=num_classes, image_size=image_size)
    expected = f"the weights that ship with the package, of SHA-256 {_SHA256[:12]}..."
    try:
        content = _WEIGHTS.read_bytes()
    except OSError as error:
        raise DataError.at(_WEIGHTS, f"cannot be read ({error.strerror})", expected) from error
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise DataError.at(_WEIGHTS, f"damaged (its SHA-256 is {found[:12]}...)", expected)
    model.body.load_state_dict(load(content))  # copies, and so converts to float32
    return model.eval()


def align_for_face_network(images: np.ndarray | Sequence[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Crop faces as dlib does for this network, from five points.

    The similarity is fitted to our five points instead of dlib's 5 or 68. Faces without points need no call: a face model's pipeline
    resizes whole images to ``image_size``, and a face that fills its image then lies within some pixels of this crop.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
        Or a sequence of ``N`` images of any sizes, all grey or all RGB.
    points : array ``[N, 5, 2]``
        Left eye, right eye, nose tip, left and right mouth corner in image order; pixels of each image.

    Returns
    -------
    uint8 ``[N, 150, 150]`` or ``[N, 150, 150, 3]``

    Raises
    ------
    ValueError
        As :func:`~fer_utils.preprocess.align_faces`.
    """
    return align_faces(images, points, _INPUT_SIZE, template=FACE_TEMPLATE)
