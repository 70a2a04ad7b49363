"""Keep the table of settings in a page fresh: `python -m guard_service.tuning.page PAGE`."""

import sys
from pathlib import Path

from guard_service.configuration.reference import references, with_fresh_table
from guard_service.tuning.settings import TuneSettings

if __name__ == "__main__":
    page = Path(sys.argv[1])
    fresh = with_fresh_table(page.read_text(encoding="utf-8"), references(TuneSettings))
    page.write_text(fresh, encoding="utf-8")
