"""Azure services: identity tokens, blobs, the tables of the audit trail, SignalR.

Not here: Azure OpenAI (`../models/`), Application Insights (`../telemetry/`), Durable Functions (`activities/`).
"""
