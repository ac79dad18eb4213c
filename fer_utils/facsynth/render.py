"""From a described face to pixels: scene assembly and path tracing with Mitsuba.

One :class:`Shot` holds everything that a picture depends on. :func:`render_shot` returns linear colour with coverage and a
region label for each pixel; the camera's faults and the alignment come later, in ``conditions``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from .appearance import REGIONS, eye_texture, hair_texture, label_atlas, skin_texture
from .geometry import HeadModel, SubMesh
from .identity import Identity

__all__ = ["Light", "Shot", "View", "project", "render_shot"]

#: Side of an unaligned picture, pixels.
FRAME = 128
#: Path-traced samples a pixel. A Gaussian reconstruction filter shares each of them among neighbouring pixels; the noise that is left
#: is that of a phone camera indoors.
SAMPLES = 8


@dataclass(frozen=True)
class View:
    """Camera pose in the head's frame."""

    yaw: float = 0.0  #: degrees; positive turns the face to the image's right
    pitch: float = 0.0  #: degrees; positive turns it upwards
    roll: float = 0.0  #: degrees
    distance: float = 1.0  #: metres, for a grown head
    shift: tuple[float, float] = (0.0, 0.0)  #: share of the frame, to the right and down
    zoom: float = 1.0  #: 1 as rendered; larger brings the face nearer


@dataclass(frozen=True)
class Light:
    """An even sky and one round lamp."""

    name: str = "studio"  #: kind, as in the table of truth
    sky: float = 0.55  #: how bright the sky is
    lamp: float = 1.0  #: how bright the lamp is at the face
    azimuth: float = -25.0  #: degrees, seen from the camera, positive to the image's right
    elevation: float = 30.0  #: degrees, positive upwards
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  #: colour of the lamp, linear RGB
    sky_tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  #: colour of the sky
    radius: float = 0.25  #: of the lamp in metres, for a grown head


@dataclass(frozen=True)
class Shot:
    """Everything a rendered picture depends on, before the camera's faults."""

    person: Identity  #: who
    actions: dict[str, float]  #: blendshapes of the face, from 0 to 1
    view: View = field(default_factory=View)  #: from where
    light: Light = field(default_factory=Light)  #: which
    occlusion: str = "none"  #: one of ``OCCLUSIONS``
    occluder_seed: int = 0  #: of what covers the face
    gaze: tuple[float, float] = (0.0, 0.0)  #: degrees to the image's right and up, from the direction of the camera
    flush: float = 0.0  #: how much redder than ``blush`` the cheeks are
    cloth: tuple[float, float, float] = (0.2, 0.25, 0.3)  #: colour, linear RGB
    seed: int = 0  #: of the renderer


@dataclass(frozen=True)
class _Camera:
    origin: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    tangent: float  # of half the field of view
    shift: tuple[float, float]


def _mitsuba() -> Any:
    """Mitsuba in its scalar variant, one thread: parallelism is one picture a process."""
    import drjit as dr
    import mitsuba as mi

    if mi.variant() != "scalar_rgb":
        mi.set_variant("scalar_rgb")
        mi.set_log_level(mi.LogLevel.Error)
        dr.set_thread_count(1)
    return mi


def _camera(points: np.ndarray, eyes: list[tuple[np.ndarray, float]], view: View) -> _Camera:
    """Look at the middle of the face from ``view``; the frame spans 3.1 times the distance between the eyes."""
    apart = float(np.linalg.norm(eyes[0][0] - eyes[1][0]))
    mid = (eyes[0][0] + eyes[1][0]) / 2
    target = 0.5 * mid + 0.5 * points[[48, 54]].mean(0)
    yaw, pitch, roll = np.radians([view.yaw, view.pitch, view.roll])
    # A face turned to the image's right is a camera moved to the subject's right (negative x).
    out = np.array([-np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), -np.sin(pitch)])
    forward = -out
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
    distance = view.distance * apart / 0.062
    tangent = 1.55 * apart / distance / view.zoom
    return _Camera(target + out * distance, right, up, forward, tangent, view.shift)


