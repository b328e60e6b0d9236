"""Draws one bird: the body plan, its parts, and where the parts lie.

Lengths are in units of the bird's own height (about), with the origin in the
middle of its body, x towards the beak and y down. A `Pose` carries them to
pixels. The bird is drawn from the side, facing right; `mirrored` turns it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from keras_finegrain.datasets.synthetic_birds.raster import (
    Layer,
    coverage,
    ellipse,
    ribbon,
    rotate,
    smoothstep,
    spline,
    turn,
)
from keras_finegrain.datasets.synthetic_birds.species import PARTS, Species

#: The part points, named and ordered as in CUB-200-2011.
PART_POINTS = (
    "back",
    "beak",
    "belly",
    "breast",
    "crown",
    "forehead",
    "left eye",
    "left leg",
    "left wing",
    "nape",
    "right eye",
    "right leg",
    "right wing",
    "tail",
    "throat",
)

_NECK = (0.22, -0.20)
_TAIL_BASE = (-0.50, 0.17)

#: The length of a long tail, in the bird's units.
LONGEST_TAIL = 0.60

_CREAM = np.array([0.96, 0.92, 0.82])
_INK = np.array([0.10, 0.09, 0.10])
_WHITE = np.array([0.97, 0.96, 0.92])
_YELLOW = np.array([0.97, 0.78, 0.16])
_RED = np.array([0.80, 0.13, 0.10])

_LEG_COLOURS = (
    np.array([0.17, 0.15, 0.16]),
    np.array([0.93, 0.42, 0.28]),
    np.array([0.95, 0.78, 0.22]),
    np.array([0.40, 0.58, 0.78]),
)


@dataclass(frozen=True)
class Pose:
    """How a bird sits, which says nothing about its species.

    Args:
        centre: (x, y) of the body's middle in pixels.
        scale: pixels for one unit.
        tilt: degrees by which the whole bird leans forward.
        mirrored: faces left.
        squeeze: width kept when it turns towards us, in (0, 1].
        head: degrees by which the head bows.
        tail: degrees by which the tail is raised.
        plump: depth of the belly relative to the plan.
        head_size: size of the head relative to the plan.
        stride: distance between the feet in units.
    """

    centre: tuple[float, float]
    scale: float
    tilt: float = 0.0
    mirrored: bool = False
    squeeze: float = 1.0
    head: float = 0.0
    tail: float = 0.0
    plump: float = 1.0
    head_size: float = 1.0
    stride: float = 0.13

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Carries (..., 2) from the bird's units to pixels."""
        c, s = turn(self.tilt)
        points = np.asarray(points, dtype=np.float64)
        x, y = points[..., 0], points[..., 1]
        side = -self.squeeze if self.mirrored else self.squeeze
        return np.stack(
            [
                self.centre[0] + self.scale * side * (c * x - s * y),
                self.centre[1] + self.scale * (s * x + c * y),
            ],
            axis=-1,
        )

    def from_pixels(self, height: int, width: int) -> np.ndarray:
        """The place of every pixel in the bird's units: (height, width, 2)."""
        c, s = turn(self.tilt)
        side = -self.squeeze if self.mirrored else self.squeeze
        x = (np.arange(width) + 0.5 - self.centre[0]) / (self.scale * side)
        y = (np.arange(height) + 0.5 - self.centre[1]) / self.scale
        x, y = x[None, :], y[:, None]
        return np.stack([c * x + s * y, c * y - s * x], axis=-1)

    def on_head(self, points: np.ndarray) -> np.ndarray:
        """Turns and scales (..., 2) with the head, about the neck."""
        points = (np.asarray(points) - _NECK) * self.head_size + _NECK
        return rotate(points, self.head, _NECK)


@dataclass(frozen=True)
class Plumage:
    """Colours and markings of one individual, which differ within a species.

    Args:
        back: the colour of back, head and wing.
        under: the colour of breast and belly.
        texture: (rows, columns) in [-1, 1], the mottling of the feathers.
        jitter: (60, 2) in [-1, 1], where streaks and spots fall.
    """

    back: np.ndarray
    under: np.ndarray
    texture: np.ndarray
    jitter: np.ndarray


