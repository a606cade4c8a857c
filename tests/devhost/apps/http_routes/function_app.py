"""One function for each route template; its answer names the template that won. Their order is that of their names."""

import json

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

TEMPLATES = r"""
p/{a}
p/x
p/{a}/{b}
p/x/{b}
p/{a}/y
p/{a:int}
p/{*rest}
p/{a}/{*rest}
p/x/{*rest}
p/{a:int}/{b}
p/{a}/{b:int}
q/{a?}
q/{a}/z
q/{a:alpha}
r/{a}-{b}
r/{a}.{b}
r/{a}
r/{a}.txt
s/{a=5}
s/{a:int=7}/t
t/{a:guid}
t/{a:length(3)}
t/{a:min(10)}
t/{a:regex(^\d{{3}}$)}
t/{a:datetime}
t/{a:bool}
t/{a:range(1,9)}
u/{a:int?}
u/{A}/c
v/{a}/
/w/{a}
x/{*a:int}
y/{**rest}
z/{a}:{b}
{first}
{first}/end
{*everything}
""".strip().splitlines()


def _add(number: int, template: str) -> None:
    def answer(req: func.HttpRequest) -> str:
        return json.dumps({"route": template, "params": dict(req.route_params)})

    answer.__name__ = f"f{number:02d}"
    app.function_name(answer.__name__)(app.route(template)(answer))


for number, template in enumerate(TEMPLATES):
    _add(number, template)
