"""From cases of any size to samples of one shape."""
