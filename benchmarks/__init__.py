"""Scripts that produce the numbers this project states about itself.

Each is run as a module from the root of the repository: `python -m benchmarks.NAME --help`.
"""

import os

# Read once, when torch is first imported; idle OpenMP workers would otherwise spin on a core that
# another thread or process needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
