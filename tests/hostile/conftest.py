from support.checks import invariants_hold

__all__ = ["invariants_hold"]
