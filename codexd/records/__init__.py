"""The recorder, and the files opened by their one writer."""
