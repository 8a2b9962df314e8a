"""JSON documents of the operator API."""
