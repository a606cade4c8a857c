"""The ASGI application: routes as ASP.NET reads them, identity headers, CORS, functions of both kinds, `/admin`.

Not here: pages for a person (`pages/`), calling a function (`app/`).
"""
