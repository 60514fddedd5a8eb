"""What tools and other code call: training, testing, inference, conversion of weights."""
