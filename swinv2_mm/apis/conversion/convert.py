"""Convert a SwinV2 checkpoint between the layouts of the libraries that have SwinV2.

    python tools/model_converters/convert.py swinv2_tiny_patch4_window8_256.pth out.safetensors \
        --to timm --verify

prints what happens to every tensor, which windows the weights were trained with, and the number of
parameters on both sides; then writes OUT, as safetensors or as a torch file by its name.
"""
from __future__ import annotations

import argparse
import itertools
import re
from collections import Counter
from pathlib import Path

import torch

from swinv2_mm.apis.conversion import checkpoint_files as files
from swinv2_mm.apis.conversion import peer_models
from swinv2_mm.apis.conversion.checkpoint_files import Windows
from swinv2_mm.checkpoints import LAYOUTS, detect_layout, from_native, plan, plan_back, to_native
from swinv2_mm.checkpoints.read import read_checkpoint
from swinv2_mm.checkpoints.transfer import PATCH, arch_of, resolved
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

# The key around the state dict that the library's own loader asks for in a torch file.
WRAPPERS = dict(official='model', simmim='model', mmpretrain='state_dict', native='state_dict',
                timm='state_dict')
ENDINGS = ('.safetensors', '.pth', '.pt', '.bin')
INDEX = re.compile(r'\b((?:layers|stages|blocks|features)[._])\d+(?:\.\d+\b)?')
# What a change of values is called, from the file's side.
WORDS = {'unfolded': 'permuted', 'split': 'joined or split', 'packed': 'joined or split'}


def parse_args():
    parser = argparse.ArgumentParser(description='Convert a SwinV2 checkpoint between layouts.')
    parser.add_argument('input', help='checkpoint: a file, a folder or a URL, in any layout')
    parser.add_argument('output', help=f'file to write or replace, ending in {", ".join(ENDINGS)}')
    parser.add_argument('--to', required=True, choices=list(LAYOUTS), help='layout of the output')
    parser.add_argument('--dry-run', action='store_true', help='print the plan and write nothing')
    parser.add_argument('--verify', action='store_true', help="compare the outputs of the "
                        "libraries' own models with ours on a random image before writing")
    parser.add_argument('--ema', action='store_true', help='take the averaged weights of the input')
    files.add_window_arguments(parser)
    return parser.parse_args()


def changes(state, native, layout: str, target: str) -> list[tuple[str, tuple, tuple]]:
    """(what happens, names in the input, names in the output) of every tensor."""
    forward = plan(state, layout)
    back = plan_back(native, target)
    makers = {name: step for step in forward for name in step.targets if name in native}
    rows, joined = [], {}
    for step in back:
        sources = list(dict.fromkeys(makers[name] for name in step.sources))
        entry = next((joined[s.sources] for s in sources if s.sources in joined), None)
        if entry is None:
            entry = [{}, {}, Counter()]  # names as keys of dicts, which keep their order
            rows.append(entry)
        for source in sources:
            if source.sources not in joined:
                entry[0].update(dict.fromkeys(source.sources))
                entry[2][source.change] += 1
            joined[source.sources] = entry
        entry[1].update(dict.fromkeys(step.targets))
        entry[2]['dropped' if not step.targets else step.change] += 1
    out = [(_word(*entry), tuple(entry[0]), tuple(entry[1])) for entry in rows]
    out += [('dropped', step.sources, ()) for step in forward
            if not any(name in makers for name in step.targets)]
    return out


def _word(sources: dict, targets: dict, done: Counter) -> str:
    if not targets:
        return 'dropped'
    for change, word in WORDS.items():
        if done[change] == 1 or (done[change] and list(sources) != list(targets)):
            return word
    return 'kept' if list(sources) == list(targets) else 'renamed'


def table(rows: list[tuple[str, tuple, tuple]]) -> str:
    """One line, with the first as the example, for all tensors that only stage and block tell
    apart; and for all that are dropped with one part of a larger model.
    """
    groups: dict[tuple, list] = {}
    for word, sources, targets in rows:
        key = word, *(INDEX.sub(r'\1*', ' '.join(names)) for names in (sources, targets))
        if word == 'dropped' and '.blocks.' not in key[1]:
            key = word, key[1].partition('.')[0]
        groups.setdefault(key, []).append((sources, targets))
    lines = [('tensors', 'what', 'from', 'to')]
    for (word, *_), members in groups.items():
        lines += itertools.zip_longest((str(len(members)),), (word,), *members[0], fillvalue='')
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return '\n'.join(f'{a:>{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}'.rstrip()
                     for a, b, c, d in lines)


def check_target(target: str, native, windows: Windows | None) -> None:
    """UserError where the layout cannot hold what the file is."""
    if native[PATCH].ndim != 4 and target != 'native':
        raise UserError(f'The layout {target} is for images, and the file is of a video model: '
                        'convert it --to native.')
    if target == 'torchvision' and windows and len({*sum(windows, ())}) > 1:
        raise UserError('torchvision has one window for all stages and normalises positions by '
                        f'it, and the file has {files.show(windows)}: its model would compute '
                        'something else; choose another layout.')


