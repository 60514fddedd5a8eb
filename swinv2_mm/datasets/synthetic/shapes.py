"""What a toy scene is, and how it is drawn: a pure function from a `Scene` to picture and masks.

Nothing here is random: a `Scene` holds every number (or the seed of every noise field) its picture
needs, and each object's place is its `Pose`. To move an object, replace its pose and render again;
textures are drawn in the object's own frame, so they travel and turn with it.

Coordinates are pixels, x to the right and y down, with the image spanning [0, W] x [0, H], so the
centre of the top-left pixel is (0.5, 0.5). Colours are BGR, the order OpenCV reads and writes.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

KINDS = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')  # a label is an index in this tuple
TEXTURES = ('solid', 'gradient', 'stripes', 'speckle')
SUPERSAMPLE = 4  # outlines are filled this much larger, then averaged: the antialiasing
MARGIN = 10  # pixels around an object's patch, room for its shadow


@dataclass(frozen=True)
class Pose:
    """Where an object is: centre (x, y), `size` across its circle, `angle` in radians, `aspect`.

    `aspect` is width over height before the rotation; the longer of the two keeps `size`, so an
    object never leaves the circle of diameter `size` around its centre.
    """

    x: float
    y: float
    size: float
    angle: float
    aspect: float


@dataclass(frozen=True)
class Skin:
    """What an object is painted with: two BGR colours mixed by a texture, and a rim.

    `period` (stripes, speckle) is in units of the object's radius, `turn` (gradient, stripes) in
    radians. `rim` is the relative brightness of the edge: below 0 darker, above 0 lighter.
    """

    texture: str
    colours: tuple
    period: float
    turn: float
    rim: float
    seed: int


@dataclass(frozen=True)
class Shape:
    """One object: its kind (one of `KINDS`), its pose and its skin."""

    kind: str
    pose: Pose
    skin: Skin


@dataclass(frozen=True)
class Scene:
    """Everything a picture is drawn from. Later shapes cover earlier ones.

    `size` is (H, W). `colours` are the two BGR ends of the background, `shadow` is (dx, dy,
    strength) with dx and dy whole pixels of at most 4 and strength in [0, 1], `noise` the standard
    deviation of the pixel noise in grey levels. `background_seed` draws the clutter, `noise_seed`
    the pixel noise, so that frames of one film can share the first and differ in the second.
    """

    size: tuple
    colours: tuple
    background_seed: int
    shapes: tuple
    shadow: tuple
    noise: float
    noise_seed: int


# ---- outlines and masks ------------------------------------------------------------------------


def _circle(radius, points=72, start=0.0):
    turn = start + np.arange(points) * (2 * np.pi / points)
    return radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)


def _star(points=5, inner=0.45):
    rim = _circle(1.0, 2 * points)
    rim[1::2] *= inner
    return rim


def _cross(arm=0.34):
    corner = np.array([[arm, arm], [arm, 1], [-arm, 1], [-arm, arm], [-1, arm], [-1, -arm],
                       [-arm, -arm], [-arm, -1], [arm, -1], [arm, -arm], [1, -arm], [1, arm]])
    return corner / np.hypot(arm, 1)


# Closed contours in the unit circle; what lies inside two of them is a hole (even-odd rule).
OUTLINES = {
    'disc': (_circle(1.0),),
    'square': (_circle(1.0, 4, np.pi / 4),),  # sides along the axes, for `aspect`
    'triangle': (_circle(1.0, 3),),
    'star': (_star(),),
    'ring': (_circle(1.0), _circle(0.55)),
    'cross': (_cross(),),
}


def _stretch(pose):
    """Half width and half height in pixels, the longer one being half of `pose.size`."""
    wide = np.array([pose.aspect, 1.0]) / max(pose.aspect, 1.0)
    return wide * pose.size / 2


def _turning(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


@lru_cache(maxsize=64)  # a scene asks for each of its shapes many times while it is sampled
def _patch(kind, pose):
    """Coverage of one object on its own square patch.

    Returns (left, top, cover): the patch's corner in whole pixels, possibly outside the image, and
    cover (side, side) uint8, 0 outside the object to 255 inside it.
    """
    reach = int(np.ceil(pose.size / 2)) + MARGIN
    left, top = int(np.floor(pose.x)) - reach, int(np.floor(pose.y)) - reach
    side = 2 * reach + 1
    canvas = np.zeros((side * SUPERSAMPLE, side * SUPERSAMPLE), np.uint8)
    contours = []
    for outline in OUTLINES[kind]:
        points = (outline * _stretch(pose)) @ _turning(pose.angle).T + (pose.x - left, pose.y - top)
        # OpenCV counts from pixel centres, hence the half; shift=4 keeps 1/16 of a pixel.
        contours.append(np.rint((points * SUPERSAMPLE - 0.5) * 16).astype(np.int32))
    cv2.fillPoly(canvas, contours, 255, shift=4)
    cover = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    cover.setflags(write=False)
    return left, top, cover


def _overlap(left, top, side, size):
    """Slices of the image and of the patch where the two meet, each as (rows, columns)."""
    spans = []
    for start, limit in ((top, size[0]), (left, size[1])):
        low, high = max(start, 0), max(max(start, 0), min(start + side, limit))
        spans.append((slice(low, high), slice(low - start, high - start)))
    (rows, patch_rows), (columns, patch_columns) = spans
    return (rows, columns), (patch_rows, patch_columns)


def visible_masks(shapes: tuple, size: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Work out which pixels of an image of `size` (H, W) belong to which shape.

    Returns masks (n, H, W) bool, never overlapping, and shown (n,): the visible pixels of each
    shape over all its pixels, those covered by later shapes or cut off by the border included.
    """
    masks = np.zeros((len(shapes), *size), bool)
    whole = np.ones(len(shapes))
    for i, shape in enumerate(shapes):
        left, top, cover = _patch(shape.kind, shape.pose)
        solid = cover >= 128
        window, inside = _overlap(left, top, len(cover), size)
        masks[i][window] = solid[inside]
        masks[:i][(slice(None), *window)] &= ~solid[inside]
        whole[i] = max(solid.sum(), 1)
    return masks, masks.sum(axis=(1, 2)) / whole


