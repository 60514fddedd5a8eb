"""One small set of photos with objects, as each labelling tool writes it."""
import base64
import io
import json
import zlib

import numpy as np
from PIL import Image

WIDE, HIGH = 128, 96
CLASSES = ['rod', 'cell']
NAMES = [f'photo_{number}.jpg' for number in range(5)]
CELL = 20, 30, 60, 70  # corners of a box
ROD = [(80, 10), (120, 10), (120, 50), (100, 50)]  # a polygon, around which is:
ROD_BOX = 80, 10, 120, 50


def photos(folder, names=tuple(NAMES), size=(WIDE, HIGH)):
    """Pictures of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).save(folder / name)
    return folder


def labelimg(root):
    photos(root)
    for name in NAMES:
        objects = ''.join(
            f'<object><name>{kind}</name><pose>Left</pose><difficult>0</difficult><bndbox>'
            f'<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
            for kind, (x, y, x2, y2) in (('cell', CELL), ('rod', ROD_BOX)))
        (root / name).with_suffix('.xml').write_text(
            f'<annotation><filename>{name}</filename><size><width>{WIDE}</width>'
            f'<height>{HIGH}</height></size>{objects}</annotation>')
    return root


def yolo(root):
    photos(root / 'images')
    (root / 'labels').mkdir()
    (root / 'classes.txt').write_text('rod\ncell\n')
    x, y, x2, y2 = CELL
    box = (x + x2) / 2 / WIDE, (y + y2) / 2 / HIGH, (x2 - x) / WIDE, (y2 - y) / HIGH
    points = [number for px, py in ROD for number in (px / WIDE, py / HIGH)]
    for name in NAMES:
        (root / 'labels' / name).with_suffix('.txt').write_text(
            f'1 {" ".join(map(str, box))}\n0 {" ".join(map(str, points))}\n')
    return root


def labelme(root):
    photos(root)
    for name in NAMES:
        shapes = [dict(label='cell', points=[CELL[:2], CELL[2:]], shape_type='rectangle',
                       group_id=None, flags=dict(blurred=True)),
                  dict(label='rod', points=ROD, shape_type='polygon', description='bent'),
                  dict(label='rod', points=ROD[:2], shape_type='line')]
        (root / name).with_suffix('.json').write_text(json.dumps(dict(
            version='5.2.1', flags={}, shapes=shapes, imagePath=name, imageData=None,
            imageHeight=HIGH, imageWidth=WIDE)))
    return root


def cvat(root):
    photos(root / 'images')
    x, y, x2, y2 = CELL
    points = ';'.join(f'{px:.2f},{py:.2f}' for px, py in ROD)
    shapes = (f'<box label="cell" occluded="1" xtl="{x}" ytl="{y}" xbr="{x2}" ybr="{y2}" '
              'z_order="0"><attribute name="age">old</attribute></box>'
              f'<polygon label="rod" occluded="0" points="{points}" z_order="0"></polygon>'
              '<polyline label="rod" points="1,1;9,9" z_order="0"></polyline>')
    images = ''.join(f'<image id="{i}" name="{name}" width="{WIDE}" height="{HIGH}">{shapes}'
                     '</image>' for i, name in enumerate(NAMES))
    kinds = ''.join(f'<label><name>{name}</name></label>' for name in CLASSES)
    (root / 'annotations.xml').write_text(
        f'<?xml version="1.0"?><annotations><version>1.1</version><meta><task><labels>{kinds}'
        f'</labels></task></meta>{images}</annotations>')
    return root


def label_studio(root):
    photos(root)
    x, y, x2, y2 = CELL
    sides = dict(original_width=WIDE, original_height=HIGH, image_rotation=0)
    box = dict(x=100 * x / WIDE, y=100 * y / HIGH, width=100 * (x2 - x) / WIDE,
               height=100 * (y2 - y) / HIGH, rotation=0, rectanglelabels=['cell'])
    points = dict(points=[[100 * px / WIDE, 100 * py / HIGH] for px, py in ROD],
                  polygonlabels=['rod'], closed=True)
    results = [dict(sides, id='a', type='rectanglelabels', value=box, meta=dict(text=['sure'])),
               dict(sides, id='b', type='polygonlabels', value=points),
               dict(id='c', type='choices', value=dict(choices=['sharp']))]
    (root / 'project-1.json').write_text(json.dumps([dict(
        id=i, data=dict(image=f'/data/upload/1/0123abcd-{name}'), predictions=[{}],
        annotations=[dict(was_cancelled=True, result=[]), dict(result=[]),
                     dict(result=results, ground_truth=True)])
        for i, name in enumerate(NAMES)]))
    return root


def supervisely(root):
    photos(root / 'ds' / 'img')
    (root / 'ds' / 'ann').mkdir()
    (root / 'meta.json').write_text(json.dumps(dict(
        classes=[dict(title=name) for name in CLASSES])))
    x, y, x2, y2 = CELL  # its last pixel is in
    objects = [dict(classTitle='cell', geometryType='rectangle', tags=[dict(name='old')],
                    points=dict(exterior=[[x, y], [x2 - 1, y2 - 1]], interior=[])),
               dict(classTitle='rod', geometryType='polygon',
                    points=dict(exterior=ROD, interior=[])),
               dict(classTitle='rod', geometryType='line', points=dict(exterior=ROD[:2]))]
    for name in NAMES:
        (root / 'ds' / 'ann' / f'{name}.json').write_text(json.dumps(dict(
            size=dict(width=WIDE, height=HIGH), tags=[], objects=objects)))
    return root


def masks(root):
    """Pictures and masks in the colours of a palette: rods, cells, and the edge between them."""
    photos(root / 'images')
    (root / 'masks').mkdir()
    (root / 'labelmap.txt').write_text('# label:color_rgb:parts:actions\nrod:128,0,0::\n'
                                       'cell:0,128,0::\nedge:9,9,9::\n')
    colours = np.zeros((HIGH, WIDE, 3), np.uint8)
    colours[:], colours[:40], colours[40:44] = (128, 0, 0), (0, 128, 0), (9, 9, 9)
    for name in NAMES:
        Image.fromarray(colours).save((root / 'masks' / name).with_suffix('.png'))
    return root


WRITERS = {'labelimg': labelimg, 'yolo': yolo, 'labelme': labelme, 'cvat': cvat,
           'label-studio': label_studio, 'supervisely': supervisely}
# What is dropped of each, in all five pictures.
LOST = {
    'labelimg': ["10 field 'pose' of an object dropped"],
    'yolo': ['  nothing dropped'],
    'labelme': ["5 field 'description' of an object dropped",
                "5 field 'flags' of an object dropped", "5 shapes of type 'line' dropped"],
    'cvat': ["5 field 'age' of the attributes dropped",
             "5 field 'occluded' of an object dropped", "5 shapes of type 'polyline' dropped"],
    'label-studio': ["5 field 'meta' of an object dropped",
                     '5 further annotations of a picture dropped', '5 predictions dropped',
                     "5 results of type 'choices' dropped", '5 skipped annotations dropped'],
    'supervisely': ["5 field 'tags' of an object dropped", "5 shapes of type 'line' dropped"]}


def png(pixels):
    """A mask as labelme writes it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).save(buffer, 'PNG')
    return base64.b64encode(buffer.getvalue()).decode()


