"""Draws one bird: the body plan, its parts, and where the parts lie.

Lengths are in units of the bird's own height (about), with the origin in the
middle of its body, x towards the beak and y down. A `Pose` carries them to
pixels. The bird is drawn from the side, facing right; `mirrored` turns it.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from keras_finegrain.datasets.synthetic_birds import outlines
from keras_finegrain.datasets.synthetic_birds.raster import (
    Layer,
    Points,
    coverage,
    ellipse,
    ribbon,
    rotate,
    smoothstep,
    spline,
    turn,
)
from keras_finegrain.datasets.synthetic_birds.species import PARTS, Species

# fmt: off
#: The part points, named and ordered as in CUB-200-2011.
PART_POINTS = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye",
    "left leg", "left wing", "nape", "right eye", "right leg", "right wing",
    "tail", "throat",
)
# fmt: on

_NECK = (0.22, -0.20)
_TAIL_BASE = (-0.50, 0.17)
_SHORT_TAIL = 0.34

#: The length of a long tail, in the bird's units.
LONGEST_TAIL = 0.60

_INK = np.array([0.10, 0.09, 0.10])
_WHITE = np.array([0.97, 0.96, 0.92])
_YELLOW = np.array([0.97, 0.78, 0.16])
_RED = np.array([0.80, 0.13, 0.10])

_LEG_COLOURS = np.array(
    [
        (0.17, 0.15, 0.16),
        (0.93, 0.42, 0.28),
        (0.95, 0.78, 0.22),
        (0.4, 0.58, 0.78),
    ]
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

    def to_pixels(self, points: Points) -> np.ndarray:
        """Carries (..., 2) from the bird's units to pixels."""
        c, s = turn(self.tilt)
        points = np.asarray(points, dtype=np.float64)
        x, y = points[..., 0], points[..., 1]
        right = self.centre[0] + self.scale * self._side * (c * x - s * y)
        down = self.centre[1] + self.scale * (s * x + c * y)
        return np.stack([right, down], axis=-1)

    def from_pixels(
        self, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns x and y of the pixels in the bird's units."""
        c, s = turn(self.tilt)
        right = np.arange(width) + 0.5 - self.centre[0]
        x = right / (self.scale * self._side)
        y = (np.arange(height) + 0.5 - self.centre[1]) / self.scale
        x, y = x[None, :], y[:, None]
        return c * x + s * y, c * y - s * x

    @property
    def _side(self) -> float:
        return -self.squeeze if self.mirrored else self.squeeze

    def on_head(self, points: Points) -> np.ndarray:
        """Turns and scales (..., 2) with the head, about the neck."""
        points = (np.asarray(points) - _NECK) * self.head_size + _NECK
        return rotate(points, self.head, _NECK)

    def on_tail(self, points: Points) -> np.ndarray:
        """Carries (along, across) from the tail's base to the bird's units."""
        return rotate(points, 180.0 - 18.0 + self.tail) + _TAIL_BASE


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
    _Painter(layer, species, pose, plumage).paint(without)


def feet(pose: Pose) -> np.ndarray:
    """Where the two feet stand, in pixels: (2, 2), the far foot first."""
    return pose.to_pixels(_feet(pose))


def reach(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """The box that holds a bird of any species in this pose.

    Where a bird sits and how large it is drawn must not depend on its tail,
    so the box makes room for the longest tail, beak and crest.

    Returns:
        The smallest and the largest (x, y) in pixels.
    """
    corners = [
        _silhouette(pose),
        pose.on_tail([(LONGEST_TAIL, 0.14), (LONGEST_TAIL, -0.14)]),
        pose.on_head([(0.88, -0.31), (0.02, -0.82)]),
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
    near, far = ("left", "right") if pose.mirrored else ("right", "left")
    far_leg, near_leg = 0.5 * _hips(pose) + 0.5 * _feet(pose)
    eye, wing = pose.on_head(outlines.EYE), (-0.10, 0.04)
    chin = pose.on_head((0.44, -0.21))
    places: dict[str, Points] = {
        "back": (-0.14, -0.10),
        "beak": pose.on_head(outlines.BEAK_MIDDLES[species.states[0]]),
        "belly": (-0.02, 0.285 * pose.plump),
        "breast": (0.33, 0.10),
        "crown": pose.on_head((0.36, -0.53)),
        "forehead": pose.on_head((0.485, -0.475)),
        "nape": pose.on_head((0.16, -0.42)),
        "tail": pose.on_tail((0.4 * _tail_length(species), 0.0)),
        "throat": 0.5 * (chin + np.array([0.42, -0.18])),
        f"{near} eye": eye,
        f"{far} eye": eye,
        f"{near} wing": wing,
        f"{far} wing": wing,
        f"{near} leg": near_leg,
        f"{far} leg": far_leg,
    }
    hidden = {f"{far} eye", f"{far} wing"}
    points = {}
    for name in PART_POINTS:
        x, y = pose.to_pixels(places[name])
        points[name] = ((float(x), float(y)), name not in hidden)
    return points


def _feet(pose: Pose) -> np.ndarray:
    """The feet in the bird's units: (2, 2), the far one first."""
    half = 0.5 * pose.stride
    return np.array([(0.06 + half, 0.60), (0.06 - half, 0.61)])


def _hips(pose: Pose) -> np.ndarray:
    """Where the legs begin, as `_feet`."""
    half, low = 0.5 * pose.stride, 0.33 * pose.plump
    return np.array([(0.07 + half, low), (0.03 - half, low)])


def _tail_length(species: Species) -> float:
    return LONGEST_TAIL if "long" in species.state("tail") else _SHORT_TAIL


def _silhouette(pose: Pose) -> np.ndarray:
    """The outline of head and body."""
    knots = [
        pose.on_head(outlines.HEAD),
        outlines.BACK,
        outlines.BELLY * (1.0, pose.plump),
        outlines.CHEST,
        pose.on_head(outlines.CHIN),
    ]
    return spline(np.concatenate(knots))


class _Painter:
    """One method a part. `paint` has them in order, back to front."""

    def __init__(
        self, layer: Layer, species: Species, pose: Pose, plumage: Plumage
    ) -> None:
        self.layer, self.species, self.pose = layer, species, pose
        self.texture, self.jitter = plumage.texture, plumage.jitter
        self.back, self.under = plumage.back, plumage.under
        self.dark = 0.45 * self.back + 0.05 * _INK
        self.inside = self.region(_silhouette(pose))
        self.x, self.y = pose.from_pixels(*self.inside.shape)

    def paint(self, without: Collection[str]) -> None:
        has = {part: part not in without for part in PARTS}
        hips, feet = _hips(self.pose), _feet(self.pose)
        if has["tail"]:
            self.tail()
        if has["legs"]:
            self.leg(hips[0], feet[0], shade=0.75)
        if has["beak"]:
            self.beak()
        if has["crown"]:
            self.crest()
        self.body()
        if has["breast"]:
            self.breast()
        else:
            self.bare(spline(outlines.BREAST) * (1.0, self.pose.plump))
        if has["crown"]:
            self.crown()
        else:
            self.bare(self.pose.on_head(spline(outlines.CAP)))
        if has["wing"]:
            self.wing()
        if has["legs"]:
            self.leg(hips[1], feet[1])
        if has["eye"]:
            self.eye()

    def shape(
        self,
        points: Points,
        colour: np.ndarray,
        opacity: float = 1.0,
        within: np.ndarray | None = None,
    ) -> None:
        """Fills a polygon given in the bird's units."""
        self.layer.fill(self.pose.to_pixels(points), colour, opacity, within)

    def region(self, points: np.ndarray) -> np.ndarray:
        """How much of each pixel a polygon covers: (height, width)."""
        cover = np.zeros_like(self.layer.alpha)
        window, inner = coverage(self.pose.to_pixels(points), *cover.shape)
        cover[window] = inner
        return cover

    def bare(self, region: np.ndarray) -> None:
        """A region of the body without its feathers.

        A breast or a crown without a marking is "plain", a state like the
        others. The flat tone half way between back and belly is none of them,
        on any individual.
        """
        self.shape(
            region, 0.5 * self.back + 0.5 * self.under, within=self.inside
        )

    def tail(self) -> None:
        """Two fans of feathers: length and fork tell species apart."""
        length = _tail_length(self.species)
        forked = "forked" in self.species.state("tail")
        notch, spread = (0.42 * length, 0.125) if forked else (0.0, 0.085)
        outline = [
            (-0.06, -0.065),
            (0.5 * length, -0.075),
            (length, -spread),
            (length - notch, 0.0),
            (length, spread),
            (0.5 * length, 0.075),
            (-0.06, 0.065),
        ]
        on_tail = self.pose.on_tail
        self.shape(on_tail(outline), 0.72 * self.back)
        for across in (-0.5, 0.0, 0.5):
            end = length - notch * (1.0 - abs(across)) - 0.02
            shaft = [(0.02, 0.06 * across), (end, 1.3 * spread * across)]
            self.shape(on_tail(ribbon(shaft, 0.014)), self.dark, 0.8)

    def leg(
        self, hip: np.ndarray, foot: np.ndarray, shade: float = 1.0
    ) -> None:
        """A thigh of feathers, a shank and toes: the colour varies."""
        colour = shade * _LEG_COLOURS[self.species.states[-1]]
        knee = 0.6 * hip + 0.4 * foot + (-0.03, 0.0)
        self.shape(ribbon(spline([hip, knee, foot], False), 0.05, 0.04), colour)
        for toe in ((0.10, 0.03), (0.075, 0.055), (-0.065, 0.03)):
            line = foot + np.array([(0.0, 0.0), (0.5 * toe[0], -0.012), toe])
            self.shape(ribbon(spline(line, False), 0.042, 0.02), colour)
        thigh = [(-0.06, -0.06), (0.0, -0.09), (0.06, -0.05), (0.015, 0.07)]
        feathers = shade * (0.8 * self.under + 0.2 * self.back)
        self.shape(spline(hip + np.array(thigh)), feathers)

    def beak(self) -> None:
        """Upper and lower half: the shape varies, the colour is horn."""
        upper, lower = outlines.BEAKS[self.species.states[0]]
        horn = np.array([0.30, 0.27, 0.25])
        on_head = self.pose.on_head
        self.shape(on_head(spline(lower, steps=4)), 1.35 * horn)
        self.shape(on_head(spline(upper, steps=4)), horn)
        shine = ribbon(upper[:2] + np.array([0.01, 0.02]), 0.015)
        self.shape(on_head(shine), 2.2 * horn, 0.6)

    def crest(self) -> None:
        if self.species.state("crown") != "crested":
            return
        on_head = self.pose.on_head
        self.shape(on_head(outlines.CREST), 0.72 * self.back)
        for tip in ((0.10, -0.76), (0.09, -0.67)):
            vein = spline([(0.40, -0.55), (0.28, -0.62), tip], False)
            self.shape(on_head(ribbon(vein, 0.018, 0.008)), self.dark, 0.7)

    def body(self) -> None:
        """Dark above and pale below, as birds are, and round in the light."""
        # Where the flank ends: falls from the chin to the rump.
        flank = self.y - 0.30 + 0.62 * smoothstep(-0.6, 0.62, self.x)
        flank = flank + 0.06 * self.texture
        pale = smoothstep(-0.10, 0.12, flank)[..., None]
        colour = self.back * (1.0 - pale) + self.under * pale
        colour = colour * (1.0 + 0.10 * self.texture)[..., None]
        self.layer.blend(colour, self.inside)
        on_head = self.pose.on_head
        cheek = on_head(ellipse((0.33, -0.33), 0.115, 0.75))
        self.shape(cheek, 0.82 * self.back + 0.14, 0.55, self.inside)
        lores = on_head(ribbon([(0.54, -0.35), (0.42, -0.40)], 0.05))
        self.shape(lores, self.dark, 0.6, self.inside)

    def breast(self) -> None:
        """Streaks, spots or a band on breast and flank."""
        state = self.species.state("breast")
        if state == "dark-banded":
            band = ribbon(spline(outlines.BREAST_BAND, False), 0.12, 0.10)
            self.shape(band, self.dark, 1.0, self.inside)
        if state not in ("streaked", "spotted"):
            return
        places = outlines.MARKS + 0.016 * self.jitter[: len(outlines.MARKS)]
        for x, y in places * (1.0, self.pose.plump):
            if state == "streaked":
                streak = [(x + 0.025, y - 0.045), (x - 0.03, y + 0.05)]
                mark = ribbon(streak, 0.034, 0.020)
            else:
                mark = ellipse((x, y), 0.0275)
            self.shape(mark, self.dark, 0.92, self.inside)

    def crown(self) -> None:
        state = self.species.state("crown")
        on_head = self.pose.on_head
        if state == "black-capped":
            cap = on_head(spline(outlines.CAP))
            self.shape(cap, _INK, 1.0, self.inside)
            gloss = spline([(0.47, -0.50), (0.38, -0.53), (0.27, -0.52)], False)
            self.shape(on_head(ribbon(gloss, 0.02)), _INK + 0.25, 0.7)
        if state == "striped":
            line = spline(outlines.CROWN_STRIPE, False)
            for width, colour in ((0.125, _INK + 0.06), (0.06, _WHITE)):
                stripe = on_head(ribbon(line, width, 0.8 * width))
                self.shape(stripe, colour, 1.0, self.inside)

    def wing(self) -> None:
        """Folded: coverts, long feathers, and the bars."""
        feathers = 0.62 * self.back
        edge = 0.55 * self.back + 0.45 * self.under
        self.shape(spline(outlines.PRIMARIES), 0.8 * feathers)
        folded = spline(outlines.FOLDED_WING)
        on_wing = self.region(folded)
        light = 1.15 - 0.8 * smoothstep(-0.25, 0.35, self.y) * 0.5
        mottle = 1.0 + 0.08 * self.texture
        colour = feathers * light[..., None] * mottle[..., None]
        self.layer.blend(colour, on_wing)

        for low in (-0.02, 0.05, 0.115, 0.175):
            line = [(-0.10, low), (-0.30, 0.06 + 0.72 * low), (-0.62, 0.205)]
            quill = ribbon(spline(line, False), 0.022, 0.010)
            self.shape(quill, edge, 0.75, on_wing)
        state = self.species.state("wing")
        bars = {"no bar": (), "two white bars": (0.125, -0.045)}
        for x in bars.get(state, (0.06,)):
            bar = spline(outlines.WING_BAR + np.array([x, 0.0]), False)
            self.shape(ribbon(bar, 0.115), 0.6 * feathers, 0.8, on_wing)
            colour = _YELLOW if "yellow" in state else _WHITE
            self.shape(ribbon(bar, 0.072), colour, 1.0, on_wing)
        self.shape(ribbon(folded, 0.016), 0.6 * feathers, 0.5)

    def eye(self) -> None:
        """Large, as in young birds, or few pixels of it would be left."""
        state = self.species.state("eye")
        iris = {"yellow": _YELLOW, "red": _RED}.get(state)
        ringed = state == "white-ringed"
        rim, radius = (_WHITE, 0.082) if ringed else (0.5 * self.dark, 0.068)
        pupil = 0.056 if iris is None else 0.030
        discs = ((radius, rim), (0.06, iris), (pupil, 0.5 * _INK))
        for radius, colour in discs:
            if colour is not None:
                disc = ellipse(outlines.EYE, radius)
                self.shape(self.pose.on_head(disc), colour)
        x, y = outlines.EYE
        glint = ellipse((x + 0.017, y - 0.02), 0.016)
        self.shape(self.pose.on_head(glint), np.ones(3), 0.95)
