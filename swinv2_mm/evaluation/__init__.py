"""What the libraries lack to write and draw results."""
