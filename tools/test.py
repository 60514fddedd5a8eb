"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT [options]."""
import launch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

# Each library has its own hook that draws results; --show-dir reaches it by these settings.
DRAW = {
    'mmdet': lambda folder: dict(type='DetVisualizationHook', draw=True, test_out_dir=folder),
}
DUMP = {'mmdet': 'DumpDetResults'}  # elsewhere mmengine's DumpResults does


def parse_args():
    parser = launch.parser('Evaluate a checkpoint.')
    parser.add_argument('checkpoint', help='path or URL of a checkpoint')
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to a pickle file')
    parser.add_argument('--show-dir', metavar='DIR',
                        help='draw ground truth beside prediction, to WORK_DIR/TIMESTAMP/DIR')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    return parser.parse_args()


def apply(args, cfg: Config) -> None:
    """Write the arguments of testing into the config."""
    scope = cfg.get('default_scope', 'mmengine')
    launch.check_file(args.checkpoint, 'checkpoint', 'give the path of a .pth file')
    cfg.load_from = args.checkpoint
    if args.show_dir:
        if scope not in DRAW:
            raise launch.UserError(f'--show-dir works under {", ".join(DRAW)}, got a config with '
                                   f'default_scope {scope!r}: leave it out.')
        cfg.default_hooks.visualization = DRAW[scope](args.show_dir)
    if args.tta:
        for key in ('tta_model', 'tta_pipeline'):
            if key not in cfg:
                raise launch.UserError(f'--tta needs {key} in the config, which has none: add it.')
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    if args.out:
        if not args.out.endswith(('.pkl', '.pickle')):
            raise launch.UserError(f'--out must end in .pkl or .pickle, got {args.out!r}.')
        evaluators = cfg.test_evaluator
        dump = dict(type=DUMP.get(scope, 'DumpResults'), out_file_path=args.out)
        cfg.test_evaluator = [*(evaluators if isinstance(evaluators, list) else [evaluators]), dump]


def main():
    args = parse_args()
    cfg = launch.load_config(args)
    apply(args, cfg)
    launch.check_data(cfg, 'test')
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.test()


if __name__ == '__main__':
    launch.run(main)
