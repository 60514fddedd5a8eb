"""Pictures of data, logs, attention, positions and predictions."""
