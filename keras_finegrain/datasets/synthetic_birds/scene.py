"""What surrounds a bird: background, perch, leaves in front, and the light.

Nothing here knows a species. Flowers and berries wear the colours of the
parts, so that a yellow pixel is no proof of a yellow eye.
"""

import dataclasses

import numpy as np

from keras_finegrain.datasets.synthetic_birds.bird import (
    Plumage,
    Pose,
    feet,
    reach,
)
from keras_finegrain.datasets.synthetic_birds.raster import (
    Layer,
    ellipse,
    enlarge,
    ribbon,
    rotate,
    smoothstep,
    spline,
)

# Sky, foliage far away and foliage near by, for each kind of place and hour.
_PLACES = np.array(
    [
        [(0.72, 0.84, 0.93), (0.55, 0.70, 0.50), (0.27, 0.42, 0.22)],
        [(0.86, 0.90, 0.80), (0.62, 0.72, 0.38), (0.33, 0.44, 0.18)],
        [(0.95, 0.84, 0.66), (0.80, 0.60, 0.36), (0.55, 0.33, 0.18)],
        [(0.80, 0.82, 0.85), (0.62, 0.66, 0.66), (0.40, 0.45, 0.43)],
        [(0.58, 0.74, 0.90), (0.45, 0.62, 0.66), (0.22, 0.38, 0.34)],
        [(0.93, 0.80, 0.78), (0.66, 0.60, 0.55), (0.36, 0.38, 0.28)],
    ]
)

# fmt: off
_BACKS = np.array([
    (0.55, 0.42, 0.30), (0.50, 0.36, 0.26), (0.46, 0.45, 0.30),
    (0.52, 0.49, 0.46), (0.42, 0.42, 0.45), (0.62, 0.44, 0.28),
])

_UNDERS = np.array([(0.94, 0.89, 0.78), (0.95, 0.93, 0.89), (0.93, 0.83, 0.68)])

_BARK = np.array([(0.40, 0.30, 0.22), (0.47, 0.42, 0.36), (0.32, 0.26, 0.22)])

# Black, white, yellow, coral, red and blue: the colours of the parts.
_FRUIT = np.array([
    (0.12, 0.11, 0.12), (0.96, 0.95, 0.90), (0.96, 0.78, 0.20),
    (0.93, 0.42, 0.28), (0.80, 0.14, 0.12), (0.40, 0.56, 0.78),
])
# fmt: on


def sample_pose(rng: np.random.RandomState, size: int) -> Pose:
    """A bird somewhere in the frame, wholly inside whatever its species."""
    pose = Pose(
        centre=(0.0, 0.0),
        scale=1.0,
        tilt=rng.uniform(-34.0, 2.0),
        mirrored=bool(rng.uniform() < 0.5),
        squeeze=rng.uniform(0.80, 1.0),
        head=rng.uniform(-12.0, 26.0),
        tail=rng.uniform(-14.0, 14.0),
        plump=rng.uniform(0.90, 1.15),
        head_size=rng.uniform(0.95, 1.12),
        stride=rng.uniform(0.10, 0.20),
    )
    low, high = reach(pose)
    extent = high - low
    scale = rng.uniform(0.45, 0.58) * size
    scale = min(scale, 0.98 * size / float(extent.max()))
    corner = (size - scale * extent) * rng.uniform(0.0, 1.0, 2)
    x, y = (corner - scale * low).tolist()
    return dataclasses.replace(pose, centre=(x, y), scale=scale)


def sample_plumage(rng: np.random.RandomState, size: int) -> Plumage:
    """One individual: brown, olive or grey, whatever its species."""
    mix = rng.uniform(0.0, 1.0)
    first, second = rng.randint(len(_BACKS), size=2)
    back = mix * _BACKS[first] + (1.0 - mix) * _BACKS[second]
    return Plumage(
        back=back * rng.uniform(0.85, 1.15),
        under=_UNDERS[rng.randint(len(_UNDERS))],
        texture=enlarge(rng.uniform(-1.0, 1.0, (12, 12)), size, size),
        jitter=rng.uniform(-1.0, 1.0, (60, 2)),
    )