def project(points: np.ndarray, camera: _Camera) -> np.ndarray:
    """Project points of the world onto the unaligned frame.

    Parameters
    ----------
    points : float ``[..., 3]``
        Metres.
    camera : object
        As :func:`render_shot` places it.

    Returns
    -------
    float ``[..., 2]``
        Pixels, x right and y down.
    """
    local = points - camera.origin
    depth = local @ camera.forward
    x = (local @ camera.right) / depth / camera.tangent
    y = (local @ camera.up) / depth / camera.tangent
    half = FRAME / 2
    return np.stack([half * (1 + x) + camera.shift[0] * FRAME, half * (1 - y) + camera.shift[1] * FRAME], -1)


# -- scene parts ----------------------------------------------------------------------------------------------------------


def _bsdf(mi: Any, colour: Any, roughness: float, specular: float = 0.35, opacity: float = 1.0) -> Any:
    if isinstance(colour, np.ndarray) and colour.ndim == 3:
        base = {"type": "bitmap", "bitmap": mi.Bitmap(np.ascontiguousarray(colour[::-1])), "raw": True}
    else:
        base = {"type": "rgb", "value": [float(c) for c in colour]}
    surface = {"type": "twosided", "b": {"type": "principled", "base_color": base, "roughness": roughness, "specular": specular}}
    if opacity < 1:
        surface = {"type": "mask", "opacity": opacity, "surface": surface}
    return mi.load_dict(surface)


def _mesh(mi: Any, name: str, points: np.ndarray, faces: np.ndarray, normals: np.ndarray | None, uv: np.ndarray | None, bsdf: Any) -> Any:
    props = mi.Properties()
    props["bsdf"] = bsdf
    mesh = mi.Mesh(name, len(points), len(faces), props, normals is not None, uv is not None)
    params = mi.traverse(mesh)
    params["vertex_positions"] = np.ascontiguousarray(points, dtype=np.float32).ravel()
    params["faces"] = np.ascontiguousarray(faces, dtype=np.uint32).ravel()
    if normals is not None:
        params["vertex_normals"] = np.ascontiguousarray(normals, dtype=np.float32).ravel()
    if uv is not None:
        params["vertex_texcoords"] = np.ascontiguousarray(uv, dtype=np.float32).ravel()
    params.update()
    return mesh


def _tube(path: np.ndarray, radius: float, closed: bool, sides: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A round bar along ``path [K, 3]``: points and triangles."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    side = np.cross(ahead, np.array([0.31, 0.05, 0.95]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(ahead, side)
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    rim = np.cos(turn)[None, :, None] * side[:, None] + np.sin(turn)[None, :, None] * other[:, None]
    points = (path[:, None] + radius * rim).reshape(-1, 3)
    k = len(path)
    i, j = np.meshgrid(np.arange(k if closed else k - 1), np.arange(sides), indexing="ij")
    a, b = i * sides + j, i * sides + (j + 1) % sides
    c, d = ((i + 1) % k) * sides + j, ((i + 1) % k) * sides + (j + 1) % sides
    return points, np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])


def _glasses(landmarks: np.ndarray, eyes: list[tuple[np.ndarray, float]], rng: np.random.Generator, dark: bool) -> list[tuple]:
    """Frames before the eyes, a bridge, two temples and, if ``dark``, tinted lenses: (points, faces, colour, roughness)."""
    apart = float(np.linalg.norm(eyes[0][0] - eyes[1][0]))
    width, height = rng.uniform(0.40, 0.46) * apart, rng.uniform(0.27, 0.36) * apart * (1.12 if dark else 1.0)
    bar = rng.uniform(0.012, 0.03) * apart
    power = rng.uniform(2.0, 4.5)  # 2 is an ellipse; larger is boxier
    colour = [(0.01, 0.01, 0.01), (0.08, 0.04, 0.02), (0.3, 0.3, 0.32), (0.25, 0.02, 0.03)][int(rng.integers(4))]
    front = landmarks[27, 1] - 0.06 * apart
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    round_x, round_z = (np.sign(f(turn)) * np.abs(f(turn)) ** (2 / power) for f in (np.cos, np.sin))
    ring = np.stack([round_x * width, round_z * height], -1)
    parts, centres = [], []
    for centre, _ in eyes:
        c = np.array([centre[0] * 1.03, front, centre[2] - 0.04 * apart])
        wrap = 0.35 * np.maximum(np.abs(c[0] + ring[:, 0]) - apart * 0.35, 0) ** 2 / apart * 1.6
        path = np.stack([c[0] + ring[:, 0], c[1] + wrap, c[2] + ring[:, 1]], -1)
        parts.append((*_tube(path, bar, closed=True), colour, 0.3))
        centres.append((c, path))
        if dark:
            fan = np.concatenate([path.mean(0, keepdims=True), path])
            k = len(path)
            parts.append((fan, np.stack([np.zeros(k, int), 1 + np.arange(k), 1 + (np.arange(k) + 1) % k], -1), (0.012, 0.012, 0.014), 0.08))
    (left, path_l), (right, path_r) = centres
    lift = np.array([0, 0, 0.1 * height])
    bridge = np.linspace(left - [width, 0, 0] + lift, right + np.array([width, 0, 0]) + lift, 6)
    parts.append((*_tube(bridge, bar, closed=False), colour, 0.3))
    for path, sign in ((path_l, 1), (path_r, -1)):
        hinge = path[np.argmax(sign * path[:, 0])] + [0, 0, 0.4 * height]
        ear = np.array([sign * abs(landmarks[16 if sign > 0 else 0, 0]) * 1.06, hinge[1] + 1.9 * apart, hinge[2] - 0.05 * apart])
        parts.append((*_tube(np.linspace(hinge, ear, 6), bar, closed=False), colour, 0.3))
    return parts


