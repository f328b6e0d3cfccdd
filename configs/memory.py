"""How much memory this process took at most."""

import re
import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int:
    """Largest resident memory so far, of this process or of a worker of its own that has ended.

    On Linux of what this program took itself: what getrusage says of a process includes the memory of whoever started
    it, up to the moment that the program is loaded.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if _STATUS.is_file() and (told := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text("ascii", "replace"))):
        own = int(told[1])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024
