"""Addresses as people paste them, and what of them is the endpoint."""

from __future__ import annotations

import pytest

from shared.adapters.models.endpoint import azure_root, base_url

_RESOURCE = "https://name.openai.azure.com"
_PROJECT = "https://name.services.ai.azure.com/api/projects/my-project"


@pytest.mark.parametrize("root", [_RESOURCE, _PROJECT, "https://gateway.example/models/team-a", f"{_PROJECT}/x"])
@pytest.mark.parametrize(
    "pasted",
    [
        *("", "/", "//", "/openai", "/openai/", "/openai/v1", "/openai/v1/", "/openai/v1/responses"),
        *("/openai/v1/chat/completions", "/openai/responses?api-version=2025-04-01-preview", "/models", "/models/"),
        *("/models/chat/completions?api-version=2024-05-01-preview", "?api-version=x"),
        "/openai/deployments/my-model/chat/completions?api-version=2024-10-21",
    ],
)
def test_what_is_pasted_behind_an_azure_endpoint_is_not_of_it(root: str, pasted: str) -> None:
    assert azure_root(f"{root}{pasted}") == root


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://x.services.ai.azure.com/api/projects/openai",
        "https://x.services.ai.azure.com/api/projects/models",
        "https://x.services.ai.azure.com/api/projects/openai-v1",
    ],
)
def test_a_project_may_be_called_anything(endpoint: str) -> None:
    assert azure_root(endpoint) == endpoint
    assert azure_root(f"{endpoint}/openai/v1/") == endpoint


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ("http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("http://localhost:11434/v1/", "http://localhost:11434/v1"),
        ("http://localhost:8000/v1/chat/completions", "http://localhost:8000/v1"),
        ("https://x.example/api/v1/responses/", "https://x.example/api/v1"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        ),
    ],
)
def test_what_is_pasted_behind_a_compatible_server_is_not_of_it(pasted: str, url: str) -> None:
    assert base_url(pasted) == url
