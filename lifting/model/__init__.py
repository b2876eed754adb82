"""The networks: grid transforms, grid convolutions, and what sees time around them."""
