"""Zhang, Su & Wang 2020."""