def parameters(state, layout: str) -> int:
    """How many numbers of a state dict are weights."""
    return sum(state[name].numel() for step in plan(state, layout)
               if step.change not in ('buffer',) for name in step.sources)


def verify(state, layout: str, converted, target: str, windows: Windows | None) -> list[str]:
    """Lines on how the libraries' own models compare; UserError where one computes otherwise."""
    native, again = to_native(converted, target), to_native(state, layout)
    lost = [name for name, value in native.items() if not torch.equal(value, again[name])]
    if lost:
        raise UserError(f'The output must hold the weights of the input, and {lost[:3]} differ: '
                        'please report this.')
    lines = [f'verified: {len(native)} tensors read back equal']
    model = _model(native, windows, 'torchvision' in (layout, target))
    if model is None:
        return [*lines, 'not compared: there is no output norm of the last stage']
    for name, part in {layout: state, target: converted}.items():
        # Buffers as the strict loader wants them, which not every file holds.
        whole = from_native(to_native(part, name), name, model.windows)
        lines += _compare(name, whole, model, native, name == target)
    return lines


def _model(native, windows: Windows | None, uniform: bool) -> peer_models.Model | None:
    """The model to compare; None where its last features have no norm."""
    arch = arch_of(native)
    stages = len(arch['depths'])
    outs = tuple(i for i in range(stages) if f'norm{i}.weight' in native)
    if stages - 1 not in outs:
        return None
    return peer_models.Model(
        arch, native[PATCH].shape[1], tuple(native[PATCH].shape[2:]),
        peer_models.comparable(windows, stages, uniform), outs, len(native.get('head.weight', ())))


def _compare(name: str, state, model: peer_models.Model, native, needed: bool) -> list[str]:
    """A line on one library's model, or none for our own layout."""
    try:
        difference = peer_models.compare(name, state, model, native)
    except ImportError as error:
        if needed:
            raise UserError(f'--verify needs {name}, which cannot be imported here ({error}): pip '
                            f'install {peer_models.PIP[name]}, or leave --verify out.') from error
        return [f'not compared: {name} cannot be imported here']
    if difference is None:
        return [f'not compared: there is no package for the layout {name}'] * (name != 'native')
    if not difference <= peer_models.BOUND:
        raise UserError(f'The model of {name} must give the features of ours to '
                        f'{peer_models.BOUND:g}, and they differ by {difference:.2g}: please '
                        'report this; nothing was written.')
    return [f'verified: features of the {name} model at {model.side} x {model.side} differ by at '
            f'most {difference:.1e}']


def report(args, contents, layout: str, native, converted, windows: Windows | None,
           said: str) -> None:
    """Print the plan."""
    arch = arch_of(native)
    for note in contents.notes:
        print(note)
    print(f'{args.input}: {LAYOUTS[layout].title}; '
          f'arch {files.arch_name(arch) or arch}\n{args.output}: {LAYOUTS[args.to].title}\n')
    rows = changes(contents.state, native, layout, args.to)
    named = {name for _, _, targets in rows for name in targets}
    rows += [('added', (), (name,)) for name in converted if name not in named]
    print(table(rows))
    counts = Counter(word for word, _, _ in rows)
    print('\n' + ', '.join(f'{count} {word}' for word, count in counts.items()))
    if windows:
        print(f'windows: {files.show(windows)} ({said})')
    else:
        print(f'windows: unknown ({said}); --window-size names them' +
              f'; without, the strict loader of {args.to} misses its position tables'
              * (args.to == 'torchvision'))
    kept = args.output.endswith('.safetensors') or args.to != 'transformers'
    if windows and not kept:
        print(f'a torch file in the layout {args.to} keeps no windows: note them')
    before, after = parameters(contents.state, layout), parameters(converted, args.to)
    print(f'parameters: {before:,} -> {after:,}')


def main():
    args = parse_args()
    out = Path(args.output)
    if out.suffix not in ENDINGS:
        raise UserError(f'The output must end in one of {", ".join(ENDINGS)}, got {out.name!r}: '
                        'give such a name.')
    contents = files.read(args.input, args.ema)
    windows, said = files.settle_windows(args, contents)
    if windows and args.to != 'native':
        windows = resolved(windows)
    with files.sentences():
        layout = detect_layout(contents.state)
        native = to_native(contents.state, layout)
        check_target(args.to, native, windows)
        converted = from_native(native, args.to, windows)
    if args.to == 'native':
        converted |= files.record_of(windows)
    report(args, contents, layout, native, converted, windows, said)
    if args.dry_run:
        print('dry run: nothing written')
        return
    metadata = files.metadata_of(arch_of(native), windows, args.to)

    def write(part: Path) -> None:
        files.save(converted, part, metadata, WRAPPERS.get(args.to, ''))
        if args.verify:
            with files.sentences():
                back = read_checkpoint(part)
            print('\n'.join(verify(contents.state, layout, back, args.to, windows)))

    files.write_whole(out, write)
    print(f'written: {out} ({out.stat().st_size:,} bytes)')


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
