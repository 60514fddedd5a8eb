"""What a position bias is worth at a window it was not trained for (tables 1 and 8 of the paper).

    python benchmarks/paper_window_transfer.py [--quick]

A classifier of two stages learns at 32 x 32 and window 8 on which side of a green disc a red one
of the same size lies, and is then used at 1.5, 2, 3 and 4 times both, as it is, so that a window
always shows the same part of the picture. Three kinds of bias, each from the same initial weights
and the same order of pictures for a seed; see variants.py.

The positive control: the bias of what was trained is switched off, too. Where that costs little,
the answers do not come from a bias, and kinds of it cannot be told apart. The task, the model and
the number of steps were chosen for it with another seed, before any larger window was looked at.

Accuracy is the mean recall of the four classes.
"""
from __future__ import annotations

import copy
import functools
from typing import NamedTuple

import paper
import paper_training as training
import paper_variants as variants
import torch

from swinv2_mm import SwinTransformerV2

ARCH = dict(embed_dims=32, depths=(2, 2), num_heads=(2, 4))
WINDOW, SIZE = 8, 32
CONTROL = 10  # points that a bias switched off must cost at the trained window
USES = 'as it is', 'bias off'


class Plan(NamedTuple):
    """How much is trained, at the small size, and how many pictures there are."""

    steps: int
    batch: int = 32
    scales: tuple[float, ...] = (1, 1.5, 2, 3, 4)
    counts: tuple[int, int] = (2000, 200)  # to train and to test on
    rate: float = 2e-3
    table: float = 20.0  # times that rate, for a table: see training.groups


FULL = Plan(600)
QUICK = Plan(16, 12, scales=(1, 2), counts=(48, 36), rate=2e-2)


def sides(scale: float) -> tuple[int, int]:
    """Picture and window at a scale."""
    return round(SIZE * scale), round(WINDOW * scale)


@functools.cache
def pictures(part: str, size: int, counts: tuple[int, int]) -> training.Pictures:
    return training.relations(part, counts[part == 'test'], size)


def build(kind: str, seed: int) -> training.Classifier:
    """A fresh classifier; whatever the kind, the same weights where there are the same."""
    torch.manual_seed(seed)
    windows = variants.fitting_windows(SIZE, WINDOW, len(ARCH['depths']))
    backbone = SwinTransformerV2(ARCH, window_size=windows, pretrained_window_sizes=windows,
                                 drop_path_rate=0.0, out_indices=(len(windows) - 1,))
    model = training.Classifier(backbone, 4)
    variants.set_bias(backbone, kind)
    return model


def measure(args):
    for seed in args.seeds:
        for kind in variants.BIASES:
            yield one(QUICK if args.quick else FULL, kind, seed)


def one(plan: Plan, kind: str, seed: int) -> list[dict]:
    """Train one classifier, and use it at every scale."""
    source = pictures('train', SIZE, plan.counts)
    model = build(kind, seed)
    losses = training.train(model, source, plan.steps, plan.rate, seed, batch=plan.batch,
                            flip=False, table=plan.table)
    rows = []
    for scale in plan.scales:
        size, window = sides(scale)
        test = pictures('test', size, plan.counts)
        for use in USES:
            accuracy = training.balanced_accuracy(grown(model, scale, use), test)
            rows.append(dict(seed=seed, bias=kind, scale=scale, size=size, window=window, use=use,
                             accuracy=round(accuracy, 4),
                             train_loss=round(sum(losses[-20:]) / len(losses[-20:]), 6),
                             steps=plan.steps, batch=plan.batch, train_pictures=len(source.labels),
                             test_pictures=len(test.labels)))
            print(f'seed {seed}  {kind:<7} {size:>3} px, window {window:>2}  {use:<10} '
                  f'{accuracy:.1f} %', flush=True)
    return rows


