"""The gateway over HTTP: OpenAI's endpoints, health, and the chat page."""
