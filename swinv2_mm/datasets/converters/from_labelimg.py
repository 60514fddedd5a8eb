"""labelImg's own format: pictures and an xml for each, without the lists of Pascal VOC.

labelImg's numbers are edges, x from 0 to the width: its YOLO files hold (xmin + xmax) / 2 and
xmax - xmin of the same box. (supervision 0.31 takes 1 off, and drops `difficult` without a count.)
VOC counts pixels from 1, to the last one in: voc_to_coco.py reads that.
"""
from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from swinv2_mm.utils.errors import UserError

from .objects import rectangle
from .pictures import Labels, reading
from .voc_to_coco import ABOUT_FILE, corners, is_set


def is_here(root: Path) -> bool:
    """Whether a folder looks like this."""
    return any('<object>' in path.read_text(errors='replace')
               for path in sorted(root.rglob('*.xml'))[:20])


def read(root: Path, args) -> Labels:
    """Pictures and objects of the xml files below a folder."""
    if (root / 'ImageSets' / 'Main').is_dir():
        raise UserError(f'{root} is Pascal VOC with its lists, whose boxes count from 1: use '
                        'tools/dataset/voc_to_coco.py (swinv2-mm voc-to-coco).')
    labels = Labels(args.images or [root])
    for file in sorted(root.rglob('*.xml')):
        with reading(file):
            tree = ElementTree.parse(file).getroot()
            path = labels.find(file.stem, tree.findtext('filename') or file.stem, near=file.parent)
            things = []
            for kind, box, difficult, lost in corners(tree) if path else ():
                labels.said['difficult objects taken as crowds (neither learnt nor counted)'
                            ] += difficult
                labels.said.update(f'field {name!r} of an object dropped' for name in lost)
                things.append(rectangle(kind, *box, crowd=difficult))
        if path:
            labels.said.update(f'field {part.tag!r} of a picture dropped' for part in tree
                               if part.tag not in ABOUT_FILE and is_set(part))
            sides = [tree.findtext(f'size/{side}') for side in ('width', 'height')]
            labels.add(path, file, sides, things)
    return labels.rest(args.empty)
