"""The page at `/`, which shows that the host is up."""

from __future__ import annotations

LANDING_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" href="data:,">
<title>Functions app on devhost</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 4rem auto; max-width: 40rem; padding: 0 1rem }
</style>
<h1>Your function app is up and running</h1>
<p>It is served by devhost, a local host for Azure Functions. See its <a href="/admin/pages">pages</a>,
<a href="/admin/functions">functions</a> and <a href="/admin/host/status">status</a>.</p>
</html>
"""
