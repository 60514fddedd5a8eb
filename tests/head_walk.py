"""Every head of mmpretrain, mmsegmentation and mmaction2, with each loss and activation it takes.

A head must be exported as a file that answers as the library's own `test_step`, or be refused by
name; and tools/infer.py must show what `test_step` gives, or refuse it. `python tests/head_walk.py`
writes the table of it into docs/export.md; with --files each file is written and run, too.
"""
import argparse
import functools
import importlib
import itertools
import tempfile
from collections import defaultdict
from pathlib import Path

import head_models as models
import numpy as np
import torch
from helpers import ROOT

from swinv2_mm.apis.inference import cls, seg, video
from swinv2_mm.export import checks, graphs, steps
from swinv2_mm.utils.errors import UserError

EQUAL, REFUSED = 'equal', 'refused by name'
OTHER = "takes other features than SwinV2's"
FAILS = 'its library fails'
PLAIN = EQUAL, OTHER, FAILS
WRITTEN = set()  # heads whose file was written: one trial of each
# Registry -> its name in the page, and what stands for a head that its model is refused for.
LIBRARIES = {'mmpretrain': ('mmpretrain', 'head'), 'mmseg': ('mmsegmentation', 'DepthEstimator'),
             'mmaction': ('mmaction2', 'head')}
MARKS = '<!-- heads -->\n', '<!-- end of heads -->'


def registered(library):
    """The heads that a config of a library can name: {name: class}."""
    registry = importlib.import_module(f'{library}.registry').MODELS
    importlib.import_module(f'{library}.models')
    room = 'decode_heads' if library == 'mmseg' else 'heads'
    return {name: kind for name, kind in registry.module_dict.items() if name.endswith('Head')
            and kind.__module__.startswith(f'{library}.models.{room}.')}


def images(model):
    """Two batches of one picture or film of noise."""
    size = (3, *models.LARGE.get(type(getattr(model, 'decode_head', None)).__name__, models.SIZE))
    if hasattr(model, 'cls_head'):
        size = (2, 3, 4, 32, 32)  # two clips
    noise = np.random.default_rng(0).uniform(0, 255, (2, 1, *size))
    return list(noise.astype(np.float32))


def exported(model, write):
    """EQUAL, or the sentence of the refusal; `write`: by a file that is written and run."""
    given = images(model)
    size = given[0].shape[-getattr(model.backbone, 'ndim', 2):]
    try:
        graphs.check_part(model, 'whole', size)
        pixels = graphs.Pixels(model, 'whole').eval()
        checks.known(pixels, given)
        name = type(steps.head_of(model)).__name__
        if write and name not in WRITTEN:
            WRITTEN.add(name)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / 'a.onnx'
                graphs.export(pixels, size, file)
                run = checks.runner(file, '.onnx', 1)
                checks.compare(checks.read_as(pixels, run), checks.library(pixels), pixels.outputs,
                               given)
    except UserError as error:
        return str(error)
    return EQUAL


def shown(check, model):
    """EQUAL where tools/infer.py shows what the library says, or the sentence of the refusal."""
    try:
        check(model)
    except UserError as error:
        return str(error)
    return EQUAL


def predicted_actions(model, loss, average):
    """What `test_step` gives must be the head's numbers after the step that its loss trains."""
    from mmaction.structures import ActionDataSample
    film = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(0))  # two clips
    numbers = []
    model.cls_head.register_forward_hook(lambda module, args, out: numbers.append(out))
    with torch.no_grad():
        (sample,) = model.test_step(dict(inputs=[film], data_samples=[ActionDataSample()]))
    several = loss['type'] in ('BCELossWithLogits', 'HVULoss')
    step = (lambda x: x) if average == 'score' else torch.sigmoid if several else functools.partial(
        torch.softmax, dim=-1)
    right = step(numbers[0]).mean(dim=0)
    if not torch.allclose(sample.pred_score, right, atol=1e-6):
        raise AssertionError(f'{type(model.cls_head).__name__}, {loss}: {sample.pred_score}')


def attempt(make, ask):
    """What `ask` says of a model; OTHER twice where its library cannot run it on SwinV2's maps."""
    try:
        model = make()
    except Exception:  # noqa: BLE001 - libraries raise what they like
        return OTHER, OTHER
    return ask(model)


def stub(kind):
    """An object of a class of modules that was never set up."""
    part = kind.__new__(kind)
    torch.nn.Module.__init__(part)
    return part


