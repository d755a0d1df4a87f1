"""Imported first by the processes that must not speak TLS: asyncio then leaves the ssl module out.

asyncio treats `ssl` as optional.  Without it a worker is 4 MiB smaller, and cannot open a TLS connection even if
it wanted to.
"""

import sys

sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # None makes `import ssl` raise ImportError
