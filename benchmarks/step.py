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
import time
from pathlib import Path

import samples
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import swinv2_mm.utils.compat  # noqa: F401, makes mmaction2 importable

ROOT = Path(__file__).resolve().parents[1]
PARTS = ('backbone forward', 'rest forward', 'rest backward', 'backbone backward', 'optimizer')
CONFIGS = {'configs/det/swinv2_t_cascade.py': lambda: samples.detection(192, 256),
           'configs/seg/swinv2_t_upernet.py': lambda: samples.segmentation(150),
           'configs/video/swinv2_t_k400.py': lambda: samples.video(1, frames=8, side=112)}


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


def build(name: str) -> tuple[Config, torch.nn.Module]:
    """A config, and its model with random weights for one process."""
    cfg = Config.fromfile(ROOT / name)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    model.init_weights()
    return cfg, model


def measure(name: str, data: dict, steps: int) -> list[float]:
    cfg, model = build(name)
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
