"""Training data made from motion capture: bodies, virtual cameras, and the errors of a detector."""
