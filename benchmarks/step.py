"""Where a training step goes: the backbone, the library around it, the optimizer.

    python benchmarks/step.py [--steps 5] [--threads 2]

Times steps of three configs of this package on one random sample of the size of the demos: SwinV2-T
Cascade Mask R-CNN (mmdet), UperNet (mmseg) and Recognizer3D on Kinetics-400 (mmaction2). The
backbone's backward pass is what follows once all gradients of its features are there. Reading and
augmenting data is left out: it goes on beside the step, in processes of its own.
"""
import argparse
import logging
import statistics
import sys
import time
from pathlib import Path

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / 'tests'), str(ROOT / 'tests/configs')]
PARTS = ('backbone forward', 'rest forward', 'rest backward', 'backbone backward', 'optimizer')


def detection():
    from helpers import sample
    return sample(192, 256)


def segmentation():
    from test_configs_seg import sample
    return sample(150)


def video():
    from test_configs_video import sample

    import swinv2_mm.utils.compat  # noqa: F401, makes mmaction2 importable
    return sample(1, frames=8, side=112)


CONFIGS = {'configs/det/swinv2_t_cascade.py': detection,
           'configs/seg/swinv2_t_upernet.py': segmentation,
           'configs/video/swinv2_t_k400.py': video}


class Clock:
    """Seconds that the backbone takes forward, and when all gradients of its features are there."""

    def __init__(self, backbone: torch.nn.Module):
        self.forward, self.reached = 0.0, 0.0
        backbone.register_forward_pre_hook(lambda *_: setattr(self, 'start', time.perf_counter()))
        backbone.register_forward_hook(self.leave)

    def leave(self, module, args, outs) -> None:
        self.forward = time.perf_counter() - self.start
        for out in outs if isinstance(outs, tuple) else (outs,):
            out.register_hook(lambda grad: setattr(self, 'reached', time.perf_counter()))


def step(model, wrapper, data, clock) -> list[float]:
    """Seconds of each of PARTS."""
    start = time.perf_counter()
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    forward = time.perf_counter()
    loss.backward()
    backward = time.perf_counter()
    wrapper.step()
    wrapper.zero_grad()
    end = time.perf_counter()
    return [clock.forward, forward - start - clock.forward, clock.reached - forward,
            backward - clock.reached, end - backward]


def measure(name: str, data: dict, steps: int) -> list[float]:
    from config_checks import build, load
    cfg = load(name)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(build(cfg)).train()
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    clock = Clock(model.backbone)
    found = [step(model, wrapper, data, clock) for _ in range(steps + 1)][1:]
    return [statistics.median(times) for times in zip(*found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--configs', nargs='+', default=list(CONFIGS), choices=list(CONFIGS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)  # the table of learning rates
    print(f'torch {torch.__version__}, {args.threads} threads, median of {args.steps} steps')
    print('| config | step, ms | ' + ' | '.join(PARTS) + ' |')
    print('|' + '---|' * (2 + len(PARTS)))
    for name in args.configs:
        times = measure(name, CONFIGS[name](), args.steps)
        shares = ' | '.join(f'{100 * t / sum(times):.0f} %' for t in times)
        print(f'| `{name}` | {1000 * sum(times):.0f} | {shares} |', flush=True)


if __name__ == '__main__':
    main()
