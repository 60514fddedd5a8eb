"""Checkpoints of every public layout to any other, and publishing our own."""
