"""Human3.6M and custom data in the published format: reading, making, converting."""
