"""Train a model: python tools/train.py CONFIG [options]. mmengine's Runner does the work."""
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from swinv2_mm.apis import launch
from swinv2_mm.apis.inference.weights import Fills
from swinv2_mm.datasets.checks import check_data
from swinv2_mm.engine.checkpoints import resume_point
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError


def parse_args():
    parser = launch.parser('Train a model.')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='PATH',
                        help='go on from the newest whole checkpoint of the work dir, or from PATH')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate from auto_scale_lr.base_batch_size of the '
                        'config to the batch size in use')
    parser.add_argument('--no-validate', action='store_true', help='skip validation')
    parser.add_argument('--seed', type=int, help='seed of all random numbers')
    parser.add_argument('--deterministic', action='store_true',
                        help='deterministic algorithms where there are any; slower')
    return parser.parse_args()


def apply(args, cfg: Config) -> None:
    """Write the arguments of training into the config."""
    if args.resume:
        cfg.resume = True
        cfg.load_from = resume_point(cfg.work_dir) if args.resume == 'auto' else args.resume
    if cfg.get('load_from'):
        launch.check_checkpoint(cfg.load_from)
        if args.resume not in (None, 'auto'):
            resume_point(cfg.work_dir, args.resume)
    if args.amp:
        if get_device() in ('cpu', 'mps'):
            raise UserError('--amp needs a GPU that mmengine can run it on, and torch sees '
                            f'none here (device {get_device()}): leave it out.')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) '
                            'in the config, which has none: add it.')
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.seed is not None or args.deterministic:
        cfg.randomness = dict(seed=args.seed, deterministic=args.deterministic)
    _add_hooks(cfg)


def _add_hooks(cfg: Config) -> None:
    """What every training needs, configs of others too.

    NaN ends it, its rates are its config's, and positions mean the same at any size of image.
    """
    default, custom = cfg.get('default_hooks') or {}, list(cfg.get('custom_hooks') or [])
    kinds = {hook['type'] for hook in (*default.values(), *custom)
             if isinstance(hook, dict) and isinstance(hook.get('type'), str)}
    if 'numerics' not in default and not kinds & {'NumericsHook', 'swinv2_mm.NumericsHook'}:
        custom.append(dict(type='swinv2_mm.NumericsHook'))
    custom += [dict(type='swinv2_mm.ScheduleHook'), dict(type='swinv2_mm.PositionsHook')]
    cfg.custom_hooks = custom


def main():
    args = parse_args()
    cfg = launch.load_config(args)
    apply(args, cfg)
    check_data(cfg, 'train', 'val')
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if cfg.get('load_from') and not cfg.get('resume'):
        runner.register_hook(Fills())
    runner.train()


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
