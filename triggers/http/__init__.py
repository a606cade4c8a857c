"""How HTTP functions are declared (parse, authenticate, call, answer), and the OpenAPI document built from that.

Not here: any route.
"""