def draw_bird(
    layer: Layer,
    species: Species,
    pose: Pose,
    plumage: Plumage,
    without: Collection[str] = (),
) -> None:
    """Paints a bird on a layer, back to front.

    Args:
        layer: transparent where the bird is not.
        species: the state of each part.
        pose: how it sits.
        plumage: the individual's colours.
        without: names of `PARTS` that are left out, as in `draw`.
    """
    _Painter(layer, species, pose, plumage, without).paint()


def feet(pose: Pose) -> np.ndarray:
    """Where the two feet stand, in pixels: (2, 2), the far foot first."""
    half = 0.5 * pose.stride
    return pose.to_pixels(np.array([(0.06 + half, 0.60), (0.06 - half, 0.61)]))


def reach(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """The box that holds a bird of any species in this pose.

    Where a bird sits and how large it is drawn must not depend on its tail,
    so the box makes room for the longest tail, beak and crest.

    Returns:
        The smallest and the largest (x, y) in pixels.
    """
    plan = _Plan(Species((0,) * len(PARTS)), pose)
    far = (LONGEST_TAIL, 0.14)
    corners = [
        plan.silhouette(),
        plan.on_tail(np.array([far, (far[0], -far[1])])),
        pose.on_head(np.array([(0.88, -0.31), (0.02, -0.82)])),
        np.array([(0.30, 0.68), (-0.15, 0.68)]),
    ]
    pixels = pose.to_pixels(np.concatenate(corners))
    return pixels.min(axis=0), pixels.max(axis=0)


def part_points(
    species: Species, pose: Pose
) -> dict[str, tuple[tuple[float, float], bool]]:
    """Where the parts lie in pixels, and whether they face us.

    Args:
        species: the state of each part.
        pose: how it sits.

    Returns:
        ((x, y), facing) for each of `PART_POINTS`. Of eyes and wings only the
        near one faces us; the far one has the place where it would be seen
        if the bird were of glass.
    """
    body = _Plan(species, pose)
    near, far = ("left", "right") if pose.mirrored else ("right", "left")
    places = {
        "back": body.back,
        "beak": body.beak_middle,
        "belly": body.belly,
        "breast": body.breast,
        "crown": pose.on_head(np.array([0.36, -0.53])),
        "forehead": pose.on_head(np.array([0.485, -0.475])),
        "nape": pose.on_head(np.array([0.16, -0.42])),
        "tail": body.tail_middle,
        "throat": body.throat,
        f"{near} eye": body.eye,
        f"{far} eye": body.eye,
        f"{near} wing": np.array([-0.10, 0.04]),
        f"{far} wing": np.array([-0.10, 0.04]),
        f"{near} leg": body.near_leg,
        f"{far} leg": body.far_leg,
    }
    hidden = {f"{far} eye", f"{far} wing"}
    points = {}
    for name in PART_POINTS:
        x, y = pose.to_pixels(places[name])
        points[name] = ((float(x), float(y)), name not in hidden)
    return points


class _Plan:
    """The places of the parts in the bird's units."""

    def __init__(self, species: Species, pose: Pose) -> None:
        self.species, self.pose = species, pose
        self.back = np.array([-0.14, -0.10])
        self.belly = np.array([-0.02, 0.285 * pose.plump])
        self.breast = np.array([0.33, 0.10])
        self.throat = 0.5 * (
            pose.on_head(np.array([0.44, -0.21])) + np.array([0.42, -0.18])
        )
        self.eye = pose.on_head(np.array([0.415, -0.405]))
        half = 0.5 * pose.stride
        hip = 0.33 * pose.plump
        self.far_hip = np.array([0.07 + half, hip])
        self.near_hip = np.array([0.03 - half, hip])
        self.far_foot = np.array([0.06 + half, 0.60])
        self.near_foot = np.array([0.06 - half, 0.61])
        self.far_leg = 0.5 * self.far_hip + 0.5 * self.far_foot
        self.near_leg = 0.5 * self.near_hip + 0.5 * self.near_foot
        tail = species.state("tail")
        self.tail_length = LONGEST_TAIL if "long" in tail else 0.34
        self.tail_forked = "forked" in tail
        self.tail_middle = self.on_tail(np.array([0.4 * self.tail_length, 0.0]))
        beak = {
            "short conical": (0.60, -0.335),
            "long straight": (0.67, -0.325),
            "hooked": (0.62, -0.33),
            "long down-curved": (0.66, -0.30),
        }
        self.beak_middle = pose.on_head(np.array(beak[species.state("beak")]))

    def on_tail(self, points: np.ndarray) -> np.ndarray:
        """Carries (along, across) from the tail's base to the bird's units."""
        turned = rotate(points, 180.0 - 18.0 + self.pose.tail)
        return turned + _TAIL_BASE

    def silhouette(self) -> np.ndarray:
        """The outline of head and body."""
        deep = self.pose.plump
        head, nape, chin = (
            self.pose.on_head(np.array(points))
            for points in (
                [(0.545, -0.36), (0.50, -0.48), (0.385, -0.56), (0.25, -0.545)],
                [(0.135, -0.43)],
                [(0.455, -0.195), (0.525, -0.285)],
            )
        )
        body = np.array(
            [
                (0.02, -0.255),
                (-0.17, -0.125),
                (-0.38, 0.03),
                (-0.54, 0.13),
                (-0.53, 0.215),
                (-0.38, 0.27 * deep),
                (-0.14, 0.365 * deep),
                (0.11, 0.355 * deep),
                (0.31, 0.23 * deep),
                (0.42, 0.03),
            ]
        )
        return spline(np.concatenate([head, nape, body, chin]))


class _Painter:
    """One method a part. `paint` has them in order, back to front."""

    def __init__(
        self,
        layer: Layer,
        species: Species,
        pose: Pose,
        plumage: Plumage,
        without: Collection[str],
    ) -> None:
        self.layer, self.species, self.pose = layer, species, pose
        self.plumage, self.without = plumage, without
        self.plan = _Plan(species, pose)
        self.back, self.under = plumage.back, plumage.under
        self.dark = 0.45 * self.back + 0.05 * _INK
        self.inside: np.ndarray | None = None
        self.local = pose.from_pixels(*layer.alpha.shape)

    def paint(self) -> None:
        has = {part: part not in self.without for part in PARTS}
        if has["tail"]:
            self.tail()
        if has["legs"]:
            self.leg(self.plan.far_hip, self.plan.far_foot, shade=0.75)
        if has["beak"]:
            self.beak()
        if has["crown"]:
            self.crest()
        self.body()
        if has["breast"]:
            self.breast()
        else:
            self.bare(spline(_BREAST) * (1.0, self.pose.plump))
        if has["crown"]:
            self.crown()
        else:
            self.bare(self.pose.on_head(spline(_CAP)))
        if has["wing"]:
            self.wing()
        if has["legs"]:
            self.leg(self.plan.near_hip, self.plan.near_foot)
        if has["eye"]:
            self.eye()

    def shape(
        self,
        points: np.ndarray,
        colour: np.ndarray,
        opacity: float = 1.0,
        inside: bool = False,
    ) -> None:
        """Fills a polygon given in the bird's units."""
        self.layer.fill(
            self.pose.to_pixels(points),
            colour,
            opacity,
            self.inside if inside else None,
        )

    def bare(self, region: np.ndarray) -> None:
        """A region of the body without its feathers.

        A breast or a crown without a marking is "plain", a state like the
        others. The flat tone half way between back and belly is none of them,
        on any individual.
        """
        self.shape(region, 0.5 * self.back + 0.5 * self.under, inside=True)

    def tail(self) -> None:
        """Two fans of feathers: length and fork tell species apart."""
        length = self.plan.tail_length
        notch = 0.42 * length if self.plan.tail_forked else 0.0
        spread = 0.125 if self.plan.tail_forked else 0.085
        outline = [
            (-0.06, -0.065),
            (0.5 * length, -0.075),
            (length, -spread),
            (length - notch, 0.0),
            (length, spread),
            (0.5 * length, 0.075),
            (-0.06, 0.065),
        ]
        on_tail = self.plan.on_tail
        self.shape(on_tail(np.array(outline)), 0.72 * self.back)
        for across in (-0.5, 0.0, 0.5):
            end = length - notch * (1.0 - abs(across)) - 0.02
            shaft = np.array(
                [(0.02, 0.06 * across), (end, 1.3 * spread * across)]
            )
            self.shape(on_tail(ribbon(shaft, 0.014)), self.dark, 0.8)

    def leg(
        self, hip: np.ndarray, foot: np.ndarray, shade: float = 1.0
    ) -> None:
        """A thigh of feathers, a shank and toes: the colour varies."""
        colour = shade * _LEG_COLOURS[self.species.states[-1]]
        knee = 0.6 * hip + 0.4 * foot + np.array([-0.03, 0.0])
        self.shape(ribbon(spline([hip, knee, foot], False), 0.05, 0.04), colour)
        for toe in ((0.10, 0.03), (0.075, 0.055), (-0.065, 0.03)):
            line = foot + np.array([(0.0, 0.0), (0.5 * toe[0], -0.012), toe])
            claw = spline(line, closed=False)
            self.shape(ribbon(claw, 0.042, 0.02), colour)
        thigh = hip + np.array(
            [(-0.06, -0.06), (0.0, -0.09), (0.06, -0.05), (0.015, 0.07)]
        )
        self.shape(spline(thigh), shade * (0.8 * self.under + 0.2 * self.back))

    def beak(self) -> None:
        """Upper and lower half: the shape varies, the colour is horn."""
        upper, lower = _BEAKS[self.species.states[0]]
        horn = np.array([0.30, 0.27, 0.25])
        on_head = self.pose.on_head
        self.shape(on_head(spline(lower, steps=4)), 1.35 * horn)
        self.shape(on_head(spline(upper, steps=4)), horn)
        shine = ribbon(np.array(upper[:2]) * 1.0 + (0.01, 0.02), 0.015)
        self.shape(on_head(shine), 2.2 * horn, 0.6)

    def crest(self) -> None:
        if self.species.state("crown") != "crested":
            return
        spikes = [
            (0.47, -0.50),
            (0.37, -0.63),
            (0.20, -0.755),
            (0.06, -0.80),
            (0.13, -0.70),
            (0.03, -0.70),
            (0.12, -0.61),
            (0.05, -0.585),
            (0.16, -0.49),
            (0.25, -0.45),
        ]
        on_head = self.pose.on_head
        self.shape(on_head(np.array(spikes)), 0.72 * self.back)
        for x, y in ((0.10, -0.76), (0.09, -0.67)):
            vein = spline([(0.40, -0.55), (0.28, -0.62), (x, y)], False)
            self.shape(on_head(ribbon(vein, 0.018, 0.008)), self.dark, 0.7)

    def body(self) -> None:
        """Dark above and pale below, as birds are, and round in the light."""
        outline = self.pose.to_pixels(self.plan.silhouette())
        window, cover = coverage(outline, *self.layer.alpha.shape)
        self.inside = np.zeros_like(self.layer.alpha)
        self.inside[window] = cover

        x, y = self.local[..., 0], self.local[..., 1]
        # Where the flank ends: falls from the chin to the rump.
        flank = (
            y
            - 0.30
            + 0.62 * smoothstep(-0.6, 0.62, x)
            + (0.06 * self.plumage.texture)
        )
        pale = smoothstep(-0.10, 0.12, flank)[..., None]
        colour = self.back * (1.0 - pale) + self.under * pale
        colour = colour * (1.0 + 0.10 * self.plumage.texture)[..., None]
        self.layer.fill(outline, colour)
        cheek = self.pose.on_head(ellipse((0.33, -0.33), 0.115, 0.75))
        self.shape(cheek, 0.82 * self.back + 0.14, 0.55, inside=True)
        lores = self.pose.on_head(ribbon([(0.54, -0.35), (0.42, -0.40)], 0.05))
        self.shape(lores, self.dark, 0.6, inside=True)

    def breast(self) -> None:
        """Streaks, spots or a band on breast and flank."""
        state = self.species.state("breast")
        if state == "dark-banded":
            band = [(0.50, 0.03), (0.36, 0.02), (0.24, -0.05), (0.14, -0.16)]
            self.shape(
                ribbon(spline(band, False), 0.12, 0.10), self.dark, 1.0, True
            )
        if state not in ("streaked", "spotted"):
            return
        for (x, y), (dx, dy) in zip(_MARKS, self.plumage.jitter, strict=False):
            x, y = x + 0.016 * dx, (y + 0.016 * dy) * self.pose.plump
            if state == "streaked":
                mark = ribbon(
                    [(x + 0.025, y - 0.045), (x - 0.03, y + 0.05)], 0.034, 0.020
                )
            else:
                mark = ellipse((x, y), 0.0275)
            self.shape(mark, self.dark, 0.92, inside=True)

    def crown(self) -> None:
        state = self.species.state("crown")
        on_head = self.pose.on_head
        if state == "black-capped":
            self.shape(on_head(spline(_CAP)), _INK, 1.0, inside=True)
            gloss = spline([(0.47, -0.50), (0.38, -0.53), (0.27, -0.52)], False)
            self.shape(on_head(ribbon(gloss, 0.02)), _INK + 0.25, 0.7)
        if state == "striped":
            for width, colour in ((0.125, _INK + 0.06), (0.06, _WHITE)):
                line = [
                    (0.56, -0.43),
                    (0.43, -0.505),
                    (0.29, -0.50),
                    (0.14, -0.39),
                ]
                stripe = ribbon(spline(line, False), width, 0.8 * width)
                self.shape(on_head(stripe), colour, 1.0, inside=True)

    def wing(self) -> None:
        """Folded: coverts, long feathers, and the bars."""
        feathers = 0.62 * self.back
        edge = 0.55 * self.back + 0.45 * self.under
        primaries = spline(
            [
                (0.0, -0.10),
                (-0.35, 0.03),
                (-0.70, 0.215),
                (-0.42, 0.235),
                (0.0, 0.20),
            ]
        )
        self.shape(primaries, 0.8 * feathers)
        folded = spline(
            [
                (0.27, -0.09),
                (0.14, -0.185),
                (-0.10, -0.125),
                (-0.36, 0.035),
                (-0.52, 0.175),
                (-0.34, 0.22),
                (-0.08, 0.235),
                (0.13, 0.17),
                (0.25, 0.04),
            ]
        )
        window, cover = coverage(
            self.pose.to_pixels(folded), *self.layer.alpha.shape
        )
        on_wing = np.zeros_like(self.layer.alpha)
        on_wing[window] = cover
        y = self.local[..., 1]
        light = (1.15 - 0.8 * smoothstep(-0.25, 0.35, y) * 0.5)[..., None]
        mottle = (1.0 + 0.08 * self.plumage.texture)[..., None]
        self.layer.blend((feathers * light * mottle), on_wing)

        paint = self._within(on_wing)
        for low in (-0.02, 0.05, 0.115, 0.175):
            quill = spline(
                [(-0.10, low), (-0.30, 0.06 + 0.72 * low), (-0.62, 0.205)],
                False,
            )
            paint(ribbon(quill, 0.022, 0.010), edge, 0.75)
        state = self.species.state("wing")
        colour = _YELLOW if "yellow" in state else _WHITE
        bars = {"no bar": (), "two white bars": (0.125, -0.045)}
        for x in bars.get(state, (0.06,)):
            bar = [
                (x + 0.02, -0.22),
                (x - 0.035, -0.04),
                (x - 0.01, 0.10),
                (x + 0.05, 0.26),
            ]
            paint(ribbon(spline(bar, False), 0.115), 0.6 * feathers, 0.8)
            paint(ribbon(spline(bar, False), 0.072), colour, 1.0)
        rim = ribbon(folded, 0.016)
        self.shape(rim, 0.6 * feathers, 0.5)

    def eye(self) -> None:
        """Large, as in young birds, or few pixels of it would be left."""
        state = self.species.state("eye")
        x, y = 0.415, -0.405
        on_head = self.pose.on_head
        iris = {"yellow": _YELLOW, "red": _RED}.get(state)
        rim = _WHITE if state == "white-ringed" else 0.5 * self.dark
        radius = 0.082 if state == "white-ringed" else 0.068
        self.shape(on_head(ellipse((x, y), radius)), rim)
        if iris is not None:
            self.shape(on_head(ellipse((x, y), 0.06)), iris)
        pupil = 0.056 if iris is None else 0.030
        self.shape(on_head(ellipse((x, y), pupil)), 0.5 * _INK)
        glint = ellipse((x + 0.017, y - 0.02), 0.016)
        self.shape(on_head(glint), np.ones(3), 0.95)

    def _within(
        self, region: np.ndarray
    ) -> Callable[[np.ndarray, np.ndarray, float], None]:
        def paint(
            points: np.ndarray, colour: np.ndarray, opacity: float
        ) -> None:
            self.layer.fill(
                self.pose.to_pixels(points), colour, opacity, region
            )

        return paint


# Upper and lower half of each beak, on the head, from its base to its tip.
_BEAKS = (
    (
        [
            (0.50, -0.415),
            (0.61, -0.385),
            (0.69, -0.315),
            (0.60, -0.325),
            (0.50, -0.32),
        ],
        [
            (0.50, -0.33),
            (0.60, -0.325),
            (0.675, -0.31),
            (0.60, -0.265),
            (0.50, -0.255),
        ],
    ),
    (
        [
            (0.50, -0.38),
            (0.65, -0.352),
            (0.86, -0.31),
            (0.65, -0.322),
            (0.50, -0.325),
        ],
        [
            (0.50, -0.33),
            (0.65, -0.325),
            (0.83, -0.308),
            (0.65, -0.298),
            (0.50, -0.285),
        ],
    ),
    (
        [
            (0.50, -0.41),
            (0.63, -0.40),
            (0.735, -0.335),
            (0.715, -0.245),
            (0.685, -0.315),
            (0.50, -0.32),
        ],
        [
            (0.50, -0.33),
            (0.60, -0.325),
            (0.66, -0.31),
            (0.60, -0.28),
            (0.50, -0.27),
        ],
    ),
    (
        [
            (0.50, -0.385),
            (0.66, -0.36),
            (0.78, -0.28),
            (0.835, -0.165),
            (0.755, -0.25),
            (0.65, -0.315),
            (0.50, -0.325),
        ],
        [
            (0.50, -0.33),
            (0.64, -0.315),
            (0.745, -0.25),
            (0.80, -0.185),
            (0.73, -0.235),
            (0.63, -0.29),
            (0.50, -0.285),
        ],
    ),
)

# The upper head, cut at the silhouette.
_CAP = (
    (0.60, -0.38),
    (0.50, -0.425),
    (0.36, -0.455),
    (0.22, -0.42),
    (0.10, -0.34),
    (0.00, -0.60),
    (0.30, -0.75),
    (0.60, -0.60),
)

# All that streaks, spots and bands can lie on, cut at the silhouette.
_BREAST = (
    (0.56, -0.10),
    (0.40, -0.19),
    (0.16, -0.24),
    (0.17, 0.00),
    (0.13, 0.15),
    (0.00, 0.22),
    (-0.14, 0.24),
    (-0.14, 0.42),
    (0.12, 0.44),
    (0.36, 0.32),
    (0.54, 0.10),
)

# Streaks and spots, from the throat along breast and flank to the legs.
_MARKS = [
    (x, y)
    for x, ys in (
        (0.43, (-0.10, 0.0)),
        (0.365, (-0.13, -0.045, 0.045, 0.13)),
        (0.30, (-0.02, 0.07, 0.155, 0.235)),
        (0.23, (0.10, 0.185, 0.27)),
        (0.155, (0.22, 0.30)),
        (0.08, (0.255, 0.325)),
        (0.00, (0.275, 0.34)),
        (-0.08, (0.275, 0.335)),
    )
    for y in ys
]
