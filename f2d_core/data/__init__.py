"""The training data: `prepare.prepare` makes a cache of a folder of photos, the trainer reads it as a `cache.Cache`."""
