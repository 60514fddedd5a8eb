"""The name under which configs and scripts of users import `swinv2_mm.utils.compat`."""
import swinv2_mm.utils.compat  # noqa: F401
