"""Self-augmented editability data (DreamIdentity 3.3): a base model draws people it knows, then edits them."""
