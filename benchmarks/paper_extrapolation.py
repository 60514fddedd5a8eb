"""How far relative positions reach beyond those of training when the window grows.

    python benchmarks/paper_extrapolation.py [--quick]

The paper, section 3.3: from a window of 8 x 8 to one of 16 x 16 linear coordinates must extrapolate
by 1.14 times their range, log-spaced ones by 0.33 times. The offsets are those that the models of
this package feed their position network with (`swinv2_mm.models.attention.log_spaced_offsets`), so
that the code is measured and not the formula. Three spacings of the same offsets:

- linear: tokens. This is the package's table with its logarithm undone.
- log, as printed: eq. 4, sign(x) log(1 + |x|) of an offset in tokens.
- log, as released: what the official code and this package do; offsets are first divided by the
  window of training, and multiplied by 8.

The extrapolation ratio is (reach of the new window - reach of the old) / reach of the old.
"""
from __future__ import annotations

import paper
import paper_variants as variants
import torch

from swinv2_mm.models.attention import log_spaced_offsets

CASES = ((8, 16), (12, 48), (8, 12), (8, 24), (8, 32), (6, 12), (12, 16), (12, 24))
QUICK = ((8, 16), (12, 48))
# (trained, used) -> what the paper prints for it: linear, log
PRINTED = {(8, 16): (1.14, 0.33)}


def reaches(window: int, trained: int) -> dict[str, float]:
    """Largest coordinate of a window, in each spacing, for a model trained with `trained`."""
    released = log_spaced_offsets((window, window), (trained, trained))
    tokens = variants.in_tokens(released, (trained, trained))
    printed = tokens.sign() * torch.log(1 + tokens.abs())
    return {'linear': tokens.max().item(), 'log, as printed': printed.max().item(),
            'log, as released': released.max().item()}


def measure(args):
    """One list of rows: no seed changes any of this."""
    rows = []
    for trained, used in QUICK if args.quick else CASES:
        before, after = reaches(trained, trained), reaches(used, trained)
        for spacing in before:
            rows.append(dict(trained=trained, used=used, spacing=spacing,
                             reach_trained=round(before[spacing], 6),
                             reach_used=round(after[spacing], 6),
                             ratio=round(after[spacing] / before[spacing] - 1, 6)))
    yield rows


def text(rows: list[dict]) -> str:
    """The table of ratios, and a sentence on each case that the paper prints."""
    spacings = list(dict.fromkeys(row['spacing'] for row in rows))
    cases = list(dict.fromkeys((row['trained'], row['used']) for row in rows))
    ratio = {(row['trained'], row['used'], row['spacing']): float(row['ratio']) for row in rows}
    lines = []
    for case in cases:
        values = [f'{ratio[(*case, spacing)]:.2f}' for spacing in spacings]
        printed = PRINTED.get(tuple(map(int, case)))
        lines.append([f'{case[0]} -> {case[1]}', *values,
                      '{:.2f} / {:.2f}'.format(*printed) if printed else '-'])
    return '\n\n'.join([
        paper.table(['window', *spacings, 'paper: linear / log'], lines),
        *(sentence(case, *(ratio[(*map(str, case), spacing)] for spacing in spacings))
          for case in PRINTED), others(ratio, cases)])


def sentence(case: tuple[int, int], linear: float, log: float, released: float) -> str:
    wanted = PRINTED[case]
    agree = [round(x, 2) == y for x, y in zip((linear, log), wanted)]
    verdict = ('both ratios are the printed ones' if all(agree) else
               f'the printed ones are {wanted[0]} and {wanted[1]}, so the claim is not met')
    return (f'From {case[0]} to {case[1]} linear coordinates must reach {linear:.2f} times their '
            f'range further and log-spaced ones {log:.2f} times: {verdict}. The released form, '
            f'which the code of this package and the official code run, reaches {released:.2f} '
            f'times further: {released / log:.2f} times as far as eq. 4 as printed, and '
            f'{linear / released:.1f} times less than linear coordinates.')


def others(ratio: dict, cases: list) -> str:
    """On the remaining windows, and which form reaches less far."""
    less = sum(ratio[(*case, 'log, as released')] < ratio[(*case, 'log, as printed')]
               for case in cases)
    gains = [ratio[(*case, 'linear')] / ratio[(*case, 'log, as released')] for case in cases]
    far = '12', '48'
    return (f'From 12 to 48 it is {ratio[(*far, "linear")]:.2f} linear, '
            f'{ratio[(*far, "log, as printed")]:.2f} as printed and '
            f'{ratio[(*far, "log, as released")]:.2f} as released; the paper prints no ratio for '
            f'it. Over all {len(cases)} steps the released form reaches less far than eq. 4 as '
            f'printed in {less}, and {min(gains):.1f} to {max(gains):.1f} times less far than '
            'linear coordinates.')


def draw(rows: list[dict], path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(7, 2.8), layout='constrained')
    spacings = list(dict.fromkeys(row['spacing'] for row in rows))
    cases = list(dict.fromkeys((row['trained'], row['used']) for row in rows))
    for k, spacing in enumerate(spacings):
        values = [float(row['ratio']) for row in paper.pick(rows, spacing=spacing)]
        panel.bar([i + (k - 1) * 0.27 for i in range(len(cases))], values, 0.27, label=spacing)
    panel.set_xticks(range(len(cases)), [f'{trained} to {used}' for trained, used in cases])
    panel.set_xlabel('window of training to window in use')
    panel.set_ylabel('extrapolation ratio')
    panel.legend()
    paper.save(figure, path)


CLAIM = paper.Claim('extrapolation', measure, ('trained', 'used', 'spacing'),
                    ('trained', 'used', 'spacing', 'reach_trained', 'reach_used', 'ratio'),
                    text, draw)


def main(argv: list | None = None) -> None:
    paper.run(CLAIM, paper.parser(__doc__), argv)


if __name__ == '__main__':
    main()
