"""Rendered data for the demos: scenes, moving shapes, single shapes."""
