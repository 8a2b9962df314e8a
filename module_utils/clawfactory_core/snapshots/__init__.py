"""Encrypted snapshots of a bot's state; docs/snapshot-format.md says what they consist of."""
