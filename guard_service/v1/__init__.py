"""Generated from `proto/guard_service/v1/guard.proto` by `proto/generate.py`."""
