"""Parts → files → batches, each exactly once. To this room a part is bytes."""
