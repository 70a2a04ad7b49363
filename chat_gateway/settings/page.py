"""Keep the table of settings in a page fresh: `python -m chat_gateway.settings.page PAGE`."""

import sys
from pathlib import Path

from chat_gateway.settings import GatewaySettings
from chat_gateway.settings.ext_proc import own_references
from guard_service.configuration.reference import references, with_fresh_table

if __name__ == "__main__":
    page = Path(sys.argv[1])
    settings = own_references() if page.stem == "ext-proc" else references(GatewaySettings)
    fresh = with_fresh_table(page.read_text(encoding="utf-8"), settings)
    page.write_text(fresh, encoding="utf-8")