# ---- drawing -----------------------------------------------------------------------------------


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a scene; the same scene always gives the same picture.

    Returns image (H, W, 3) uint8 BGR, masks (n, H, W) bool of what stays visible of each of the n
    shapes, and labels (n,) int64, indices in `KINDS`. A mask is empty where a pose set by the
    caller hides its shape.
    """
    canvas = _background(scene)
    for shape in scene.shapes:
        _paint(canvas, shape, scene.shadow)
    noise = np.random.default_rng(scene.noise_seed).standard_normal(canvas.shape, np.float32)
    image = np.clip(np.rint(canvas + scene.noise * noise), 0, 255).astype(np.uint8)
    masks, _ = visible_masks(scene.shapes, scene.size)
    labels = np.array([KINDS.index(shape.kind) for shape in scene.shapes], np.int64)
    return image, masks, labels


def _background(scene):
    return _clutter(scene.size, scene.colours, scene.background_seed).copy()


@lru_cache(maxsize=1)  # the frames of a film share it
def _clutter(size, colours, seed):
    """Gradient, cloudy noise and clutter that is none of the kinds: (H, W, 3) float32 BGR."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[0:1:height * 1j, 0:1:width * 1j].astype(np.float32) - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    mix = 0.5 + 0.7 * (x * np.cos(turn) + y * np.sin(turn))
    for cells, strength in ((3, 0.30), (6, 0.15), (14, 0.08)):
        grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        mix += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = _blend(colours, np.clip(mix, 0, 1))
    for _ in range(rng.integers(3, 8)):
        _blot(canvas, rng)
    for _ in range(rng.integers(4, 13)):
        _stroke(canvas, rng)
    return canvas


def _blend(colours, mix):
    first, second = np.array(colours, np.float32)
    return first + mix[..., None] * (second - first)


