"""Look at pictures with an exported model: python runner.py MODEL.onnx PICTURE ... [--out FOLDER].

Needs numpy, onnxruntime and pillow, and MODEL.json beside the model; nothing else. Results are
drawn into the folder, and written there as results.json.
"""
import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

PILLOW = {'bilinear': Image.BILINEAR, 'bicubic': Image.BICUBIC, 'nearest': Image.NEAREST,
          'area': Image.BOX, 'lanczos': Image.LANCZOS}


class Model:
    """An exported model: `Model('model.onnx')(picture)` says what it sees.

    Attributes:
        facts: what the json beside the model says.
    """

    def __init__(self, path, threads: int = 0):
        import onnxruntime

        self.facts = json.loads(Path(path).with_suffix('.json').read_text(encoding='utf-8'))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Attention has weights that processors are slow with, and 0 is as good.
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
        self.session = onnxruntime.InferenceSession(Path(path).read_bytes(), options,
                                                    providers=['CPUExecutionProvider'])

    def __call__(self, picture: Image.Image) -> dict:
        """What is seen: `top`, `instances` or `labels` of pixels; masks and labels as arrays."""
        inputs, seen = prepare(np.asarray(picture.convert('RGB')), self.facts)
        answers = dict(zip(self.facts['outputs'], self.session.run(None, {
            'image': inputs.astype(self.facts['dtype'])})))
        return {'cls': top, 'seg': labels, 'det': instances}[self.facts['task']](
            answers, self.facts, seen, picture.size[::-1])


def prepare(pixels: np.ndarray, facts: dict) -> tuple:
    """(h, w, 3) uint8 RGB -> (1, 3, H, W) uint8, blue first; and how much of it is seen."""
    size, resize = tuple(facts['size']), facts['resize']
    height, width = pixels.shape[:2]
    if not resize:
        raise ValueError('MODEL.json must say how pictures come to their size, "resize" is null as '
                         'the config does it in a way of its own: do it as the config does.')
    if resize['how'] == 'stretch':
        new = size
    elif resize['how'] == 'edge':  # the short side, then the middle is cut out
        side = resize['edge']
        new = (side, int(side * width / height)) if width >= height else (
            int(side * height / width), side)
    else:  # 'fit': as large as goes in
        scale = min(size[0] / height, size[1] / width)
        new = int(height * scale + 0.5), int(width * scale + 0.5)
    pixels = scaled(pixels, new, resize)
    y, x = (max(round((a - b) / 2), 0) if resize['how'] == 'edge' else 0 for a, b in zip(new, size))
    pixels = pixels[y:y + size[0], x:x + size[1]]
    whole = np.empty((*size, 3), np.uint8)
    whole[:] = np.clip(np.round(facts['fill']), 0, 255)
    whole[:pixels.shape[0], :pixels.shape[1]] = pixels
    return np.ascontiguousarray(whole[..., ::-1].transpose(2, 0, 1)[None]), pixels.shape[:2]


