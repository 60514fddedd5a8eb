"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT [options]."""
import importlib

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from swinv2_mm.apis import launch
from swinv2_mm.apis.inference.weights import WholeModel, load_weights
from swinv2_mm.datasets.checks import check_data
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

# What draws and writes results under each default_scope; modules here register what libraries lack.
MODULES = {'mmseg': 'swinv2_mm.evaluation.seg_results',
           'mmpretrain': 'swinv2_mm.evaluation.cls_results'}
DRAW = {
    'mmdet': lambda folder: dict(type='DetVisualizationHook', draw=True, test_out_dir=folder),
    'mmseg': lambda folder: dict(type='DrawMaps', folder=folder),
    'mmpretrain': lambda folder: dict(type='DrawLabels', folder=folder),
}
DUMP = {'mmdet': 'DumpDetResults', 'mmseg': 'DumpMaps'}  # elsewhere mmengine's DumpResults does


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
    launch.check_checkpoint(args.checkpoint)
    if scope in MODULES:
        importlib.import_module(MODULES[scope])
    if args.show_dir:
        if scope not in DRAW:
            raise UserError(f'--show-dir works under {", ".join(DRAW)}, got a config with '
                            f'default_scope {scope!r}: leave it out.')
        cfg.default_hooks.visualization = DRAW[scope](args.show_dir)
    if args.tta:
        _augment(cfg, scope)
    if args.out:
        if not args.out.endswith(('.pkl', '.pickle')):
            raise UserError(f'--out must end in .pkl or .pickle, got {args.out!r}.')
        dump = dict(type=DUMP.get(scope, 'DumpResults'), out_file_path=args.out)
        cfg.test_evaluator = [*_as_list(cfg.test_evaluator), dump]


def _augment(cfg: Config, scope: str) -> None:
    for key in ('tta_model', 'tta_pipeline'):
        if key not in cfg:
            raise UserError(f'--tta needs {key} in the config, which has none: add it.')
    merges_masks = not cfg.tta_model.type.endswith('DetTTAModel')
    if scope == 'mmdet' and cfg.model.get('roi_head', {}).get('mask_head') and not merges_masks:
        # mmdet refuses to merge masks, so a Mask R-CNN is tested as the detector inside it.
        print('--tta by DetTTAModel merges boxes only: masks are left out. '
              "tta_model=dict(type='swinv2_mm.TwoStageViews') merges both.", flush=True)
        cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
        for evaluator in _as_list(cfg.test_evaluator):
            if evaluator['type'].endswith('CocoMetric'):
                evaluator['metric'] = 'bbox'
    cfg.model = dict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def _as_list(settings) -> list:
    return settings if isinstance(settings, list) else [settings]


def main():
    args = parse_args()
    cfg = launch.load_config(args)
    apply(args, cfg)
    check_data(cfg, 'test')
    if 'runner_type' in cfg:  # builds the model when it tests
        cfg.load_from = args.checkpoint
        runner = RUNNERS.build(cfg)
        runner.register_hook(WholeModel(args.checkpoint), 'VERY_LOW')
    else:
        cfg.load_from = None
        runner = Runner.from_cfg(cfg)
        load_weights(runner.model, args.checkpoint)
    runner.test()


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
