"""Plain ASGI layers around the application: what the proxy says, what the browser is told, what is logged."""
