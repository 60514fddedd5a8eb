"""Files of 8-bit weights and activations, calibrated on the user's own pictures."""
from __future__ import annotations

from pathlib import Path

import numpy as np

OPSET = 20  # onnxruntime 1.32 writes files of 21 and later that it cannot read itself
KINDS = ('Conv', 'Gemm', 'MatMul')


def quantise(path: Path, images: list[np.ndarray]) -> int:
    """Write products by weights in the ONNX file at `path` anew in int8; how many there are.

    What finds objects behind a detector's neck stays in float32, as a box needs more digits.

    Args:
        images: pictures as the file takes them, by which the ranges of activations are found.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(images)

        def get_next(self):
            image = next(self.rows, None)
            return None if image is None else {'image': image}

    model = onnx.load(path)
    add_pre_process_metadata(model)  # constants are folded already; it would warn of it
    graph = model.graph
    weights = {entry.name for entry in graph.initializer}
    chosen = [node.name for node in graph.node if node.op_type in KINDS
              and not node.name.startswith('finder.') and weights & set(node.input[:2])]
    quantize_static(model, path, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
                    op_types_to_quantize=list(KINDS), nodes_to_quantize=chosen)
    return len(chosen)
