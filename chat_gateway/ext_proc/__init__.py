"""The gateway as an external processor of Envoy: chats that pass through, judged."""
