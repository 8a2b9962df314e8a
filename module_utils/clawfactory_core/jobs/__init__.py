"""Jobs: what the controller of a bot asks the machine to do, and what became of it."""
