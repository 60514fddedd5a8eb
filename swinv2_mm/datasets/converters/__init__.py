"""From the formats that people have to those that the configs read."""
