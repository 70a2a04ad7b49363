"""How long does the embedded guard take from its start until it is ready?

What a start probe must allow for is twice the slowest of these; see deploy/kubernetes.
"""

import time
from typing import Annotated

import typer

from benchmarks import report
from benchmarks.guard_process import GuardProcess


def main(
    *,
    starts: Annotated[int, typer.Option(help="How often to start it.")] = 5,
    quick: report.Quick = False,
    output: report.Output = None,
) -> None:
    """Start it again and again; the first start may find the weights' file not cached."""
    rows = []
    for number in range(1, 2 if quick else starts + 1):
        began = time.monotonic()
        with GuardProcess():
            rows.append({"start": number, "seconds": round(time.monotonic() - began, 2)})
    report.show("From start to ready, embedded guard", rows)
    report.write("time_to_ready", {"rows": rows}, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
