"""One thin click command a module."""

import gc

# To load a command makes tens of thousands of objects and no garbage: to look for that again and
# again meanwhile, as Python does after every 700, takes one part in twenty of `codexd status`.
gc.set_threshold(20_000)
