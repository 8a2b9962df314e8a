"""What a bot proposes, what of it may become approved, and how it does; docs/promotion.md says it in words."""
