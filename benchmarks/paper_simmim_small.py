"""Claim 5: what SimMIM is worth where few pictures have labels.

    python benchmarks/paper_simmim_small.py [--quick]

The SimMIM model of configs/demo/mim_nano.py is trained on all training pictures of data/bccd_cells
without their labels: 64 x 64, squares of 16 hidden. For each seed a nano classifier is then trained
on a few labelled pictures of each class out of the same set, from that encoder and from scratch,
with the same pictures, batches, steps and learning rate. It is judged on splits val and test
together, since nothing is chosen by either: the mean recall of the classes. The quick form has
rendered shapes.
"""
from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import paper
import paper_training as training
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from swinv2_mm import SwinTransformerV2

SIDE, SQUARE, PATCH = 64, 16, 4
STARTS = 'scratch', 'SimMIM'


class Plan(NamedTuple):
    """How long SimMIM and the classifiers are trained, and on how many labels of each class."""

    pretraining: int = 200
    pretraining_batch: int = 32
    steps: int = 60
    batch: int = 16
    labels: tuple[int, ...] = (1, 3, 10)
    rate: float = 1e-3


QUICK = Plan(2, 6, 2, 6, (1, 2))


def masks(count: int, generator: torch.Generator) -> Tensor:
    """(B, 16, 16) of patches, 1 where hidden: six tenths of the squares, rounded up."""
    cells = (SIDE // SQUARE) ** 2
    order = torch.rand(count, cells, generator=generator).argsort(1)
    hidden = (order < math.ceil(0.6 * cells)).long().view(count, SIDE // SQUARE, SIDE // SQUARE)
    wide = SQUARE // PATCH
    return hidden.repeat_interleave(wide, 1).repeat_interleave(wide, 2)


def pretrain(pictures: training.Pictures, plan: Plan, seed: int) -> tuple[dict, list[float]]:
    """The encoder's weights, and the loss of each step: L1 on hidden pixels."""
    torch.manual_seed(seed)
    cfg = Config.fromfile(paper.ROOT / 'configs/demo/mim_nano.py').model
    MMLogger.get_current_instance().setLevel('WARNING')  # else each parameter is announced
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
        model.init_weights()
    model.train()
    optimizer = torch.optim.AdamW(training.groups(model, 0.05), lr=plan.rate)
    source, losses = training.batches(pictures, plan.pretraining_batch, seed), []
    generator = torch.Generator().manual_seed(seed)
    for step in range(plan.pretraining):
        warm = min(1, (step + 1) / 20)
        for group in optimizer.param_groups:
            group['lr'] = plan.rate * warm * (1 + math.cos(math.pi * step / plan.pretraining)) / 2
        images, _ = next(source)
        mask = masks(len(images), generator)
        loss = model.head.loss(model.neck(model.backbone(images, mask)[0]), images, mask)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.item())
    weights = model.backbone.state_dict()
    del weights['mask_token'], weights['pretrained_windows']
    return weights, losses


def few(pictures: training.Pictures, labels: int, seed: int, least: int) -> training.Pictures:
    """So many of each class, repeated until there are `least`; fewer are among more of a seed."""
    order = torch.randperm(len(pictures.labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[pictures.labels[order] == label][:labels]
                        for label in range(pictures.classes)])
    chosen = chosen.repeat(math.ceil(least / len(chosen)))
    return pictures._replace(images=pictures.images[chosen], labels=pictures.labels[chosen])


def classify(pictures: training.Pictures, test: training.Pictures, weights: dict | None,
             plan: Plan, seed: int) -> tuple[float, float]:
    """Balanced accuracy in percent, and the last loss."""
    torch.manual_seed(seed)
    model = training.Classifier(
        SwinTransformerV2('nano', window_size=8, drop_path_rate=0.0, out_indices=(3,)),
        pictures.classes)
    if weights:
        model.backbone.load_state_dict(weights)
    losses = training.train(model, pictures, plan.steps, plan.rate, seed, batch=plan.batch)
    return training.balanced_accuracy(model, test), losses[-1]


def seed_rows(everything: training.Pictures, test: training.Pictures, plan: Plan,
              seed: int) -> Iterator[list[dict]]:
    weights, losses = pretrain(everything, plan, seed)
    end = statistics.mean(losses[-20:])
    print(f'seed {seed} SimMIM: L1 {losses[0]:.3f}, at the end {end:.3f}', flush=True)
    for labels in plan.labels:
        pictures = few(everything, labels, seed, plan.batch)
        rows = []
        for start in STARTS:
            accuracy, loss = classify(pictures, test, weights if start == 'SimMIM' else None, plan,
                                      seed)
            rows.append(dict(
                seed=seed, labels=labels, start=start, accuracy=round(accuracy, 3),
                loss=round(loss, 5), steps=plan.steps, classes=test.classes,
                unlabelled=len(everything.labels), tested=len(test.labels),
                pretraining=plan.pretraining, pretraining_batch=plan.pretraining_batch,
                first_l1=round(losses[0], 5), last_l1=round(end, 5)))
            print(f'seed {seed} {labels} labels {start}: {accuracy:.1f} %', flush=True)
        yield rows


def measure(args):
    if args.quick:
        plan = QUICK
        everything, test = (training.shapes(part, count, SIDE, rendered=SIDE)
                            for part, count in (('train', 18), ('test', 12)))
    else:
        plan = Plan()
        everything = training.cells(('train',), SIDE)
        test = training.cells(('val', 'test'), SIDE)
    for seed in args.seeds:
        yield from seed_rows(everything, test, plan, seed)


def accuracies(rows: list[dict], labels: str, start: str) -> list[float]:
    found = paper.pick(rows, labels=labels, start=start)
    return [float(row['accuracy']) for row in sorted(found, key=lambda row: row['seed'])]


def text(rows: list[dict]) -> str:
    levels = sorted({row['labels'] for row in rows}, key=int)
    lines, verdicts = [], []
    for labels in levels:
        scratch, simmim = (accuracies(rows, labels, start) for start in STARTS)
        gains = [b - a for a, b in zip(scratch, simmim)]
        better = sum(gain > 0 for gain in gains)
        lines.append([labels, paper.spread(scratch), paper.spread(simmim), paper.spread(gains)])
        verdicts.append(f'with {labels} of each class in {better} of {len(gains)} seeds '
                        f'({statistics.mean(gains):+.1f} points in the mean)')
    one = rows[0]
    first, last = ({row['seed']: float(row[key]) for row in rows}.values()
                   for key in ('first_l1', 'last_l1'))
    return '\n\n'.join([
        paper.table(['labels of each class', 'from scratch, %', 'after SimMIM, %',
                      'difference, points'], lines),
        f'After SimMIM it is better {", ".join(verdicts)}. {ratio(rows, levels[0])}',
        f'Balanced accuracy over {one["classes"]} classes on {one["tested"]} pictures, mean and '
        f'standard deviation over {len(last)} seeds, each with labels, batches and a SimMIM of its '
        f'own: {one["pretraining"]} steps of {one["pretraining_batch"]} on {one["unlabelled"]} '
        f'pictures, in which its loss came from {statistics.mean(first):.2f} to '
        f'{statistics.mean(last):.2f}; then {one["steps"]} steps of a classifier. That is '
        'a small budget for both.'])


def ratio(rows: list[dict], fewest: str) -> str:
    """What the first step of labels is worth, in the words of the claim."""
    scratch, simmim = (statistics.mean(accuracies(rows, fewest, start)) for start in STARTS)
    reach = [labels for labels in sorted({row['labels'] for row in rows}, key=int)
             if statistics.mean(accuracies(rows, labels, 'scratch')) >= simmim]
    if simmim <= scratch:
        return (f'With {fewest} of each class, where it should help most, it does not: the claim '
                'is not supported at this size.')
    if not reach:
        return f'With {fewest} after SimMIM it is above every number of labels from scratch.'
    return f'From scratch, {reach[0]} are enough for the {simmim:.1f} % that it has with {fewest}.'


def draw(rows: list[dict], path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(5, 3), layout='constrained')
    levels = sorted({row['labels'] for row in rows}, key=int)
    for start, colour in zip(STARTS, ('tab:gray', 'tab:blue')):
        values = [accuracies(rows, labels, start) for labels in levels]
        panel.plot(levels, [statistics.mean(some) for some in values], color=colour,
                   label={'SimMIM': 'after SimMIM'}.get(start, 'from scratch'))
        for labels, some in zip(levels, values):
            panel.plot([labels] * len(some), some, '.', color=colour)
    panel.set_xlabel('labelled pictures of each class')
    panel.set_ylabel('balanced accuracy, %')
    panel.legend()
    paper.save(figure, path)


CLAIM = paper.Claim(
    'simmim_small', measure, ('seed', 'labels', 'start'),
    ('seed', 'labels', 'start', 'accuracy', 'loss', 'steps', 'classes', 'unlabelled', 'tested',
     'pretraining', 'pretraining_batch', 'first_l1', 'last_l1'), text, draw,
    packages=('onedl-mmpretrain',))


def main(argv: list | None = None) -> None:
    paper.run(CLAIM, paper.parser(__doc__), argv)


if __name__ == '__main__':
    main()
