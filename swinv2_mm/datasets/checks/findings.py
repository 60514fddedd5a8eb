"""What can be wrong with data or settings: the kinds, what each means, and one finding of a kind.

The tables of docs/data_checks.md are written from KINDS:

    python -m swinv2_mm.datasets.checks.findings
"""
from __future__ import annotations

from typing import NamedTuple

# kind -> (what it is, what to do). An error: training or evaluation would stop there, skip the
# file, learn something wrong or report a wrong number. A warning: it goes on, in the way that is
# said, and that may be what is wanted.
ERRORS = {
    'missing': ('the file is not there, or is a folder', 'put it there, or take it off the list'),
    'empty': ('no bytes', 'fetch or make it again'),
    'zeros': ('zero bytes only, as after a crash of the disk', 'fetch or make it again'),
    'wrong type': ('a web page, an archive, a text, another kind of medium', 'fetch it again'),
    'broken header': ('the format is known, its header is not sound', 'fetch or make it again'),
    'huge': ('more pixels than allowed: would take the memory of the machine',
             'cut it into tiles, or allow more by `--max-pixels`'),
    'truncated': ('the end is missing', 'fetch or make it again'),
    'undecodable': ('the header is sound, the content is not', 'fetch it again, or save it anew'),
    'crash': ('the decoder crashed, hung, or took too much memory on it', 'save it anew'),
    'other size': ('not of the size that the annotations, or its image, have: labels lie wrongly',
                   'correct the size, or the labels'),
    'map in colour': ('a map must hold one number a pixel', 'save it as a grey picture'),
    'map of 16 bits': ('mmsegmentation cuts numbers to 8 bits: other classes',
                       'save it with 8 bits'),
    'unknown class': ('a number, label or category that is no class',
                      'correct it, or set the classes'),
    'unknown image': ('an annotation of an image that is not listed', 'take it out'),
    'id twice': ('two images or annotations of one id: one of them would be lost', 'number anew'),
    'two labels': ('one file under two labels', 'take one out'),
    'bad box': ('not four finite numbers', 'correct it, or take the object out'),
    'bad mask': ('a polygon or run-length code that cannot be drawn', 'draw it again'),
    'no field': ('a part that must be there is not, or is of another type', 'write it'),
    'bad line': ('a line of a list that cannot be read', 'correct it'),
    'outside the root': ('a name that leads out of the folder of the data',
                         'correct it, or set data_root'),
    'no frames': ('a video without a picture', 'fetch or make it again'),
    'no files': ('a data set without a file', 'put files there, or set its folder'),
    'set-up': ('a data set that does not fit the model, or is not there', 'what the sentence says'),
    # settings that do not go together
    'other truth': ('the metric reads other annotations than its loader',
                    'give both the same file'),
    'ids collide': ('data sets joined for one metric use the same image ids',
                    'number the images through'),
    'class order': ('the splits name their classes in different orders: labels are swapped',
                    'give all splits the same classes in the same order'),
    'part of the set': ('the metric counts images that its loader leaves out',
                        'let the loader give all images'),
    'ignored number': ('head, metric and padding leave out different numbers',
                       'set all to one number'),
    'top-k': ('top-k of more classes than there are', 'take it out of topk'),
    'clip average': ('no score for a film of several clips', "set average_clips to 'prob'"),
    'sizes in a batch': ('pictures of several sizes in one batch', 'set batch_size=1'),
    'class weights': ('a list of weights of another length than the classes', 'set it'),
    'things and stuff': ('they do not make up the classes: objects would be named wrongly',
                         'set both, in panoptic_head and in panoptic_fusion_head'),
    'other task': ('a metric of something else than the model predicts',
                   'set one of the library of the model'),
    'moved': ('the pipeline moves pictures of a split that is scored, and not their truth',
              'take that step out'),
    'endless': ('a sampler that never ends where an end is waited for', 'set DefaultSampler'),
    'slide': ('sliding windows with a head that cannot, or that leave gaps', 'use mode whole'),
    'one class': ('one class and nothing beside it: its loss is 0 or its metric 100',
                  'name what is not the class as a second one'),
    # data that cannot teach what the config asks
    'no masks': ('the pipeline or the metric needs masks, and objects have none',
                 'draw them, or leave masks out of the config'),
    'nothing to learn': ('all maps hold one class, or all objects are crowds',
                         'correct the labels'),
    'not x, y, w, h': ('boxes are corners, centres, fractions, or turned round',
                       'write x, y, width, height in pixels'),
    'dark': ('16 bits of which the upper are empty: black once cut to 8 bits',
             'save it with 8 bits, after scaling'),
    'turned mask': ('run lengths of another size or order than the image', 'encode them anew'),
}
WARNINGS = {
    'cmyk': ('printing colours, turned into RGB: colours may look off', 'save it as RGB'),
    'deep': ('16 bits or floats, cut to 8 bits', 'save it with 8 bits, after scaling'),
    'alpha': ('a transparent part, whose hidden colours are trained on', 'save it without'),
    'animated': ('several pictures, of which the first is used', 'save the one that is meant'),
    'rotated': ('turned by its EXIF or stream data: image tools differ in whether they turn it',
                'save it turned, before it is labelled'),
    'misnamed': ('the ending says another format than the content', 'rename it'),
    'tiny': ('a side under 8 pixels', 'look at it'),
    'blank': ('all pixels alike', 'look at it'),
    'ignored': ('a file that is not read: its ending is no image', 'rename it, or take it away'),
    'not listed': ('a data set that its library cannot list here: nothing of it is checked',
                   'mend what it says, or give the folder of its files'),
    'left out': ('images that the library does not list: they end otherwise, are too small, or '
                 'lie beside the folders',
                 'give them the ending that it lists'),
    'frame count': ('the head of the video states another number of frames than it has',
                    'save it anew'),
    'variable rate': ('frames are not evenly spaced, and clips are drawn by frames, not by seconds',
                      'save it at a constant rate'),
    'short': ('fewer frames than a clip spans: they are repeated', 'lower frame_interval'),
    'empty box': ('less than a pixel wide or high, or of no area: left out by mmdet',
                  'take the object out'),
    'box outside': ('wholly outside its image: left out by mmdet', 'correct the box'),
    'box over the edge': ('partly outside its image: used as it is', 'cut it at the edge'),
    'mask off its box': ('most of the mask lies outside the box of its object',
                         'draw one of them again'),
    'turned box': ('an angle that a COCO box cannot hold: the box is read as if not turned',
                   'write the box around the turned one'),
    'file twice': ('one file listed twice', 'take one out'),
    'no boxes': ('nothing to train on: tools/train.py refuses it; to test on it is well',
                 'label something'),
    'no objects': ('images without a box: left out of training where filter_empty_gt says so',
                   'nothing, where they show none'),
    'absent class': ('a class of which a split holds nothing: it cannot be learnt from it, or is '
                     'not in its metric', 'add examples, or take the class out'),
    'crowds': ('over a quarter of the objects are crowds, which mmdet does not learn',
               'set iscrowd to 0 where it is one object'),
    'ids from 0': ('annotation ids from 0: numbered from 1 in memory, as pycocotools takes match '
                   '0 for no match', 'nothing here; number from 1 for other tools'),
    'no iscrowd': ('objects without iscrowd: taken as 0', 'nothing here; write 0 for other tools'),
    'no area': ('objects without an area: that of the mask or box is taken',
                'nothing here; write it for other tools'),
    'trivial top-k': ('top-k of at least as many classes as there are: always 100',
                      'take it out of topk'),
    'schedule': ('rates, checkpoints or validation that do not go with the length of the training',
                 'set their ends and units'),
    'unread': ('a name of the config that is in nothing that runs', 'set what it stands for'),
}
KINDS = ERRORS | WARNINGS
LEVELS = dict.fromkeys(ERRORS, 'error') | dict.fromkeys(WARNINGS, 'warning')


