"""Durable generators: they decide, they never act. See README.md."""
