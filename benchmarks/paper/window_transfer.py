"""What a position bias is worth at a window it was not trained for (tables 1 and 8 of the paper).

    python benchmarks/paper/window_transfer.py [--quick]

A nano classifier with three stages is trained at 32 x 32 and window 4, and then used at 1.5, 2, 3
and 4 times both, so that a window always shows the same part of the picture: as it is, and after a
short fine-tuning there. As a control, the bias of what was trained is also switched off. Three
kinds of bias, each from the same initial weights and the same order of pictures for a seed; see
variants.py. Two sets of pictures:

- cells: data/bccd_cells, cut out at 96 x 96 and stretched; tested on its splits val and test.
- streets: squares of 120 x 120 of the photos in data/camvid, turned by 0 to 3 quarters; the class
  is which. It is there because what is above what matters for it, as it hardly does for cells.

Accuracy is the mean recall of the classes. The quick form has rendered shapes.
"""
from __future__ import annotations

import copy
import functools
from typing import NamedTuple

import common
import torch
import training
import variants

from swinv2_mm import SwinTransformerV2

ARCH = dict(embed_dims=32, depths=(2, 2, 2), num_heads=(1, 2, 4))
WINDOW, SIZE = 4, 32
STARTS = 'as it is', 'fine-tuned'
USES = (*STARTS, 'bias off')  # the last one: as it is, but for the position bias


class Plan(NamedTuple):
    """How much is trained: steps and batch at the small size, the same at each larger one."""

    steps: int
    batch: int = 32
    tuning: int = 12
    tuning_batch: int = 16
    scales: tuple[float, ...] = (1, 1.5, 2, 3, 4)
    counts: tuple[int, int] = (0, 0)  # shapes to train and to test on
    flip: bool = True
    rate: float = 2e-3
    tuning_rate: float = 2e-4


FULL = {'cells': Plan(150), 'streets': Plan(400, flip=False)}
QUICK = {'shapes': Plan(16, 12, 2, 12, scales=(1, 2), counts=(48, 36), rate=2e-2)}


def sides(scale: float) -> tuple[int, int]:
    """Picture and window at a scale."""
    return round(SIZE * scale), round(WINDOW * scale)


@functools.cache
def pictures(data: str, part: str, size: int, counts: tuple[int, int]) -> training.Pictures:
    if data == 'shapes':
        return training.shapes(part, counts[part == 'test'], size, rendered=128)
    if data == 'streets':
        return training.streets(part, size)
    return training.cells(('train',) if part == 'train' else ('val', 'test'), size)


def build(kind: str, classes: int, seed: int) -> training.Classifier:
    """A fresh classifier; whatever the kind, the same weights where there are the same."""
    torch.manual_seed(seed)
    windows = variants.fitting_windows(SIZE, WINDOW, 3)
    backbone = SwinTransformerV2(ARCH, window_size=windows, pretrained_window_sizes=windows,
                                 drop_path_rate=0.0, out_indices=(2,))
    model = training.Classifier(backbone, classes)
    variants.set_bias(backbone, kind)
    return model


def measure(args):
    plans = QUICK if args.quick else FULL
    for data in args.data or plans:
        plan = plans[data]
        for seed in args.seeds:
            for kind in variants.BIASES:
                yield one(data, plan, kind, seed, args.uses)


def one(data: str, plan: Plan, kind: str, seed: int, uses: list[str]) -> list[dict]:
    """Train one classifier, and use it at every scale."""
    source = pictures(data, 'train', SIZE, plan.counts)
    model = build(kind, source.classes, seed)
    losses = training.train(model, source, plan.steps, plan.rate, seed, batch=plan.batch,
                            flip=plan.flip)
    rows = []
    for scale in plan.scales:
        size, window = sides(scale)
        test = pictures(data, 'test', size, plan.counts)
        for use in uses:
            accuracy = training.balanced_accuracy(grown(model, data, plan, scale, use, seed), test)
            rows.append(dict(data=data, seed=seed, bias=kind, scale=scale, size=size, window=window,
                             use=use, accuracy=round(accuracy, 4),
                             train_loss=round(sum(losses[-20:]) / len(losses[-20:]), 6),
                             steps=plan.steps, batch=plan.batch, tuning_steps=plan.tuning,
                             tuning_batch=plan.tuning_batch, train_pictures=len(source.labels),
                             test_pictures=len(test.labels)))
            print(f'{data} seed {seed}  {kind:<7} {size:>3} px, window {window:>2}  {use:<10} '
                  f'{accuracy:.1f} %', flush=True)
    return rows