def walk(write=False):
    """(library, head, what tools/infer.py does, what the export does), one trial at a time.

    EQUAL, OTHER or the sentence of a refusal.
    """
    for head in models.CLS:
        for loss in [None] if head in models.NO_LOSS else models.CLS_LOSSES:
            yield 'mmpretrain', head, *attempt(
                lambda: runs(models.classifier(head, loss)),  # noqa: B023
                lambda model: (shown(cls.check_head, model), exported(model, write)))
    model = models.classifier('LinearClsHead', models.SOFTMAX)
    for head, kind in registered('mmpretrain').items():
        if head not in models.CLS:
            model.head = stub(kind)
            yield 'mmpretrain', head, shown(cls.check_head, model), exported(model, write)
    yield from of_segmentors(write)
    yield from own_segmentors(write)
    for head in models.ACTIONS:
        for loss in models.ACTION_LOSSES:
            for average in 'prob', 'score':
                yield 'mmaction', head, *attempt(
                    lambda: acts(head, loss, average),  # noqa: B023
                    lambda model: (shown(video.check_head, model), exported(model, write)))


def of_segmentors(write):
    """Heads of mmsegmentation with three classes, and with two and one output."""
    for head, outputs in itertools.product(models.SEG, (3, 1)):
        more = models.SEG_LOSSES if head == 'FCNHead' else []
        for loss in [models.SOFTMAX if outputs == 3 else models.SIGMOID, *more]:
            yield 'mmseg', head, *attempt(
                lambda: runs(models.segmentor(head, loss, outputs), head),  # noqa: B023
                lambda model: (segmented(model), exported(model, write)))


def segmented(model):
    """What tools/infer.py does with a segmentor."""
    said = shown(seg.check_model, model)
    try:
        steps.predicted(model, 'argmax', torch.from_numpy(images(model)[0]))
    except Exception:  # noqa: BLE001 - libraries raise what they like
        return FAILS if said == EQUAL else said
    return said


def own_segmentors(write):
    """Heads that are set up in ways of their own."""
    from mmseg.models import DepthEstimator
    for head, make in ('Mask2FormerHead', models.masks), ('MaskFormerHead', models.old_masks):
        yield 'mmseg', head, *attempt(
            make, lambda model: (segmented(model), exported(model, write)))
    model = stub(DepthEstimator)
    model.backbone = model.data_preprocessor = torch.nn.Identity()
    yield 'mmseg', 'VPDDepthHead', shown(seg.check_model, model), exported(model, write)
    yield 'mmseg', 'SideAdapterCLIPHead', OTHER, OTHER  # beside a text encoder, CLIP's


def runs(model, head=''):
    """The model, if its library can run it."""
    if head not in models.CASCADES:
        with torch.no_grad():
            given = model.data_preprocessor(dict(inputs=list(torch.from_numpy(images(model)[0])),
                                                 data_samples=None))
            model(given['inputs'], mode='tensor')
    return model


def acts(head, loss, average):
    model = models.recognizer(head, loss, average)
    try:
        video.check_head(model)
    except UserError:
        return model
    predicted_actions(model, loss, average)
    return model


def verdicts(rows):
    """{(library, head): (of tools/infer.py, of the export)}: the same for all trials of a head."""
    found = {}
    for library, head, *said in rows:
        for sentence in said:
            named = head in sentence or LIBRARIES[library][1] in sentence
            assert sentence in PLAIN or named, (head, sentence)
        said = [one if one in PLAIN else REFUSED for one in said]
        if found.setdefault((library, head), said) != said:
            assert library == 'mmseg' and head != 'FCNHead'
            found[library, head] = [f'{one}; with one output, {other}' if one != other else one
                                    for one, other in zip(found[library, head], said)]
    return found


def table(found):
    """The lines of the table in docs/export.md."""
    groups = defaultdict(list)
    for (library, head), said in found.items():
        groups[library, (*said,)].append(f'`{head}`')
    lines = ['| library | heads | `tools/infer.py` | exported whole |', '|---|---|---|---|']
    order = [EQUAL, REFUSED, OTHER]
    for (library, said), heads in sorted(groups.items(), key=lambda pair: (
            list(LIBRARIES).index(pair[0][0]), [order.index(one) if one in order else 1.5
                                                for one in pair[0][1]])):
        lines.append(f'| {LIBRARIES[library][0]} | {", ".join(sorted(heads))} | '
                     f'{" | ".join(said)} |')
    return '\n'.join(lines) + '\n'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--files', action='store_true', help='write and run each file, too')
    args = parser.parse_args()
    rows = []
    for row in walk(args.files):
        rows.append(row)
        print(*row, sep=' | ', flush=True)
    page = ROOT / 'docs/export.md'
    before, _, rest = page.read_text().partition(MARKS[0])
    page.write_text(before + MARKS[0] + table(verdicts(rows)) + MARKS[1]
                    + rest.partition(MARKS[1])[2])


if __name__ == '__main__':
    main()
