"""The pure hub: messages in, messages out."""