def grown(model: training.Classifier, data: str, plan: Plan, scale: float, use: str,
          seed: int) -> training.Classifier:
    """A copy of a trained classifier for a larger window, made ready for a use."""
    size, window = sides(scale)
    found = copy.deepcopy(model)
    variants.grow(found.backbone, variants.fitting_windows(size, window, 3))
    if use == 'bias off':
        variants.drop_bias(found.backbone)
    if use == 'fine-tuned':
        training.train(found, pictures(data, 'train', size, plan.counts), plan.tuning,
                       plan.tuning_rate, seed, batch=plan.tuning_batch, warm=3,
                       flip=plan.flip)
    return found


def accuracies(rows: list[dict], bias: str, scale: str, use: str) -> list[float]:
    return [float(row['accuracy']) for row in
            sorted(common.pick(rows, bias=bias, scale=scale, use=use), key=lambda x: x['seed'])]


def text(rows: list[dict]) -> str:
    """For each set of pictures: sizes, the table, and what the numbers say of the claim."""
    return '\n\n'.join(part(common.pick(rows, data=data), data)
                       for data in dict.fromkeys(row['data'] for row in rows))


def part(rows: list[dict], data: str) -> str:
    first, scales = rows[0], list(dict.fromkeys(row['scale'] for row in rows))
    heads = [f'{x} px, window {w}' for x, w in dict.fromkeys((r['size'], r['window'])
                                                            for r in rows)]
    lines = [[variants.BIASES[bias], use,
              *(common.spread(accuracies(rows, bias, scale, use)) for scale in scales)]
             for bias in variants.BIASES for use in USES]
    sizes = (f'**{data.capitalize()}**: {first["train_pictures"]} pictures to train on and '
             f'{first["test_pictures"]} to test on; {first["steps"]} steps of {first["batch"]} '
             f'pictures at the small size, {first["tuning_steps"]} of {first["tuning_batch"]} at '
             f'each size in the rows "fine-tuned"; {len({row["seed"] for row in rows})} seeds. '
             'Balanced accuracy in %, mean and standard deviation over seeds:')
    larger = [scale for scale in scales if float(scale) > 1]
    return '\n\n'.join([sizes, common.table(['bias', 'use', *heads], lines),
                        *(verdict(rows, larger, start) for start in STARTS),
                        worth(rows, scales)])


def worth(rows: list[dict], scales: list[str]) -> str:
    """What the bias is worth at the trained window and at the largest, where it is used at all."""
    losses = [', '.join(common.spread(
        a - b for a, b in zip(accuracies(rows, bias, scale, 'as it is'),
                              accuracies(rows, bias, scale, 'bias off')))
        for bias in variants.BIASES) for scale in (scales[0], scales[-1])]
    return ('How much these models use their bias at all: with it switched off after training '
            f'("bias off") they lose {losses[0]} points at the trained window, and {losses[1]} at '
            f'{scales[-1]}x, in the order of the table. Where little is lost, one bias cannot be '
            'told from another.')


def moved(rows: list[dict], bias: str, scale: str, use: str) -> list[float]:
    """Points won or lost since the trained window, where kinds of bias may differ already."""
    return [now - before for now, before in zip(accuracies(rows, bias, scale, use),
                                                accuracies(rows, bias, '1', 'as it is'))]


