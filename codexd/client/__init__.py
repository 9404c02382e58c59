"""Whoever looks at a daemon from outside, or drives it."""