class Finding(NamedTuple):
    """One fault: its kind, the file, setting or entry it is in, the rest of the sentence.

    `cure` says what to do about this one; where it is empty, that of its kind holds. `count` is of
    what the sentence sums up.
    """

    kind: str
    where: str
    text: str
    cure: str = ''
    count: int = 1

    @property
    def level(self) -> str:
        """'error' or 'warning'."""
        return LEVELS[self.kind]

    @property
    def sentence(self) -> str:
        """What it is and what to do, in one sentence."""
        if self.kind == 'set-up':
            return self.text  # says all, as it ends a run
        return f'{self.where} {self.text}: {self.cure or KINDS[self.kind][1]}.'

    def __str__(self) -> str:
        if self.kind == 'set-up':
            return f'{self.level}: {self.where} cannot be trained on: {self.text}'
        return f'{self.level}: {self.where} {self.text}' + (f': {self.cure}' if self.cure else '')


def table(kinds: dict) -> str:
    """Kinds as a table in Markdown."""
    rows = [f'| {kind} | {what} | {cure} |' for kind, (what, cure) in kinds.items()]
    return '\n'.join(['| kind | what it is | what to do |', '|---|---|---|', *rows])


if __name__ == '__main__':
    print(f'{table(ERRORS)}\n\n{table(WARNINGS)}')