def _face_mask(model: HeadModel, vertices: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> list[tuple]:
    """A cloth mask: the lower face's own surface, pushed out and smoothed over the nose and mouth."""
    part: SubMesh = model.parts["skin"]
    rest = model.template[part.corners] - model.eye_mid
    width, depth, height = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    low = (height < -0.022 - 0.25 * width**1.2) & (height > -0.125) & (depth < 0.055) & (width < 0.075)
    faces = part.faces[low[part.faces].all(1)]
    points = vertices[part.corners] + normals[part.corners] * 0.004
    # Cloth bridges hollows: pull each point forward to a smooth bulge fitted over the lower face.
    x, z = rest[:, 0], rest[:, 2] + 0.06
    bulge = points[low, 1].min() + 0.006 + 9.0 * x**2 + 3.5 * z**2
    points[:, 1] = np.where(low, np.minimum(points[:, 1], bulge), points[:, 1])
    colour = [(0.75, 0.77, 0.78), (0.25, 0.45, 0.62), (0.03, 0.03, 0.035), (0.5, 0.25, 0.3)][int(rng.integers(4))]
    used, inverse = np.unique(faces, return_inverse=True)
    return [(points[used], inverse.reshape(-1, 3), colour, 0.8)]


def _hand(model: HeadModel, vertices: np.ndarray, landmarks: np.ndarray, person: Identity, rng: np.random.Generator) -> list[tuple]:
    """The person's own hand laid before a cheek, the mouth, the chin or an eye."""
    palm = model.template[model.hand.corners].astype(np.float64)
    palm = palm - palm.mean(0)
    axes = np.linalg.svd(palm, full_matrices=False)[2]
    flat = palm @ axes.T  # columns: along the fingers, across, thickness
    if flat[np.abs(flat[:, 0]).argmax(), 0] < 0:
        flat[:, 0] *= -1
    apart = float(np.linalg.norm(landmarks[36:42].mean(0) - landmarks[42:48].mean(0)))
    flat *= rng.uniform(0.85, 1.0) * apart / 0.062
    place = ("mouth", "chin", "left", "right", "eye")[int(rng.integers(5))]
    anchors = {"mouth": [62], "chin": [8], "left": [3, 31], "right": [13, 35], "eye": list(range(42, 48))}
    anchor = landmarks[anchors[place]].mean(0)
    tilt = np.radians(rng.uniform(-35, 35) + {"mouth": 60 * rng.choice([-1, 1]), "left": -15, "right": 15}.get(place, 0))
    along = np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    across = np.cross([0, 1.0, 0], along)
    origin = anchor - along * 0.02 * apart / 0.062
    points = origin + flat[:, :1] * along + flat[:, 1:2] * across + flat[:, 2:] * np.array([0, 1.0, 0])
    points[:, 1] += landmarks[30, 1] + 0.012 - points[:, 1].max() if place == "mouth" else anchor[1] - 0.008 - points[:, 1].max()
    return [(points, model.hand.faces, np.array(person.skin) * 0.95, 0.55)]


def _object(landmarks: np.ndarray, rng: np.random.Generator) -> list[tuple]:
    """A cup, phone or stick of food before part of the face, as a rounded bar."""
    apart = float(np.linalg.norm(landmarks[36] - landmarks[45]))
    anchor = landmarks[[48, 54, 8, 33, 3, 13][int(rng.integers(6))]]
    tilt = rng.uniform(-0.9, 0.9)
    direction = np.array([np.sin(tilt), rng.uniform(-0.3, 0.3), np.cos(tilt)])
    length, thick = rng.uniform(0.5, 1.2) * apart, rng.uniform(0.10, 0.24) * apart
    start = anchor + np.array([0, -1.3 * thick, 0]) - direction * length * rng.uniform(0.5, 0.9)
    path = start + np.linspace(0, length, 8)[:, None] * direction
    points, faces = _tube(path, thick, closed=False, sides=20)
    caps = np.concatenate([points, path[[0, -1]]])
    k, n = 20, len(points)
    ends = [[n, (j + 1) % k, j] for j in range(k)] + [[n + 1, n - k + j, n - k + (j + 1) % k] for j in range(k)]
    return [(caps, np.concatenate([faces, np.array(ends)]), rng.uniform(0.03, 0.7, 3), 0.4)]


@functools.lru_cache(maxsize=256)
def _hair_cut(model: HeadModel, hairline: float, length: float, bangs: int) -> np.ndarray:
    """Triangles of the hair volume that a style keeps; ``bangs`` 0 none, 1 fringe, 2 fringe over one eye."""
    rest = model.hair.rest
    x, y, z = rest.T
    front = np.clip((0.085 - y) / 0.06, 0, 1)  # 1 before the face, 0 behind the ears
    line = length + (hairline + 0.012 - length) * front**0.6
    if bangs:
        low = 0.022 if bangs == 1 else np.where(x < 0.012, -0.012 + 0.5 * np.abs(x + 0.03), 0.03)
        line = np.where((y < 0.03) & (np.abs(x) < 0.075), np.minimum(line, low + 0.002 * np.sin(900 * x)), line)
    else:
        line = np.where(y < 0.02, np.maximum(line, hairline + 0.018 - 0.10 * np.abs(x)), line)
    keep = z > line
    return model.hair.faces[keep[model.hair.faces].all(1)]


def _orient(mi: Any, axis: np.ndarray, centre: np.ndarray, radius: float) -> Any:
    """Transform of a unit sphere whose pole points along ``axis``."""
    axis = axis / np.linalg.norm(axis)
    side = np.cross([0, 0, 1.0], axis)
    side /= np.linalg.norm(side)
    matrix = np.eye(4)
    matrix[:3, :3] = radius * np.stack([side, np.cross(axis, side), axis], 1)
    matrix[:3, 3] = centre
    return mi.ScalarTransform4f(matrix)


# -- the picture ----------------------------------------------------------------------------------------------------------


def render_shot(model: HeadModel, shot: Shot, vertices: np.ndarray, neutral: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Path-trace one face.

    Parameters
    ----------
    model : HeadModel
    shot : Shot
    vertices, neutral : float32 ``[V, 3]``
        The head of ``shot.person`` with and without the shot's facial actions.

    Returns
    -------
    colour : float32 ``[128, 128, 4]``
        Linear RGB, premultiplied by the coverage in the last channel.
    regions : uint8 ``[128, 128]``
        Region codes, ``appearance.REGIONS``.
    landmarks : float64 ``[68, 2]``
        Pixels of the unaligned frame.
    """
    mi = _mitsuba()
    person, light = shot.person, shot.light
    vertices = model.place_lashes(vertices, neutral)
    normals = model.normals(vertices)
    marks = model.landmarks(vertices)
    eyes = model.eyes(vertices)
    camera = _camera(model.landmarks(neutral), eyes, shot.view)
    rng = np.random.default_rng([shot.occluder_seed, 7])

    meshes: list[tuple[str, Any, int]] = []

    def add(name: str, points: np.ndarray, faces: np.ndarray, colour: Any, roughness: float, code: int, **kw: Any) -> None:
        bsdf = _bsdf(mi, colour, roughness, kw.get("specular", 0.35), kw.get("opacity", 1.0))
        mesh = _mesh(mi, name, points, faces, kw.get("normals"), kw.get("uv"), bsdf)
        meshes.append((name, mesh, code))

    skin_map = skin_texture(model, person, flush=shot.flush)
    colours = {
        "skin": (skin_map, 0.48, 0.32), "neck": (np.array(person.skin) * 0.93, 0.55, 0.3), "body": (shot.cloth, 0.8, 0.2),
        "cavity": ((0.16, 0.035, 0.03), 0.5, 0.3), "tongue": ((0.36, 0.11, 0.10), 0.35, 0.5), "teeth": ((0.95, 0.92, 0.85), 0.3, 0.5),
        "lashes": ((0.012, 0.009, 0.008), 0.8, 0.1),
    }
    inside = dict.fromkeys(("cavity", "tongue", "teeth"), REGIONS["mouth"])
    part_codes = {"skin": -1, "neck": REGIONS["face"], "body": 0, "lashes": REGIONS["eyes"], **inside}
    for name, part in model.parts.items():
        colour, roughness, specular = colours[name]
        shading = None if name in ("lashes", "teeth") else normals[part.corners]
        add(name, vertices[part.corners], part.faces, colour, roughness, part_codes[name], normals=shading, uv=part.uv, specular=specular,
            opacity=(0.6 if person.gender == 1 else 0.35) if name == "lashes" else 1.0)
    if np.isfinite(person.hair_length) or shot.occlusion == "bangs":
        bangs = 1 + shot.occluder_seed % 2 if shot.occlusion == "bangs" else 0
        length = person.hair_length if np.isfinite(person.hair_length) else -0.02
        faces = _hair_cut(model, round(person.hairline, 3), round(length, 2), bangs)
        points = model.hair.points(vertices)
        rest = model.hair.rest
        snug = 0.94 if length > -0.05 else 0.985  # short hair lies closer to the skull
        skull = np.array([0.0, eyes[0][0][1] + 0.085, eyes[0][0][2] + 0.02])
        points = (skull + (points - skull) * snug).astype(np.float32)
        strands = np.stack([np.arctan2(rest[:, 0], 0.085 - rest[:, 1]) / (2 * np.pi) * 2 + 0.5, rest[:, 2] * 3], -1)
        paint, bends = hair_texture(person), model.hair.points(normals)
        add("hair", points, faces, paint, 0.38, REGIONS["occluder"], normals=bends, uv=strands)
        # The helper is made of separate panels; a second, slightly turned and smaller layer closes the gaps between them.
        turn = 0.10
        spin = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]], dtype=np.float32)
        under = ((points - skull) @ spin.T * 0.97 + skull).astype(np.float32)
        add("underhair", under, faces, paint * 0.8, 0.5, REGIONS["occluder"], normals=bends @ spin.T, uv=strands)
    if shot.occlusion in ("glasses", "sunglasses"):
        extra = _glasses(marks, eyes, rng, shot.occlusion == "sunglasses")
    elif shot.occlusion == "mask":
        extra = _face_mask(model, vertices, normals, rng)
    elif shot.occlusion == "hand":
        extra = _hand(model, vertices, marks, person, rng)
    elif shot.occlusion == "object":
        extra = _object(marks, rng)
    else:
        extra = []
    for i, (points, faces, colour, roughness) in enumerate(extra):
        add(f"occluder{i}", points, faces, colour, roughness, REGIONS["occluder"])

    scene: dict[str, Any] = {"type": "scene"}
    texture = {"type": "bitmap", "bitmap": mi.Bitmap(eye_texture(person)), "raw": True}
    to_camera = camera.origin - (eyes[0][0] + eyes[1][0]) / 2
    to_camera /= np.linalg.norm(to_camera)
    gaze = _gaze(to_camera, camera, shot.gaze)
    for i, (centre, radius) in enumerate(eyes):
        scene[f"eye{i}"] = {
            "type": "sphere", "to_world": _orient(mi, gaze, centre, radius * 0.975),
            "bsdf": {"type": "principled", "base_color": texture, "roughness": 0.12, "specular": 0.6},
        }
    for name, mesh, _ in meshes:
        scene[name] = mesh
    azimuth, elevation = np.radians([light.azimuth, light.elevation])
    toward = np.cos(elevation) * (np.sin(azimuth) * camera.right - np.cos(azimuth) * camera.forward) + np.sin(elevation) * camera.up
    apart = float(np.linalg.norm(eyes[0][0] - eyes[1][0]))
    reach, size = 1.3 * apart / 0.062, light.radius * apart / 0.062
    scene["lamp"] = {
        "type": "sphere", "center": ((eyes[0][0] + eyes[1][0]) / 2 + toward * reach).tolist(), "radius": size,
        "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [light.lamp * c * (reach / size) ** 2 for c in light.tint]}},
    }
    scene["sky"] = {"type": "constant", "radiance": {"type": "rgb", "value": [light.sky * c for c in light.sky_tint]}}
    st = mi.ScalarTransform4f()

    def sensor(reconstruction: str) -> Any:
        return mi.load_dict({
            "type": "perspective", "fov": float(np.degrees(2 * np.arctan(camera.tangent))), "near_clip": 0.02,
            # The offset moves the principal point, and so the picture the other way.
            "principal_point_offset_x": -camera.shift[0], "principal_point_offset_y": -camera.shift[1],
            "to_world": st.look_at(origin=camera.origin.tolist(), target=(camera.origin + camera.forward).tolist(), up=camera.up.tolist()),
            "film": {"type": "hdrfilm", "width": FRAME, "height": FRAME, "pixel_format": "rgba", "rfilter": {"type": reconstruction}},
            "sampler": {"type": "multijitter", "sample_count": SAMPLES},
        })

    scene["integrator"] = {"type": "path", "max_depth": 3, "hide_emitters": True}
    world = mi.load_dict(scene)
    picture = mi.render(world, sensor=sensor("gaussian"), seed=shot.seed % 2**31, spp=SAMPLES)
    colour = _tame_fireflies(np.array(picture, dtype=np.float32))
    codes = {name: code for name, _, code in meshes} | {"eye0": REGIONS["eyes"], "eye1": REGIONS["eyes"]}
    atlas = label_atlas(model, round(person.brow_thickness, 4), round(person.brow_arch, 4))
    regions = _label_pixels(mi, world, sensor("box"), codes, atlas, colour[..., 3] > 0.5, shot.seed)
    return colour, regions, project(marks, camera)


def _tame_fireflies(colour: np.ndarray) -> np.ndarray:
    """Hold single pixels that a rare light path made far brighter than their surroundings to those surroundings."""
    limit = 1.6 * median_filter(colour[..., :3].max(-1), 5) + 0.15
    excess = np.maximum(colour[..., :3].max(-1) / limit, 1.0)
    colour[..., :3] /= excess[..., None]
    return colour


def _gaze(to_camera: np.ndarray, camera: _Camera, offset: tuple[float, float]) -> np.ndarray:
    """Where the eyes look: at the camera plus ``offset``, held within what eyes can turn in the head."""
    right, up = np.tan(np.radians(offset))
    axis = to_camera + right * camera.right + up * camera.up
    side = np.degrees(np.arctan2(axis[0], -axis[1]))
    rise = np.degrees(np.arctan2(axis[2], np.hypot(axis[0], axis[1])))
    side, rise = np.radians(np.clip(side, -22, 22)), np.radians(np.clip(rise, -14, 14))
    return np.array([np.sin(side) * np.cos(rise), -np.cos(side) * np.cos(rise), np.sin(rise)])


def _label_pixels(
    mi: Any, world: Any, sensor: Any, codes: dict[str, int], atlas: np.ndarray, covered: np.ndarray, seed: int
) -> np.ndarray:
    """Region of the surface behind each pixel, from one ray a pixel; ``sensor`` must not blend pixels."""
    integrator = mi.load_dict({"type": "aov", "aovs": "shape:shape_index,uv:uv"})
    out = np.array(mi.render(world, sensor=sensor, integrator=integrator, spp=1, seed=seed % 2**31), dtype=np.float32)
    index, uv = out[..., -3].round().astype(int) - 1, out[..., -2:]  # 0 is no surface
    by_index = np.array([codes.get(shape.id(), 0) for shape in world.shapes()])
    regions = by_index[index.clip(0, len(by_index) - 1)]
    texel = (uv * atlas.shape[::-1]).astype(int).clip(0, np.array(atlas.shape[::-1]) - 1)
    regions = np.where(regions < 0, atlas[texel[..., 1], texel[..., 0]], regions)
    return np.where(covered, regions, REGIONS["background"]).astype(np.uint8)
