"""The ASGI application: ASP.NET routes, identity headers, CORS, both kinds of HTTP functions, `/admin`.

Not here: HTML pages (`../pages/`), calling a function (`../app/`).
"""
