"""Look at pictures with an exported model: python runner.py MODEL.onnx PICTURE ... [--out FOLDER].

Needs numpy, pillow and onnxruntime (or openvino), and MODEL.json beside the model; nothing else.
Results are drawn into the folder, and written there as results.json. With --truth they are measured
instead: TRUTH is a folder of classes, a folder of maps, or a COCO json (which needs pycocotools).
"""
import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

PILLOW = {'bilinear': Image.BILINEAR, 'bicubic': Image.BICUBIC, 'nearest': Image.NEAREST,
          'area': Image.BOX, 'lanczos': Image.LANCZOS}


def by_onnxruntime(path, threads: int = 0):
    """A function from pixels (B, ...) to the outputs of a file, in onnxruntime; 0 threads: all."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    # Attention has weights that processors are slow with, and 0 is as good.
    options.add_session_config_entry('session.set_denormal_as_zero', '1')
    session = onnxruntime.InferenceSession(Path(path).read_bytes(), options,
                                           providers=['CPUExecutionProvider'])
    kind = {'tensor(uint8)': np.uint8}.get(session.get_inputs()[0].type, np.float32)
    return lambda pixels: session.run(None, {'image': pixels.astype(kind)})


def by_openvino(path, threads: int = 0):
    """The same in OpenVINO."""
    import openvino

    settings = {'INFERENCE_PRECISION_HINT': 'f32', 'CPU_DENORMALS_OPTIMIZATION': True}
    if threads:
        settings['INFERENCE_NUM_THREADS'] = threads
    model = openvino.Core().compile_model(str(path), 'CPU', settings)
    kind = model.inputs[0].element_type.to_dtype()
    return lambda pixels: [np.array(out) for out in model(
        [np.ascontiguousarray(pixels, dtype=kind)]).values()]


ENGINES = {'onnxruntime': by_onnxruntime, 'openvino': by_openvino}


class Model:
    """An exported model: `Model('model.onnx')(picture)` says what it sees.

    Attributes:
        facts: what the json beside the model says.
    """

    def __init__(self, path, threads: int = 0, engine: str = 'onnxruntime'):
        self.facts = json.loads(Path(path).with_suffix('.json').read_text(encoding='utf-8'))
        self.run = ENGINES[engine](path, threads)

    def __call__(self, picture: Image.Image) -> dict:
        """What is seen: `top`, `instances` or `labels` of pixels; masks and labels as arrays."""
        inputs, seen = prepare(np.asarray(picture.convert('RGB')), self.facts)
        answers = dict(zip(self.facts['outputs'], self.run(inputs)))
        return {'cls': top, 'seg': labels, 'det': instances}[self.facts['task']](
            answers, self.facts, seen, picture.size[::-1])

    def film(self, views: np.ndarray) -> dict:
        """What a film shows: `top`; views (V, T, H, W, 3) uint8, as the model's library reads."""
        (scores,) = self.run(views.transpose(0, 4, 1, 2, 3)[None])
        return top({'scores': scores}, self.facts, None, None)


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
    else:  # 'fit': as the config does it, and as large as goes in
        scale = min(size[0] / height, size[1] / width, resize.get('factor', np.inf))
        if resize.get('scale'):
            sides, ours = sorted(resize['scale']), sorted((height, width))
            scale = min(scale, *(side / our for side, our in zip(sides, ours)))
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


def enlarged(maps: np.ndarray, size: tuple) -> np.ndarray:
    """Maps (n, h, w) of numbers at another size."""
    (y0, y1, fy), (x0, x1, fx) = (between(new, old) for new, old in zip(size, maps.shape[1:]))
    rows = maps[:, :, x0] * (1 - fx) + maps[:, :, x1] * fx
    fy = fy[:, None]
    return rows[:, y0] * (1 - fy) + rows[:, y1] * fy


def top(answers: dict, facts: dict, seen, size) -> dict:
    """The five likeliest classes."""
    (scores,) = answers['scores']
    order = np.argsort(-scores, kind='stable')[:5].tolist()
    return {'top': [dict(label=i, name=facts['classes'][i], score=float(scores[i]))
                    for i in order]}


def labels(answers: dict, facts: dict, seen, size) -> dict:
    """The class of each pixel of the picture."""
    logits = enlarged(answers['logits'][0][:, :seen[0], :seen[1]], size)
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
        if facts.get('masks') == 'picture':
            row['mask'] = of_picture(answers['masks'][i], facts, seen, size)
            row['box'] = around(row['mask'])
        elif 'masks' in answers:
            row['mask'] = paste(answers['masks'][i], box, size) >= facts['mask_thr']
        rows.append(row)
    return {'instances': rows}


def of_picture(logits: np.ndarray, facts: dict, seen: tuple, size: tuple) -> np.ndarray:
    """A mask of a picture (h, w), bool, from coarse logits of the picture padded."""
    whole = enlarged(logits[None], facts['padded'])[:, :seen[0], :seen[1]]
    return enlarged(whole, size)[0] > 0


def around(mask: np.ndarray) -> list:
    """The box (x1, y1, x2, y2) around a mask."""
    (x1, x2), (y1, y2) = ((at[0], at[-1] + 1) if len(at) else (0, 0) for at in (
        np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))))
    return [float(x1), float(y1), float(x2), float(y2)]


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


