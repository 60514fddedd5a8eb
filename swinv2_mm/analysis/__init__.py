"""What a model costs and does, and what an environment holds."""