def packed(pixels):
    """A bitmap as Supervisely writes it: a transparent PNG, deflated."""
    buffer = io.BytesIO()
    whole = np.zeros((*pixels.shape, 4), np.uint8)
    whole[pixels != 0] = 255
    Image.fromarray(whole).save(buffer, 'PNG')
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()


def brush(pixels):
    """A mask as Label Studio writes it: runs of equal bytes, of a colour and what is painted."""
    values = np.full((pixels.size, 4), 9, np.uint8)
    values[:, 3] = pixels.ravel() * 255
    values = values.ravel()
    starts = np.flatnonzero(np.diff(values, prepend=0))
    bits = f'{len(values):032b}{7:05b}' + ''.join(f'{n:04b}' for n in (2, 3, 7, 15))
    for start, length in zip(starts, np.diff(starts, append=len(values))):
        while length:
            part = min(int(length), 1 << 16)
            bits += f'1{3:02b}{part - 1:016b}{values[start]:08b}'
            length -= part
    bits += '0' * (-len(bits) % 8)
    return [int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)]


def replace_objects(name, root, part):
    """Put one rod of the pixels of `part`, at (80, 10), in place of all objects of a picture."""
    if name == 'cvat':
        file = root / 'annotations.xml'
        text = file.read_text()
        flat = part.ravel()
        runs = np.diff([0, *np.flatnonzero(np.diff(flat)) + 1, len(flat)])
        shape = (f'<mask label="rod" rle="{",".join(map(str, runs))}" left="80" top="10" '
                 f'width="{part.shape[1]}" height="{part.shape[0]}" z_order="1"></mask>')
        file.write_text(text[:text.index('<box')] + shape
                        + text[text.index('</image>'):text.index('<image id="1"')]
                        + '</annotations>')
        return
    whole = np.zeros((HIGH, WIDE), np.uint8)
    whole[10:10 + part.shape[0], 80:80 + part.shape[1]] = part
    file = {'labelme': root / 'photo_0.json', 'label-studio': root / 'project-1.json',
            'supervisely': root / 'ds' / 'ann' / 'photo_0.jpg.json'}[name]
    data = json.loads(file.read_text())
    if name == 'labelme':
        data['shapes'] = [dict(label='rod', shape_type='mask', points=[[80, 10], [119, 49]],
                               mask=png(part))]
    elif name == 'supervisely':
        data['objects'] = [dict(classTitle='rod', geometryType='bitmap',
                                bitmap=dict(origin=[80, 10], data=packed(part)))]
    else:
        data[1:] = []
        data[0]['annotations'] = [dict(result=[dict(
            type='brushlabels', original_width=WIDE, original_height=HIGH,
            value=dict(format='rle', brushlabels=['rod'], rle=brush(whole)))])]
    file.write_text(json.dumps(data))
    for other in ([path for path in file.parent.glob('*.json') if path != file]
                  if name != 'label-studio' else ()):
        other.unlink()
