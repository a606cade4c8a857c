"""What was said: listing it, finding it again, marking places in it."""
