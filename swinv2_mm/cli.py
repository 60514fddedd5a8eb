"""The one door to every tool: `swinv2-mm NAME ...`, and each file of tools/ by its name here."""
import importlib
import os
import sys

# Console name -> the module below swinv2_mm whose `cli()` reads sys.argv and does the work.
TOOLS = {
    'train': 'apis.train',
    'test': 'apis.test',
    'infer': 'apis.infer',
    'web': 'apis.web_demo',
    'demo': 'demo',
    'export': 'export.export_onnx',
    'convert': 'apis.conversion.convert',
    'publish': 'apis.conversion.publish',
    'check': 'apis.check',
    'labels': 'datasets.converters.labels',
    'new': 'apis.new',
    'voc-to-coco': 'datasets.converters.voc_to_coco',
    'make-shapes': 'datasets.synthetic.make_shapes',
    'make-motions': 'datasets.synthetic.make_motions',
    'make-crops': 'datasets.synthetic.make_crops',
    'flops': 'analysis.flops',
    'plan': 'analysis.memory',
    'throughput': 'analysis.throughput',
    'doctor': 'analysis.doctor',
    'list': 'analysis.list',
    'activations': 'analysis.activations',
    'attention': 'visualization.attention',
    'position-bias': 'visualization.position_bias',
    'plot-log': 'visualization.plot_log',
    'browse': 'visualization.browse_dataset',
    'filmstrips': 'visualization.filmstrips',
    'reconstructions': 'visualization.reconstructions',
}


def run(name: str) -> None:
    """Run the tool of this name on sys.argv[1:]; KeyError for a name that TOOLS has not."""
    # Idle OpenMP threads shall spin for microseconds before they sleep, not for milliseconds: on
    # two cores shared with other busy processes, a step of 8 demo images took 6 to 11 s with
    # OpenMP's ACTIVE waiting and 1.8 s without. On idle cores one of 4 takes 0.50 s so, 0.67 s
    # without spinning. It is read when torch starts, so it is set before anything imports torch.
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', '3000')
    importlib.import_module(f'swinv2_mm.{TOOLS[name]}').cli()


def main() -> None:
    """`swinv2-mm NAME ...`: run a tool, or say which there are."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name not in TOOLS:
        asked = name in ('-h', '--help')
        print(f'usage: swinv2-mm NAME ..., NAME one of {", ".join(sorted(TOOLS))}; '
              'swinv2-mm NAME --help says more' + ('' if asked else f'; got {name!r}'),
              file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    sys.argv[:2] = [f'swinv2-mm {name}']
    run(name)
