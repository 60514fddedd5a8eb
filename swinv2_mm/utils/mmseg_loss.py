"""Lets a loss weigh classes where some pixels do not count. Importing this module does it.

mmseg 1.2.2 divides by the weights of all pixels, and looks for those of ignored ones (255) too,
which is an IndexError. Here it is given the sum over the others, which is what OneDL's mmseg takes.
Configs with class_weight name this module in `custom_imports`.
"""
import functools

from mmseg.models.losses import cross_entropy_loss


def _averaged(plain):
    @functools.wraps(plain)
    def cross_entropy(pred, label, weight=None, class_weight=None, reduction='mean',
                      avg_factor=None, ignore_index=-100, **others):
        if class_weight is not None and avg_factor is None and reduction == 'mean':
            avg_factor = class_weight[label[label != ignore_index]].sum()
        return plain(pred, label, weight=weight, class_weight=class_weight, reduction=reduction,
                     avg_factor=avg_factor, ignore_index=ignore_index, **others)

    return cross_entropy


cross_entropy_loss.cross_entropy = _averaged(cross_entropy_loss.cross_entropy)
