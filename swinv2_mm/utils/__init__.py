"""What every room may use: errors, faults of files, differences between packages."""
