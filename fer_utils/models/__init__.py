"""Networks: all take images from 0 to 1, and are built by name."""

from .backbones import VGG, AlexNet, ResNet
from .base import FaceModel
from .face_network import FaceNetwork, align_for_face_network, load_face_network
from .registry import build_model, list_models, register_model
from .vgg_face import VGGFace, load_vgg_face

__all__ = [
    "VGG", "AlexNet", "FaceModel", "FaceNetwork", "ResNet", "VGGFace", "align_for_face_network", "build_model", "list_models",
    "load_face_network", "load_vgg_face", "register_model",
]