def verdict(rows: list[dict], scales: list[str], use: str) -> str:
    """Log against the others over the larger windows: seed by seed, and by their means."""
    parts, clear, against = [], [], []
    for other in ('table', 'linear'):
        gaps = [[a - b for a, b in zip(moved(rows, 'log', scale, use),
                                       moved(rows, other, scale, use))] for scale in scales]
        every = [gap for found in gaps for gap in found]
        means = [sum(found) / len(found) for found in gaps]
        won, lost = sum(gap > 0 for gap in every), sum(gap < 0 for gap in every)
        low, high = scales[means.index(min(means))], scales[means.index(max(means))]
        parts.append(f'{min(means):+.1f} ({low}x) to {max(means):+.1f} points ({high}x) against '
                     f'{variants.BIASES[other]}, better in {won} and worse in {lost} of '
                     f'{len(every)} pairs of runs')
        clear.append(min(means) > 0 and won >= 0.8 * len(every))
        if max(means) < 0 and lost >= 0.8 * len(every):
            against.append(variants.BIASES[other])
    claim = ('The claim holds here against both.' if all(clear) else
             'The claim does not show here against either.' if not any(clear) else
             f'The claim holds here against {("the table", "linear offsets")[clear[1]]} only.')
    if against:
        claim += f' Against {" and ".join(against)} the runs contradict it, by the same measure.'
    return f'{begin(rows, scales, use)} log-spaced offsets give {"; ".join(parts)}. {claim}'


def begin(rows: list[dict], scales: list[str], use: str) -> str:
    """How the verdict counts, and whether fine-tuning did any good."""
    if use == 'as it is':
        return ('Counted from what each run has at the trained window, without fine-tuning, in the '
                'mean over seeds (the claim is said to hold where every mean is above 0 and four '
                'fifths of the pairs agree):')
    pairs = [(bias, scale) for bias in variants.BIASES for scale in scales]
    before, after = ([sum(accuracies(rows, *pair, start)) for pair in pairs] for start in STARTS)
    raised = sum(new > old for old, new in zip(before, after))
    good = '' if raised > len(pairs) / 2 else (
        ', so that it was too short or too rough to show what one gains,')
    return (f'Fine-tuning raised the mean in {raised} of {len(pairs)} cells of the larger windows'
            f'{good} and after it')


def draw(rows: list[dict], path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    sets = list(dict.fromkeys(row['data'] for row in rows))
    figure, panels = plt.subplots(len(sets), 2, figsize=(8, 2.5 * len(sets)), sharey='row',
                                  squeeze=False, layout='constrained')
    for line, data in zip(panels, sets):
        for panel, start in zip(line, STARTS):
            curves(panel, common.pick(rows, data=data), start)
            panel.set_title(f'{data}, {start}', fontsize=10)
        line[0].set_ylabel('balanced accuracy, %')
    panels[0, 0].legend(fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel('picture and window over those of training')
    common.save(figure, path)


def curves(panel, rows: list[dict], start: str) -> None:
    """Mean over seeds, least and greatest, against the scale."""
    scales = list(dict.fromkeys(row['scale'] for row in rows))
    for k, (bias, label) in enumerate(variants.BIASES.items()):
        values = [accuracies(rows, bias, scale, start) for scale in scales]
        middle = [sum(found) / len(found) for found in values]
        panel.errorbar([i + 0.08 * (k - 1) for i in range(len(scales))], middle,
                       [[m - min(found) for m, found in zip(middle, values)],
                        [max(found) - m for m, found in zip(middle, values)]],
                       marker='o', markersize=3, capsize=2, label=label)
    panel.set_xticks(range(len(scales)), [f'{scale}x' for scale in scales])
    panel.grid(alpha=0.3)


CLAIM = common.Claim(
    'window_transfer', measure, ('data', 'seed', 'bias', 'scale', 'use'),
    ('data', 'seed', 'bias', 'scale', 'size', 'window', 'use', 'accuracy', 'train_loss', 'steps',
     'batch', 'tuning_steps', 'tuning_batch', 'train_pictures', 'test_pictures'), text, draw)


def main(argv: list | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument('--data', nargs='+', choices=FULL, help='sets of pictures (default: all)')
    parser.add_argument('--uses', nargs='+', choices=USES, default=USES)
    common.run(CLAIM, parser, argv)


if __name__ == '__main__':
    main()