def background(rng: np.random.RandomState, size: int) -> Layer:
    """Foliage and sky out of focus, then leaves and fruit nearer by."""
    sky, far, near = _PLACES[rng.randint(len(_PLACES))]
    # Painted small and enlarged: what is far away is blurred.
    small = 16
    blurred = Layer(small, small)
    horizon = rng.uniform(0.15, 0.85)
    height = (np.arange(small) + 0.5)[:, None] / small
    height = height + rng.uniform(-0.25, 0.25, (small, small))
    ground = smoothstep(horizon - 0.35, horizon + 0.35, height)[..., None]
    blurred.rgb[:] = sky * (1.0 - ground) + far * ground
    blurred.alpha[:] = 1.0
    for _ in range(rng.randint(4, 11)):
        place = rng.uniform(0.0, small, 2)
        colour = near if rng.uniform() < 0.6 else sky * rng.uniform(0.9, 1.1)
        blob = ellipse(place, rng.uniform(0.06, 0.2) * small)
        blurred.fill(blob, colour, rng.uniform(0.25, 0.6))
    photo = Layer(size, size)
    photo.rgb[:] = enlarge(blurred.rgb, size, size)
    photo.alpha[:] = 1.0
    for _ in range(rng.randint(0, 4)):
        place = rng.uniform(0.0, size, 2)
        glow = ellipse(place, rng.uniform(0.03, 0.09) * size)
        photo.fill(glow, 0.5 * sky + 0.5, rng.uniform(0.12, 0.3))

    half = Layer(max(size // 2, 8), max(size // 2, 8))
    for _ in range(rng.randint(1, 4)):
        _twig(rng, half, 0.02)
    for _ in range(rng.randint(4, 14)):
        _leaf(rng, half, rng.uniform(0.0, len(half.rgb), 2), near)
    for _ in range(rng.randint(0, 9)):
        _fruit(rng, half, rng.uniform(0.0, len(half.rgb), 2))
    # Weighted by the opacity, or empty pixels would darken the edges.
    cover = enlarge(half.alpha, size, size)
    colour = enlarge(half.rgb * half.alpha[..., None], size, size)
    photo.blend(colour / np.maximum(cover, 1e-6)[..., None], cover)
    return photo


def perch(rng: np.random.RandomState, photo: Layer, pose: Pose) -> None:
    """A branch under the feet, with a shadow below and leaves on it."""
    size = len(photo.rgb)
    stand = feet(pose)
    thick = rng.uniform(0.09, 0.15) * pose.scale
    (far_x, far_y), (near_x, near_y) = stand
    slope = (near_y - far_y) / (near_x - far_x)
    slope += rng.uniform(-0.08, 0.08)
    x, y = 0.5 * (stand[0] + stand[1])
    y += 0.45 * thick + 0.02 * pose.scale
    bend = rng.uniform(-0.08, 0.08, 2) * size
    left, right = -0.1 * size, 1.1 * size
    run, rise = 0.2 * pose.scale, 0.2 * slope * pose.scale
    knots = [
        (left, y + slope * (left - x) + bend[0]),
        (x - run, y - rise),
        (x + run, y + rise),
        (right, y + slope * (right - x) + bend[1]),
    ]
    line = spline(knots, closed=False, steps=8)
    bark = _BARK[rng.randint(len(_BARK))] * rng.uniform(0.8, 1.2)
    wide = thick * rng.uniform(0.8, 1.2, 2)
    photo.fill(ribbon(line, *wide), 0.75 * bark)
    lit = ribbon(line - (0.0, 0.14 * thick), *(0.65 * wide))
    photo.fill(lit, 1.05 * bark)
    shine = ribbon(line - (0.0, 0.28 * thick), 0.2 * thick)
    photo.fill(shine, 1.35 * bark, 0.6)
    for _ in range(rng.randint(0, 4)):
        knot = line[rng.randint(len(line))]
        _leaf(rng, photo, knot, np.array([0.30, 0.45, 0.20]))


def in_front(rng: np.random.RandomState, pose: Pose, size: int) -> Layer:
    """Leaves and a twig between the camera and the bird, or none."""
    layer = Layer(size, size)
    near = _PLACES[rng.randint(len(_PLACES)), 2] * 1.15
    if rng.uniform() < 0.30:
        _twig(rng, layer, 0.028)
    low, high = reach(pose)
    for _ in range(rng.randint(0, 4)):
        _leaf(rng, layer, rng.uniform(low, high), near)
    return layer


def light(rng: np.random.RandomState, image: np.ndarray) -> np.ndarray:
    """Exposure, colour cast, shadows of leaves, and the noise of a sensor.

    Args:
        rng: the source of chance.
        image: (height, width, 3) in [0, 1].

    Returns:
        (height, width, 3), about [0, 1].
    """
    height, width, _ = image.shape
    dapple = enlarge(rng.uniform(0.0, 1.0, (4, 4)), height, width)
    depth = rng.uniform(0.0, 0.45)
    image = image * (1.0 - depth * smoothstep(0.35, 0.7, dapple))[..., None]
    image = image * rng.uniform(0.85, 1.20) * rng.uniform(0.90, 1.10, 3)
    haze = rng.uniform(0.0, 0.10)
    image = image * (1.0 - haze) + haze * 0.8
    return image + rng.uniform(0.004, 0.025) * rng.normal(size=image.shape)


def _leaf(
    rng: np.random.RandomState,
    layer: Layer,
    stalk: np.ndarray,
    colour: np.ndarray,
) -> None:
    """A pointed leaf with a lit half and a vein."""
    length = rng.uniform(0.10, 0.22) * len(layer.rgb)
    ratio = rng.uniform(0.20, 0.34)
    angle = rng.uniform(0.0, 360.0)
    colour = colour * rng.uniform(0.8, 1.25) * rng.uniform(0.9, 1.1, 3)
    side = [(0.0, 0.0), (0.25, 0.8), (0.55, 0.9), (0.85, 0.35), (1.0, 0.0)]
    for sign, tone in ((1.0, 1.0), (-1.0, 0.82)):
        half = np.array([(x, sign * ratio * y) for x, y in side]) * length
        # A hair over the middle, or the background shines through the seam.
        half[:, 1] -= sign * 0.02 * length
        half = rotate(spline(half, steps=4), angle) + stalk
        layer.fill(half, tone * colour)
    vein = rotate([(0.0, 0.0), (0.92 * length, 0.0)], angle) + stalk
    layer.fill(ribbon(vein, 0.035 * length), 1.3 * colour, 0.6)


def _twig(rng: np.random.RandomState, layer: Layer, thick: float) -> None:
    """A thin branch from edge to edge."""
    size = len(layer.rgb)
    start, end = rng.uniform(-0.1, 1.1, 2) * size
    bend = rng.uniform(-0.1, 0.1, 2) * size
    knots = [
        (-0.05 * size, start),
        (0.35 * size, 0.65 * start + 0.35 * end + bend[0]),
        (0.70 * size, 0.30 * start + 0.70 * end + bend[1]),
        (1.05 * size, end),
    ]
    line = np.array(knots)
    if rng.uniform() < 0.5:
        line = line[:, ::-1]
    bark = _BARK[rng.randint(len(_BARK))] * rng.uniform(0.8, 1.25)
    width = thick * rng.uniform(0.7, 1.4) * size
    layer.fill(ribbon(spline(line, False, 6), width, 0.6 * width), bark)


def _fruit(rng: np.random.RandomState, layer: Layer, place: np.ndarray) -> None:
    """A berry or a petal in a colour that a bird could wear."""
    radius = rng.uniform(0.012, 0.032) * len(layer.rgb)
    colour = _FRUIT[rng.randint(len(_FRUIT))] * rng.uniform(0.85, 1.1)
    layer.fill(ellipse(place, radius, rng.uniform(0.6, 1.4)), colour)
    shine = ellipse(place - 0.3 * radius, 0.3 * radius)
    layer.fill(shine, 0.5 * colour + 0.5, 0.6)
