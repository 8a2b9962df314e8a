"""HTTP in, HTTP out: a router parses, calls one service method and returns a schema or a page."""
