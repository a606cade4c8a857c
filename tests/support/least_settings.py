"""What a process of the app starts with, and no more: nothing that it names is there."""

from __future__ import annotations

LEAST_SETTINGS = {
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    "OPENAI_MODEL": "m",
    "POSTGRES_URL": "postgresql://host/db",
    "REDIS_URL": "redis://host/0",
    "PUBLIC_BASE_URL": "http://localhost:7071",
    "APPROVAL_LINK_SECRET": "s" * 32,
    "AUTH_MODE": "dev",
    "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
}
