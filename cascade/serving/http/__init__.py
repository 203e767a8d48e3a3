"""HTTP/1.1: connections, routes, replies, the OpenAPI document and the dashboard."""
