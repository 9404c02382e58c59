"""What usually goes wrong, looked for one by one, and how each is mended."""
