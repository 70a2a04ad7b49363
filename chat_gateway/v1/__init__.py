"""Generated from `proto/chat_gateway/v1/chat.proto` by `proto/generate.py`."""
