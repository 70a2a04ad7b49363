"""Engines: the only part of the package that imports torch."""

import os

# Read once, when torch loads OpenMP. Spinning workers fight the event loop for the cores: a
# forward pass was seen to take 16 times longer beside one busy core until this was set.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
