"""What tools/export_onnx.py is made of.

fixed: a backbone for one size of picture; graphs: a model from pixels to answers, and its file;
checks: whether the file answers as PyTorch does, and how fast.
"""
