"""Rate limits."""


class RateLimit:
    """Filled in next."""
