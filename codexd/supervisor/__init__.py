"""The daemon: prepare, run circus, finish."""
