"""``clawfactory init``: asks what a bot needs, and writes inventory and vault."""