def found_in(words: list) -> list:
    """Pictures among paths and in the folders among them: (folder or parent, path) each."""
    kinds, pairs = Image.registered_extensions(), []
    for word in map(Path, words):
        inside = sorted(path for path in word.rglob('*') if path.suffix.lower() in kinds)
        pairs += [(word, path) for path in inside] if word.is_dir() else [(word.parent, word)]
    return pairs


def opened(path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert('RGB')


def measure(model, pairs: list, truth) -> dict:
    """What tools/test.py measures: accuracy and mean recall, mIoU and aAcc, or COCO's AP."""
    return {'cls': of_classes, 'seg': of_maps, 'det': of_objects}[model.facts['task']](
        model, pairs, Path(truth))


def of_classes(model, pairs: list, truth: Path) -> dict:
    """Percent; the class of a picture is the name of its folder in `truth`."""
    classes = model.facts['classes']
    if not model.facts['one_label']:
        raise ValueError('--truth is for classifiers of one label, this one gives several: take '
                         'results.json.')
    table = np.zeros([len(classes)] * 2, np.int64)  # [class, answer]
    for _, path in pairs:
        label = classes.index(path.resolve().relative_to(truth.resolve()).parts[0])
        table[label, model(opened(path))['top'][0]['label']] += 1
    there = table.sum(1) > 0
    return {'accuracy/top1': 100 * table.trace() / table.sum(),
            'single-label/recall': 100 * (table.diagonal()[there] / table.sum(1)[there]).mean()}


def of_maps(model, pairs: list, truth: Path) -> dict:
    """Percent; the map of a picture has its place and name in `truth`, and the data's suffix."""
    facts = model.facts
    table = np.zeros([len(facts['classes'])] * 2, np.int64)
    numbers = np.full(256, -1)
    numbers[facts['map_numbers']] = np.arange(len(facts['classes']))
    for folder, path in pairs:
        name = str(path.relative_to(folder))
        stem = name[:-len(facts['suffixes'][0])] if name.endswith(facts['suffixes'][0]) \
            else str(Path(name).with_suffix(''))
        right = numbers[np.asarray(Image.open(truth / (stem + facts['suffixes'][1])))]
        there = right >= 0
        answer = model(opened(path))['labels']
        table += np.bincount(right[there] * len(table) + answer[there],
                             minlength=table.size).reshape(table.shape)
    hits, union = table.diagonal(), table.sum(0) + table.sum(1) - table.diagonal()
    return {'aAcc': 100 * hits.sum() / table.sum(),
            'mIoU': 100 * (hits / np.maximum(union, 1))[table.sum(1) > 0].mean()}


def of_objects(model, pairs: list, truth: Path) -> dict:
    from pycocotools import mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(str(truth))
    ids = {row['file_name']: row['id'] for row in coco.dataset['images']}
    rows, used, found = [], [], {}
    for folder, path in pairs:
        number = ids.get(path.relative_to(folder).as_posix())
        if number is None:
            continue
        used.append(number)
        for row in model(opened(path))['instances']:
            x1, y1, x2, y2 = row['box']
            rows.append(dict(image_id=number, category_id=row['category_id'], score=row['score'],
                             bbox=[x1, y1, x2 - x1, y2 - y1]))
            if 'mask' in row:
                rows[-1]['segmentation'] = mask.encode(np.asfortranarray(row['mask']))
    for kind in ('bbox', 'segm'):
        key = dict(bbox='bbox', segm='segmentation')[kind]
        if not rows or key not in rows[0]:
            continue
        # Areas are those of boxes for boxes, and of masks for masks.
        chosen = [{name: value for name, value in row.items() if name in (
            'image_id', 'category_id', 'score', key)} for row in rows]
        told = COCOeval(coco, coco.loadRes(chosen), kind)
        told.params.imgIds, told.params.catIds = used, model.facts['category_ids']
        told.evaluate()
        told.accumulate()
        told.summarize()
        found.update({f'{kind}_mAP': told.stats[0], f'{kind}_mAP_50': told.stats[1]})
    return found


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model')
    parser.add_argument('pictures', nargs='+', help='pictures, or folders of them')
    parser.add_argument('--out', default='results', help='folder for what is drawn')
    parser.add_argument('--score', type=float, default=0.3, help='of what is drawn, at least')
    parser.add_argument('--truth', help='measure by it: folder of classes, of maps, or COCO json')
    parser.add_argument('--engine', choices=ENGINES, default='onnxruntime')
    args = parser.parse_args(argv)
    pairs = found_in(args.pictures)
    if args.truth:
        model = Model(args.model, engine=args.engine)
        print(json.dumps(measure(model, pairs, args.truth)))
        return
    model, out, records = Model(args.model, engine=args.engine), Path(args.out), []
    out.mkdir(parents=True, exist_ok=True)
    for _, name in pairs:
        picture = opened(name)
        seen = model(picture)
        draw(picture, seen, model.facts, args.score).save(out / f'{Path(name).stem}.png')
        if 'labels' in seen:
            numbers = np.array(model.facts['map_numbers'], np.uint8)  # those of the user's maps
            Image.fromarray(numbers[seen['labels']]).save(
                out / f'{Path(name).stem}_labels.png')
        records.append(dict(file=str(name), size=list(picture.size), **plain(seen)))
    (out / 'results.json').write_text(json.dumps(records), encoding='utf-8')
    print(f'looked at {len(records)} pictures, see {out}')


if __name__ == '__main__':
    main()
