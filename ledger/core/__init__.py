"""The pure core: bytes and values in, bytes and values out. No clock, randomness, environment or await."""
