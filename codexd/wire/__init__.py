"""Frames and lines, as they go over a socket or a pipe."""
