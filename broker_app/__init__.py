"""The broker of one bot: a policy proxy for the engine's API, and the only holder of its socket."""
