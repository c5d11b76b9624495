"""A process whose clock is wrong: with this folder on PYTHONPATH, its wall clock is CLOCK_SHIFT_S seconds ahead.

It stands for a host with a wrong clock. Shifted are the Clock that services pass around, time.time and time.time_ns;
not the monotonic clock, and not what extension modules read for themselves (the time inside an id).
"""

import os
import time
from datetime import datetime, timedelta

from common.clock import SystemClock

_AHEAD_S = float(os.environ.get("CLOCK_SHIFT_S", "0"))
_time, _time_ns, _now = time.time, time.time_ns, SystemClock.now


def _shifted(self: SystemClock) -> datetime:
    return _now(self) + timedelta(seconds=_AHEAD_S)


time.time = lambda: _time() + _AHEAD_S
time.time_ns = lambda: _time_ns() + int(_AHEAD_S * 1e9)
SystemClock.now = _shifted  # type: ignore[method-assign]
