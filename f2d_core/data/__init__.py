"""The training data: `prepare.prepare` makes a cache of a folder of photos, `triplets.prepare_triplets` one of editing
triplets; the trainer reads them as `cache.Cache` and `cache.Triplets`."""
