"""What the controller does. Services know neither HTTP nor HTML."""
