"""A web page that shows what models see: python tools/web_demo.py --model CONFIG CHECKPOINT.

Choose a model, drop a picture or a video, and move the sliders. The page is for this machine
alone unless --host says otherwise, and needs no network.
"""
from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import tempfile

from swinv2_mm.apis.inference.sources import PICTURES, VIDEOS
from swinv2_mm.utils import entry
from swinv2_mm.utils.errors import UserError

INSTALL = "pip install 'gradio>=6.31,<7'"
SCORE = 0.3
WINDOW = 32  # the largest on the slider


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', nargs=2, action='append', required=True,
                        metavar=('CONFIG', 'CHECKPOINT'), help='a model of the page; may be given '
                        'several times')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (127.0.0.1: '
                        'this machine alone)')
    parser.add_argument('--port', type=int, default=7860)
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: what there is)')
    parser.add_argument('--max-mb', type=int, default=50, metavar='MB', help='size of an upload '
                        'at most (50)')
    parser.add_argument('--max-frames', type=int, default=64, metavar='N', help='frames of a video '
                        'that models of pictures look at (64)')
    return parser.parse_args()


def import_gradio(folder: str):
    """gradio, told to keep its files in a folder and to call nobody. UserError without it."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED='False', GRADIO_TEMP_DIR=folder,
                      HF_HUB_DISABLE_TELEMETRY='1')
    if importlib.util.find_spec('gradio') is None:
        raise UserError(f'The page needs gradio, which is not installed here: run `{INSTALL}`.')
    import gradio
    return gradio


def take_files_only(gr, upload) -> None:
    """Let gradio's File take uploads and nothing else, in place.

    It would fetch an address that a browser sends in the place of a file.
    """
    keep = upload.async_move_resource_to_block_cache

    async def keep_file(place):
        if '://' in str(place):
            raise gr.Error('Addresses are not fetched: upload a file.')
        return await keep(place)

    upload.async_move_resource_to_block_cache = keep_file


def build(gr, shown: list, max_frames: int):
    """The page for models (`inference.web.Shown`), as gradio's Blocks."""
    from swinv2_mm.apis.inference.web import Refusal, Seen

    def look(number: int, path: str | None, score_thr: float, window: float):
        seen, said = Seen(), None
        try:
            if path is None:
                raise Refusal('Drop a picture or a video first.')
            seen = shown[number].look(path, score_thr, int(window), max_frames)
        except Refusal as error:
            said = str(error)
        return [gr.update(value=part, visible=part is not None) for part in (*seen, said)]

    def look_again(number: int, path: str | None, *settings: float):
        # Without a file there is nothing to change; an upload may just be on its way.
        return look(number, path, *settings) if path else gr.skip()

    def choose(number: int):
        model = shown[number]
        return (gr.update(visible=model.predictor.task == 'det'),
                gr.update(value=model.window, label=_window_label(model)))

    with gr.Blocks(title='swinv2_mm', analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown('# swinv2_mm\nChoose a model, drop a picture or a video, move the sliders.')
        with gr.Row():
            with gr.Column():
                model = gr.Dropdown([one.name for one in shown], value=shown[0].name, type='index',
                                    label='model', elem_id='model')
                upload = gr.File(label='picture or video', elem_id='upload',
                                 file_types=[*PICTURES, *VIDEOS])
                take_files_only(gr, upload)
                score = gr.Slider(0, 1, SCORE, step=0.05, label='score at least', elem_id='score',
                                  visible=shown[0].predictor.task == 'det')
                window = gr.Slider(2, max(WINDOW, *(one.window for one in shown)), shown[0].window,
                                   step=1, label=_window_label(shown[0]), elem_id='window')
                button = gr.Button('Look', variant='primary', elem_id='look')
            with gr.Column():
                outputs = Seen(
                    gr.Image(label='seen', elem_id='picture', interactive=False, format='png'),
                    gr.Video(label='seen', elem_id='video', visible=False, interactive=False),
                    gr.Label(label='likeliest classes', elem_id='top', visible=False),
                    gr.JSON(label='what was found', elem_id='record', visible=False))
                said = gr.Markdown(elem_id='said', visible=False)
        ask = dict(inputs=[model, upload, score, window], outputs=[*outputs, said],
                   api_visibility='private', concurrency_limit=1, concurrency_id='look',
                   trigger_mode='always_last')
        gr.on([upload.upload, upload.clear, button.click], look, **ask)
        gr.on([score.input, window.input], look_again, **ask)
        model.change(choose, model, [score, window], api_visibility='private').then(
            look_again, **ask)
    return page


def _window_label(model) -> str:
    sides = list(dict.fromkeys(sides[-1] for sides in model.built))
    return f'window (built with {", ".join(map(str, sides))})'


def serve(gr, page, args) -> None:
    """Show the page until Ctrl-C or SIGTERM."""
    page.queue(max_size=16).launch(
        server_name=args.host, server_port=args.port, share=False, show_error=True,
        max_file_size=args.max_mb << 20, allowed_paths=[], enable_monitoring=False,
        ssr_mode=False, footer_links=[], run_history=False,
        theme=gr.themes.Base(font=['sans-serif'], font_mono=['monospace']))


def main():
    args = parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uploads are removed then, too
    with tempfile.TemporaryDirectory(prefix='swinv2_mm-') as folder:
        gr = import_gradio(folder)
        from swinv2_mm.apis.inference.web import Shown
        tempfile.tempdir = folder
        shown = [Shown(config, checkpoint, args.device) for config, checkpoint in args.model]
        serve(gr, build(gr, shown, args.max_frames), args)


def cli() -> None:
    """The command line of this tool."""
    entry.run(main)
