"""How an HTTP function of ours is declared: parse, authenticate, call, answer; and the API's description made of that.

Not here: any route.
"""