def grown(model: training.Classifier, scale: float, use: str) -> training.Classifier:
    """A copy of a trained classifier for a larger window, made ready for a use."""
    size, window = sides(scale)
    found = copy.deepcopy(model)
    variants.grow(found.backbone, variants.fitting_windows(size, window, len(ARCH['depths'])))
    if use == 'bias off':
        variants.drop_bias(found.backbone)
    return found


def accuracies(rows: list[dict], bias: str, scale: str, use: str) -> list[float]:
    return [float(row['accuracy']) for row in
            sorted(paper.pick(rows, bias=bias, scale=scale, use=use), key=lambda x: x['seed'])]


def text(rows: list[dict]) -> str:
    """Sizes, the table, and what the numbers say of the claim."""
    first, scales = rows[0], list(dict.fromkeys(row['scale'] for row in rows))
    heads = [f'{x} px, window {w}' for x, w in dict.fromkeys((r['size'], r['window'])
                                                            for r in rows)]
    lines = [[variants.BIASES[bias], use,
              *(paper.spread(accuracies(rows, bias, scale, use)) for scale in scales)]
             for bias in variants.BIASES for use in USES]
    sizes = (f'{first["train_pictures"]} pictures to train on and {first["test_pictures"]} to test '
             f'on; {first["steps"]} steps of {first["batch"]} pictures at the small size; '
             f'{len({row["seed"] for row in rows})} seeds. Accuracy in %, mean and standard '
             'deviation over seeds; guessing gives 25 %:')
    return '\n\n'.join([sizes, paper.table(['bias', 'use', *heads], lines),
                        control(rows, scales[0]), verdict(rows, scales)])


def control(rows: list[dict], scale: str) -> str:
    """What the bias is worth at the trained window: whether this can show anything at all."""
    losses = [[a - b for a, b in zip(accuracies(rows, bias, scale, 'as it is'),
                                     accuracies(rows, bias, scale, 'bias off'))]
              for bias in variants.BIASES]
    least = min(sum(found) / len(found) for found in losses)
    met = 'is met' if least >= CONTROL else 'is not met, so that nothing below says anything'
    return ('The control: with the bias switched off after training they lose '
            f'{", ".join(map(paper.spread, losses))} points at the trained window, in the order '
            f'of the table. That at least {CONTROL} are lost {met}.')


def moved(rows: list[dict], bias: str, scale: str) -> list[float]:
    """Points won or lost since the trained window, where kinds of bias may differ already."""
    return [now - before for now, before in zip(accuracies(rows, bias, scale, 'as it is'),
                                                accuracies(rows, bias, '1', 'as it is'))]


def verdict(rows: list[dict], scales: list[str]) -> str:
    """Log against the others over the larger windows: seed by seed, and by their means."""
    scales = [scale for scale in scales if float(scale) > 1]
    parts, clear, against = [], [], []
    for other in ('table', 'linear'):
        gaps = [[a - b for a, b in zip(moved(rows, 'log', scale), moved(rows, other, scale))]
                for scale in scales]
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
    return ('Counted from what each run has at the trained window, in the mean over seeds (the '
            'claim is said to hold where every mean is above 0 and four fifths of pairs agree): '
            f'log-spaced offsets give {"; ".join(parts)}. {claim}')


def draw(rows: list[dict], path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 2.5), sharey=True, layout='constrained')
    for panel, use in zip(panels, USES):
        curves(panel, rows, use)
        panel.set_title(use, fontsize=10)
        panel.set_xlabel('picture and window over those of training')
    panels[0].set_ylabel('accuracy, %')
    panels[0].legend(fontsize=8)
    paper.save(figure, path)


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


CLAIM = paper.Claim(
    'window_transfer', measure, ('seed', 'bias', 'scale', 'use'),
    ('seed', 'bias', 'scale', 'size', 'window', 'use', 'accuracy', 'train_loss', 'steps', 'batch',
     'train_pictures', 'test_pictures'), text, draw)


def main(argv: list | None = None) -> None:
    paper.run(CLAIM, paper.parser(__doc__), argv)


if __name__ == '__main__':
    main()
