"""What sessions can do beside talking: tags, templates, statistics."""
