"""What can be wrong with data: the kinds, which of them are errors, and one finding of a kind."""
from typing import NamedTuple

# An error: training or evaluation would stop there, skip the file, or learn something wrong. A
# warning: it goes on, in the way that is said, and that may be what is wanted.
ERRORS = {
    'missing': 'the file is not there, or is a folder',
    'empty': 'no bytes',
    'zeros': 'zero bytes only, as after a crash of the disk',
    'wrong type': 'a web page, an archive, a text, another kind of medium',
    'broken header': 'the format is known, its header is not sound',
    'huge': 'more pixels than allowed: would take the memory of the machine',
    'truncated': 'the end is missing',
    'undecodable': 'the header is sound, the content is not',
    'crash': 'the decoder crashed, hung, or took too much memory on it',
    'other size': 'not of the size that the annotations, or its image, have: labels lie wrongly',
    'map in colour': 'a map must hold one number a pixel',
    'map of 16 bits': 'mmsegmentation cuts numbers to 8 bits: other classes',
    'unknown class': 'a number, label or category that is no class',
    'unknown image': 'an annotation of an image that is not listed',
    'id twice': 'two images or annotations of one id: one of them would be lost',
    'two labels': 'one file under two labels',
    'bad box': 'not four finite numbers',
    'bad mask': 'a polygon or run-length code that cannot be drawn',
    'no field': 'a part that must be there is not, or is of another type',
    'bad line': 'a line of a list that cannot be read',
    'outside the root': 'a name that leads out of the folder of the data',
    'no frames': 'a video without a picture',
    'no files': 'a data set, or a class of it, without a file',
    'set-up': 'what tools/train.py refuses to start with',
}
WARNINGS = {
    'cmyk': 'printing colours, turned into RGB: colours may look off',
    'deep': '16 bits or floats, cut to 8 bits',
    'alpha': 'a transparent part, whose hidden colours are trained on',
    'animated': 'several pictures, of which the first is used',
    'rotated': 'turned by its EXIF or stream data: image tools differ in whether they turn it',
    'misnamed': 'the ending says another format than the content',
    'tiny': 'a side under 8 pixels',
    'blank': 'all pixels alike',
    'ignored': 'a file that is not read: its ending is no image',
    'frame count': 'the head of the video states another number of frames than it has',
    'variable rate': 'frames are not evenly spaced, and clips are drawn by frames, not by seconds',
    'short': 'fewer frames than a clip spans: they are repeated',
    'empty box': 'less than a pixel wide or high, or of no area: left out by mmdet',
    'box outside': 'wholly outside its image: left out by mmdet',
    'box over the edge': 'partly outside its image: used as it is',
    'file twice': 'one file listed twice',
    'no boxes': 'nothing to train on: tools/train.py refuses it; to test on it is well',
    'no objects': 'images without a box: left out of training where filter_empty_gt says so',
}
LEVELS = dict.fromkeys(ERRORS, 'error') | dict.fromkeys(WARNINGS, 'warning')


class Finding(NamedTuple):
    """One fault: its kind, the file or the entry of a file it is in, the rest of the sentence."""

    kind: str
    where: str
    text: str

    @property
    def level(self) -> str:
        """'error' or 'warning'."""
        return LEVELS[self.kind]

    def __str__(self) -> str:
        return f'{self.level}: {self.where} {self.text}'
