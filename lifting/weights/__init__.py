"""Files of weights: ours, the published ones, and those that come with the package."""
