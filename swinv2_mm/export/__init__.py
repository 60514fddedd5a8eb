"""What tools/export_onnx.py is made of.

fixed: a backbone for one size of picture; detectors, queries, ops: what follows the neck of a
detector; graphs: a model from pixels to answers, and its file; checks, detections: whether the file
answers as PyTorch does, and how fast; facts, runner: what lies beside the file and runs it without
torch.
"""
