"""Clients of the targets: HTTP, gRPC, a Ray handle, the engine in this process."""
