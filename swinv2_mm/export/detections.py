"""Whether two lists of detections of a picture are the same ones."""
from __future__ import annotations

import numpy as np

from swinv2_mm.utils.errors import UserError

from .runner import of_picture, paste

# Pixels, scores, and 1 - IoU of masks; of what one of both has alone, the share: two boxes of one
# score, or two that overlap as much as NMS allows, may change places.
LIMITS = dict(boxes=0.01, scores=1e-4, masks=1e-3, alone=0.01)


def whole(answers: list[np.ndarray], size: tuple[int, int], facts: dict) -> list[np.ndarray]:
    """Outputs of a file as mmdet gives them: what was found, masks in pictures (h, w).

    `facts`: what the json beside the file says of them.
    """
    there = answers[1] > 0
    boxes, *rest = (answer[there] for answer in answers)
    if len(rest) == 3 and rest[2].dtype != bool:
        masks = [of_picture(mask, facts, size, size) if facts.get('masks') == 'picture' else
                 paste(mask, box, size) >= facts['mask_thr'] for mask, box in zip(rest[2], boxes)]
        rest[2] = np.array(masks, bool).reshape(-1, *size)
    return [boxes, *rest]


def compare(run, ask, facts: dict, images, strict: bool = True,
            orders=lambda ask, image: ()) -> dict[str, float]:
    """The largest differences over pictures, as `LIMITS` names them; UserError above these.

    orders: (ask, image) -> other answers that are as right where proposals tie.
    """
    largest, count, alone = dict(boxes=0.0, scores=0.0), 0, 0
    for image in images:
        ours, theirs = ask(image), whole(run(image), image.shape[2:], facts)
        found = _distances(ours, theirs)
        if any(not value <= LIMITS[name] for name, value in found.items()):
            found = min([found, *(_distances(other, theirs) for other in orders(ask, image))],
                        key=lambda found: (found['alone'], found['boxes']))
        count += max(len(ours[0]), len(theirs[0]))
        alone += found.pop('alone')
        largest = {name: max(largest.get(name, 0.0), value) for name, value in found.items()}
    largest['alone'] = alone / max(count, 1)
    for name, value in largest.items():
        if not value <= (LIMITS[name] if strict else np.inf):  # NaN is refused, too
            raise UserError('The file must find what PyTorch finds, '
                            f'{name} differ by {value:.2g} and may by {LIMITS[name]}: this is a '
                            'defect.')
    return largest


def _distances(ours, theirs) -> dict[str, float]:
    """The largest differences of one picture; `alone` is a number of detections here."""
    pairs = _pairs(ours, theirs)
    found = dict(boxes=[np.abs(ours[0][i] - theirs[0][j]).max() for i, j in pairs],
                 scores=[abs(ours[1][i] - theirs[1][j]) for i, j in pairs])
    if len(ours) == 4:
        found['masks'] = [1 - _iou(ours[3][i], theirs[3][j]) for i, j in pairs]
    largest = {name: float(np.max(values, initial=0.0)) for name, values in found.items()}
    return largest | dict(alone=len(ours[0]) + len(theirs[0]) - 2 * len(pairs))


def _pairs(ours, theirs) -> list[tuple[int, int]]:
    """Numbers of the same detection in both: of one class, in nearly one place and score."""
    left, found = list(range(len(theirs[0]))), []
    for i, (box, score, label) in enumerate(zip(*ours[:3])):
        if near := [(np.abs(theirs[0][j] - box).max() + abs(theirs[1][j] - score), j) for j in left
                    if theirs[2][j] == label]:
            distance, j = min(near)
            if distance < 1:
                left.remove(j)
                found.append((i, j))
    return found


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    either = (one | other).sum()
    return float((one & other).sum() / either) if either else 1.0
