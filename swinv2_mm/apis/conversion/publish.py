"""Make a trained checkpoint fit for release: weights alone, safe to load, and named by its hash.

    python tools/model_converters/publish.py work_dirs/my_config/epoch_36.pth my_model.safetensors \
        --config configs/det/swinv2_t_cascade.py --licence MIT

writes my_model-1a2b3c4d.safetensors: no optimizer state, no logs, no pickle; sizes, windows, the
name of the config and a note on the licence are in the file, beside the tensors.
"""
import argparse
import hashlib
from pathlib import Path

from swinv2_mm.apis.conversion import checkpoint_files as files
from swinv2_mm.checkpoints import LAYOUTS, detect_layout, to_native
from swinv2_mm.checkpoints.transfer import PATCH, arch_of
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

UNSAID = 'not stated; ask whoever trained these weights'


def parse_args():
    parser = argparse.ArgumentParser(description='Make a trained checkpoint fit for release.')
    parser.add_argument('input', help='checkpoint: a file, a folder or a URL')
    parser.add_argument('output', help='name of the file to write; gets -HASH before .safetensors')
    parser.add_argument('--config', help='name of the config it was trained with (default: what '
                        'the checkpoint says)')
    parser.add_argument('--licence', default=UNSAID, help='licence of the weights, a note such as '
                        '"MIT, started from the official weights"')
    parser.add_argument('--backbone-only', action='store_true',
                        help='leave out what is no part of the backbone or its classifier')
    parser.add_argument('--ema', action='store_true', help='take the averaged weights of the input')
    files.add_window_arguments(parser)
    return parser.parse_args()


def digest(path: Path) -> str:
    """The first 8 hex digits of the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open('rb') as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()[:8]


def main():
    args = parse_args()
    out = Path(args.output)
    if out.suffix != '.safetensors':
        raise UserError(f'The output must end in .safetensors, got {out.name!r}: give such a name.')
    contents = files.read(args.input, args.ema)
    windows, said = files.settle_windows(args, contents)
    with files.sentences():
        layout = detect_layout(contents.state)
        native = to_native(contents.state, layout)
    arch = arch_of(native)
    state = native if args.backbone_only else dict(contents.state)
    kept = 'native' if args.backbone_only else layout
    if kept == 'native':
        patch = next(name for name in state if f'.{name}'.endswith(f'.{PATCH}'))
        state |= files.record_of(windows, patch.removesuffix(PATCH))
    config = args.config or contents.metadata.get('experiment_name', 'not stated')
    metadata = files.metadata_of(arch, windows, kept) | {
        'config': Path(config).name, 'licence': args.licence}
    named = files.write_whole(
        out, lambda part: files.save(state, part, metadata),
        lambda part: out.with_name(f'{out.stem}-{digest(part)}.safetensors'))
    for note in contents.notes:
        print(note)
    print(f'{args.input}: {LAYOUTS[layout].title}, arch {files.arch_name(arch) or arch}; windows '
          f'{said}')
    print('\n'.join(f'  {key}: {value}' for key, value in metadata.items()))
    print(f'written: {named} ({named.stat().st_size:,} bytes, {len(state)} tensors)')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
