"""The name under which scripts of users import `swinv2_mm.datasets.videos`."""
from swinv2_mm.datasets.videos import EvenCrops, ReadVideo  # noqa: F401
