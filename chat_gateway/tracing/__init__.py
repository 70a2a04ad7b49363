"""The gateway's spans: of its callers' requests, of its chats, and of whom it asks."""
