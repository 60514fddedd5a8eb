"""Export a model: python tools/export_onnx.py CONFIG CHECKPOINT --size H W --out FILE.onnx.

The file takes pictures of one size as OpenCV reads them (blue first, 0 to 255, (B, 3, H, W)):
float32 and any number at a time, detectors uint8 and one; the normalisation of the config is in it.
FILE.json and runner.py beside it run it without torch. FILE.pt2 is written by torch.export instead.
Before it gets its name, it must answer as PyTorch does.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mmengine.config import Config

from swinv2_mm.apis import model_inputs, overrides
from swinv2_mm.apis.inference.weights import load_weights
from swinv2_mm.export import checks, facts, graphs, runner, smaller
from swinv2_mm.utils import entry, versions
from swinv2_mm.utils.errors import UserError, check_file


def parse_args(argv: list | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of a checkpoint of it')
    parser.add_argument('--size', nargs='+', type=int, action='append', required=True,
                        metavar='SIDE', help='height and width of the pictures in pixels, of films '
                        'frames before them; given again, one more file FILE_HxW')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE',
                        help='file to write: .onnx, or .pt2 for torch.export')
    parser.add_argument('--part', choices=['whole', 'backbone'], default='whole',
                        help='the whole model (default), or its backbone alone')
    parser.add_argument('--opset', type=int,
                        help='version of the ONNX operations, 18 at least '
                             f'({graphs.OPSET}; whole detectors {graphs.DETECTORS})')
    parser.add_argument('--images', nargs='+', default=[], metavar='PATH',
                        help='pictures or folders to check it on (default: noise)')
    parser.add_argument('--precision', choices=['fp32', 'fp16', 'int8'], default='fp32',
                        help='of the weights; int8 needs --images, by which it is calibrated')
    parser.add_argument('--engine', choices=runner.ENGINES, default='onnxruntime',
                        help='runs the file where it is checked, timed and measured')
    parser.add_argument('--truth', help='with pictures or folders in --images: measure the file as '
                        'runner.py does, by a folder of classes, of maps, or a COCO json')
    parser.add_argument('--compiled', action='store_true',
                        help='a FILE.pt2 compiled for this processor by AOTInductor; needs g++')
    parser.add_argument('--no-check', action='store_true', help='write it unchecked')
    parser.add_argument('--time', type=int, default=0, metavar='ROUNDS',
                        help='also time it beside PyTorch, turn by turn')
    parser.add_argument('--cfg-options', nargs='+', action=overrides.Options, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    return parser.parse_args(argv)


def load(args) -> tuple[Config, graphs.Pixels]:
    """Config and model of the arguments, with its weights."""
    model_inputs.quiet()
    cfg = model_inputs.read(args.config, args.cfg_options)
    check_file(args.checkpoint, 'checkpoint', 'give the path of a .pth file')
    if 'backbone' not in cfg.model or cfg.model.type.rpartition('.')[2] == 'SimMIM':
        raise UserError('The config must be of classification, segmentation, detection or videos, '
                        f'got one of {cfg.model.type}: give another one.')
    model = model_inputs.build(cfg, 'cpu')
    for size in args.size:
        graphs.check_part(model, args.part, size)
    load_weights(model, args.checkpoint)
    return cfg, graphs.Pixels(model.eval().requires_grad_(False), args.part).eval()


def check(path: Path, model: graphs.Pixels, images: list, args) -> None:
    """Compare a file with the library's own predictions, and print what comes out."""
    engine = f'aot {model.kind}' if args.compiled else args.engine
    run = checks.runner(path, path.suffix, torch.get_num_threads(), engine)
    found = checks.differences(model, run, images, args.precision == 'fp32')
    what = ('pictures' if len(args.size[0]) == 2 else 'films') + ' of noise' * (not args.images)
    print(f'on {len(images)} {what} it differs from PyTorch by at most '
          + ', '.join(f'{value:.2g} ({name})' for name, value in found.items()))
    if args.time:
        torchs, files, ratio = checks.times(run, model, images[0], args.time)
        print(f'one picture, {torch.get_num_threads()} threads, median of {args.time}: PyTorch '
              f'{1e3 * torchs:.0f} ms, the file {1e3 * files:.0f} ms, ratio {ratio:.2f}')


def main(argv: list | None = None) -> None:
    args = parse_args(argv)
    args.size = [tuple(size) for size in args.size]
    versions.require('export', 'export in another environment; checkpoints load there as here')
    if min(map(min, args.size)) < 1 or (args.opset or 18) < 18 or args.time < 0:
        raise UserError('--size must be at least 1 1, --opset at least 18 and --time at least 0, '
                        f'got {args.size}, {args.opset} and {args.time}.')
    if args.out.suffix not in ('.onnx', '.pt2') or not args.out.parent.is_dir():
        raise UserError('--out must be a file that ends in .onnx or .pt2, in a folder that is '
                        f'there, got {str(args.out)!r}.')
    if args.compiled and args.out.suffix != '.pt2':
        raise UserError(f'--compiled needs --out FILE.pt2, got {str(args.out)!r}: give that.')
    if args.precision == 'int8':
        args.opset = args.opset or smaller.OPSET
        if not (args.images and args.out.suffix == '.onnx' and args.opset <= smaller.OPSET):
            raise UserError('--precision int8 needs a FILE.onnx, --images, pictures by which it is '
                            f'calibrated, and --opset {smaller.OPSET} at most: give these.')
    if args.truth and not (args.images and args.part == 'whole' and args.out.suffix == '.onnx'):
        raise UserError('--truth needs a whole model as FILE.onnx and --images, which are measured '
                        'by it: give both.')
    cfg, model = load(args)
    if args.images and len(args.size[0]) == 3:
        raise UserError('--images are pictures, and this model takes films: leave them out, it is '
                        'checked on noise.')
    for size in args.size:
        name = args.out.stem + f'_{"x".join(map(str, size))}' * (len(args.size) > 1)
        write(cfg, model, size, args.out.with_stem(name), args)


def write(cfg: Config, model: graphs.Pixels, size: tuple[int, ...], out: Path, args) -> None:
    """Write, check and describe the file of one size."""
    views = (2,) if model.step == 'clips' else ()
    images = list(checks.pictures(args.images, size, model.model.backbone.in_channels, views))
    checks.known(model, images[:2])
    described = args.part == 'whole' and out.suffix == '.onnx'
    found = facts.facts(cfg, model, size) if described else None
    part = out.with_name(f'{out.stem}.part{out.suffix}')
    try:
        graphs.export(model, size, part, args.opset, args.precision == 'fp16',
                      args.compiled)
        if args.precision == 'int8':
            count = smaller.quantise(part, [image.astype(model.kind) for image in images])
            print(f'{count} products by weights are int8, calibrated on {len(images)} pictures')
        if not args.no_check:
            check(part, model, images, args)
        part.replace(out)
        beside = facts.write(out, found, model.batch) if found else []
    except OSError as error:
        raise UserError(f'{out} cannot be written ({error.strerror}): make room, or give '
                        'another place.') from error
    finally:
        part.unlink(missing_ok=True)
    print(f'wrote {out}, {out.stat().st_size / 1e6:.0f} MB: image -> '
          f'{", ".join(model.outputs)}'
          + (f'; beside it {" and ".join(path.name for path in beside)}' if beside else ''))
    if args.truth:
        model = runner.Model(out, engine=args.engine)
        found = runner.measure(model, runner.found_in(args.images), args.truth)
        print(', '.join(f'{name} {value:.4g}' for name, value in found.items()))


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