def scaled(pixels: np.ndarray, size: tuple, resize: dict) -> np.ndarray:
    """(h, w, 3) uint8 at another size; as OpenCV does it where the config asks OpenCV."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    if resize['backend'] == 'pillow' or resize['interpolation'] != 'bilinear':
        picture = Image.fromarray(pixels)
        return np.asarray(picture.resize(size[::-1], PILLOW[resize['interpolation']]))
    (y0, y1, fy), (x0, x1, fx) = (between(new, old) for new, old in zip(size, pixels.shape))
    # OpenCV counts in parts of 2048, and cuts digits off twice on the way.
    fy, fx = (np.rint(f * 2048).astype(np.int64) for f in (fy, fx))
    fy, fx = fy[:, None, None], fx[:, None]
    rows = (pixels[:, x0] * (2048 - fx) + pixels[:, x1] * fx) >> 4
    return (((rows[y0] * (2048 - fy) >> 16) + (rows[y1] * fy >> 16) + 2) >> 2).astype(np.uint8)


def between(new: int, old: int) -> tuple:
    """For each of `new` places: the two of `old` places that it lies between, and how far along."""
    at = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, old - 1), (at - low).astype(np.float32)


def top(answers: dict, facts: dict, seen, size) -> dict:
    """The five likeliest classes."""
    (scores,) = answers['scores']
    order = np.argsort(-scores, kind='stable')[:5].tolist()
    return {'top': [dict(label=i, name=facts['classes'][i], score=float(scores[i]))
                    for i in order]}


def labels(answers: dict, facts: dict, seen, size) -> dict:
    """The class of each pixel of the picture."""
    logits = answers['logits'][0][:, :seen[0], :seen[1]]
    (y0, y1, fy), (x0, x1, fx) = (between(new, old) for new, old in zip(size, seen))
    rows = logits[:, :, x0] * (1 - fx) + logits[:, :, x1] * fx
    fy = fy[:, None]
    logits = rows[:, y0] * (1 - fy) + rows[:, y1] * fy
    if len(logits) == 1:  # two classes, told apart by one number
        return {'labels': (1 / (1 + np.exp(-logits[0])) > facts['threshold']).astype(np.int64)}
    return {'labels': logits.argmax(axis=0)}


def instances(answers: dict, facts: dict, seen, size) -> dict:
    """Objects in the pixels of the picture, best first."""
    scale = np.array([seen[1] / size[1], seen[0] / size[0]] * 2, np.float32)
    rows = []
    for i in np.flatnonzero(answers['scores'] > 0).tolist():
        label, box = int(answers['labels'][i]), answers['boxes'][i] / scale
        row = dict(label=label, name=facts['classes'][label], score=float(answers['scores'][i]),
                   box=np.clip(box, 0, [*size[::-1]] * 2).tolist())
        if facts.get('category_ids'):
            row['category_id'] = facts['category_ids'][label]
        if 'masks' in answers:
            row['mask'] = paste(answers['masks'][i], box, size) >= facts['mask_thr']
        rows.append(row)
    return {'instances': rows}


def paste(mask: np.ndarray, box: np.ndarray, size: tuple) -> np.ndarray:
    """Probabilities over a box (x1, y1, x2, y2) put into a picture (h, w): float32."""
    whole = np.zeros(size, np.float32)
    places, weights = [], []
    for low, high, side, count in zip(box[:2], box[2:], size[::-1], mask.shape[::-1]):
        if not high > low:
            return whole
        start, end = max(int(np.floor(low)) - 1, 0), min(int(np.ceil(high)) + 1, side)
        at = (np.arange(start, end) + 0.5 - low) / (high - low) * count - 0.5
        weights.append(np.maximum(1 - np.abs(at[:, None] - np.arange(count)), 0))
        places.append(slice(start, end))
    whole[places[1], places[0]] = weights[1] @ mask @ weights[0].T
    return whole


def runs(mask: np.ndarray) -> dict:
    """A mask as COCO's run lengths, column by column, starting with zeros."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return dict(size=list(mask.shape), counts=counts.tolist())


def colour(label: int, facts: dict) -> tuple:
    palette = facts.get('palette')
    return tuple(palette[label]) if palette else tuple(
        int(value) for value in np.random.default_rng(label).integers(40, 230, 3))


def draw(picture: Image.Image, seen: dict, facts: dict, least: float) -> Image.Image:
    """The picture with what is seen on it."""
    pixels = np.array(picture.convert('RGB'))
    if 'labels' in seen:
        colours = np.array([colour(i, facts) for i in range(len(facts['classes']))], np.uint8)
        return Image.fromarray((pixels // 2 + colours[seen['labels']] // 2).astype(np.uint8))
    rows = [row for row in seen.get('instances', ()) if row['score'] >= least]
    for row in rows:
        if 'mask' in row:
            pixels[row['mask']] = pixels[row['mask']] // 2 + np.array(
                colour(row['label'], facts), np.uint8) // 2
    drawn = Image.fromarray(pixels)
    pen = ImageDraw.Draw(drawn)
    for row in rows:
        pen.rectangle(row['box'], outline=colour(row['label'], facts), width=2)
        pen.text(row['box'][:2], f'{row["name"]} {row["score"]:.2f}', fill=(255, 255, 255))
    for i, row in enumerate(seen.get('top', ())):
        pen.text((2, 2 + 12 * i), f'{row["score"]:.2f} {row["name"]}', fill=(255, 255, 0))
    return drawn


def plain(seen: dict) -> dict:
    """What is seen, for json; labels of pixels are written as a picture instead."""
    if 'labels' in seen:
        return {}
    return {key: [{**row, 'mask': runs(row['mask'])} if 'mask' in row else row for row in rows]
            for key, rows in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model')
    parser.add_argument('pictures', nargs='+')
    parser.add_argument('--out', default='results', help='folder for what is drawn')
    parser.add_argument('--score', type=float, default=0.3, help='of what is drawn, at least')
    args = parser.parse_args()
    model, out, records = Model(args.model), Path(args.out), []
    out.mkdir(parents=True, exist_ok=True)
    for name in args.pictures:
        picture = ImageOps.exif_transpose(Image.open(name)).convert('RGB')
        seen = model(picture)
        draw(picture, seen, model.facts, args.score).save(out / f'{Path(name).stem}.png')
        if 'labels' in seen:
            Image.fromarray(seen['labels'].astype(np.uint8)).save(
                out / f'{Path(name).stem}_labels.png')
        records.append(dict(file=name, size=list(picture.size), **plain(seen)))
    (out / 'results.json').write_text(json.dumps(records), encoding='utf-8')
    print(f'looked at {len(records)} pictures, see {out}')


if __name__ == '__main__':
    main()
