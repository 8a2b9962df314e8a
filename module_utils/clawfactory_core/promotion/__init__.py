"""Promotion: the bot proposes, a human decides, Git is the record."""
