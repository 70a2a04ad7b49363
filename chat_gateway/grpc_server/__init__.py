"""The gateway on the wire: gRPC handlers, statuses and health."""