def _blot(canvas, rng):
    """A soft, lopsided stain; long and blurred, lest it be taken for a disc."""
    turn = np.arange(48) * (2 * np.pi / 48)
    start = rng.uniform(0, 2 * np.pi, 2)
    wobble = 0.35 * np.sin(2 * turn + start[0]) + 0.4 * np.sin(3 * turn + start[1])
    lean, reach = rng.uniform(0, np.pi), rng.uniform(8, 40)
    points = np.stack([np.cos(turn), 0.5 * np.sin(turn)], axis=1) * (1 + wobble)[:, None]
    points = reach * points @ _turning(lean).T + rng.uniform(0, 1, 2) * canvas.shape[1::-1]
    ink = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(ink, [np.rint(points).astype(np.int32)], 255)
    ink = cv2.GaussianBlur(ink, (0, 0), rng.uniform(2, 5))
    _lay(canvas, ink, _colour(rng), rng.uniform(0.2, 0.6))


def _stroke(canvas, rng):
    """A thin open line, straight or wandering; thin, lest two of them be taken for a cross."""
    steps = 1 if rng.random() < 0.5 else int(rng.integers(6, 14))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.45, steps))
    step = np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(25, 120) / steps
    start = rng.uniform(0, 1, (1, 2)) * canvas.shape[1::-1]
    path = np.cumsum(np.concatenate([start, step]), axis=0)
    ink = np.zeros(canvas.shape[:2], np.uint8)  # OpenCV antialiases lines in 8 bits only
    cv2.polylines(ink, [np.rint(path * 16).astype(np.int32)], False, 255,
                  thickness=int(rng.integers(1, 4)), lineType=cv2.LINE_AA, shift=4)
    _lay(canvas, ink, _colour(rng), rng.uniform(0.4, 0.9))


def _colour(rng):
    return rng.uniform(0, 255, 3).astype(np.float32)


def _lay(canvas, ink, colour, strength):
    """Colour the canvas where `ink` (H, W) uint8 is, in place; touch only its box, for speed."""
    left, top, width, height = cv2.boundingRect(ink)
    box = (slice(top, top + height), slice(left, left + width))
    canvas[box] += (ink[box] * np.float32(strength / 255))[..., None] * (colour - canvas[box])


def _paint(canvas, shape, shadow):
    """Lay one shape and its shadow over the canvas (H, W, 3) float32, in place."""
    left, top, cover = _patch(shape.kind, shape.pose)
    window, inside = _overlap(left, top, len(cover), canvas.shape[:2])
    under = canvas[window]
    alpha = cover.astype(np.float32) / 255
    dx, dy, strength = shadow
    dark = cv2.GaussianBlur(np.roll(alpha, (dy, dx), (0, 1)), (0, 0), 2)[inside]
    under *= 1 - strength * dark[..., None]
    colour = _blend(shape.skin.colours, _texture(shape, left, top, len(cover)))
    rim = alpha - cv2.erode(alpha, np.ones((3, 3), np.uint8))
    colour *= 1 + shape.skin.rim * rim[..., None]
    under += alpha[inside][..., None] * (colour[inside] - under)


def _texture(shape, left, top, side):
    """How much of the second colour each pixel of the patch takes: (side, side) in [0, 1]."""
    pose, skin = shape.pose, shape.skin
    if skin.texture == 'solid':
        return np.zeros((side, side), np.float32)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) + 0.5
    points = np.stack([x + (left - pose.x), y + (top - pose.y)], axis=-1)
    # Into the object's own frame: turned back (p @ R is R^-1 p), then in units of its half sides.
    u, v = np.moveaxis((points @ _turning(pose.angle) / _stretch(pose)).astype(np.float32), -1, 0)
    along = u * np.float32(np.cos(skin.turn)) + v * np.float32(np.sin(skin.turn))
    if skin.texture == 'gradient':
        return np.clip(0.5 + 0.6 * along, 0, 1)
    if skin.texture == 'stripes':
        return np.clip(0.5 + 1.5 * np.sin(along * np.float32(2 * np.pi / skin.period)), 0, 1)
    grains = np.random.default_rng(skin.seed).uniform(-1, 2, (16, 16)).astype(np.float32)
    scale = 2 / skin.period
    return np.clip(cv2.remap(grains, u * scale + 8, v * scale + 8, cv2.INTER_LINEAR,
                             borderMode=cv2.BORDER_WRAP), 0, 1)
