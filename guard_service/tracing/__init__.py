"""Spans of requests, for an OpenTelemetry collector; off unless the settings name one.

OpenTelemetry is imported here and in `chat_gateway.tracing`, nowhere else, and only when tracing
is switched on. No span ever holds a user's text.
"""
