"""Data: readers, checks against a config, conversion from other formats, rendered sets."""
