"""Only a model in this process needs torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("module", ["openai", "protocol"])
def test_a_generator_elsewhere_does_not_load_torch(module: str):
    program = (
        f"import sys, chat_gateway.generators.{module}; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )

    finished = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT)

    assert finished.returncode == 0


def test_idle_workers_sleep_before_torch_can_wake_them():
    program = (
        "import os; os.environ.pop('OMP_WAIT_POLICY', None); "
        "import chat_gateway.generators.transformers, sys; "
        "sys.exit(os.environ.get('OMP_WAIT_POLICY') != 'passive')"
    )

    finished = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT)

    assert finished.returncode == 0
