"""The service on the wire: gRPC handlers, statuses, health, start and drain."""
