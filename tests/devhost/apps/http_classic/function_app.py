"""Classic HTTP functions, one per behaviour the host tests look at."""

import json
import logging
import os
import time

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("echo/{name?}")
def echo(req: func.HttpRequest) -> func.HttpResponse:
    body = {
        "method": req.method,
        "url": req.url,
        "headers": dict(req.headers),
        "params": dict(req.params),
        "route": dict(req.route_params),
        "body": req.get_body().decode(),
    }
    return func.HttpResponse(json.dumps(body), mimetype="application/json", status_code=201)


@app.route("plain")
def plain(req: func.HttpRequest) -> str:
    return "just text"


@app.route("json_text")
def json_text(req: func.HttpRequest) -> str:
    return '{"a": [1, 2]}'


@app.route("shaped_text")
def shaped_text(req: func.HttpRequest) -> str:
    return json.dumps({"status": 418, "headers": {"x-tea": "pot"}, "body": "short and stout"})


@app.route("nothing")
def nothing(req: func.HttpRequest):
    logging.info("a line of the app's own")


@app.generic_trigger(arg_name="req", type="httpTrigger", route="unbound", authLevel="ANONYMOUS")
def unbound(req):
    """No http output at all: nothing to return."""


@app.route("empty")
def empty(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse()


@app.route("cookies")
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    response = func.HttpResponse("ok")
    response.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly")
    response.headers.add("Set-Cookie", "b=2; Max-Age=60; SameSite=Lax")
    return response


@app.route("boom")
def boom(req: func.HttpRequest) -> func.HttpResponse:
    raise LookupError("no such thing")


@app.route("wrong_type")
def wrong_type(req: func.HttpRequest):
    return {"not": "allowed"}


@app.route("wrong_status")
def wrong_status(req: func.HttpRequest) -> str:
    return json.dumps({"status": "no number", "body": "x"})


@app.generic_trigger(arg_name="req", type="httpTrigger", route="named_output", authLevel="ANONYMOUS")
@app.generic_output_binding(arg_name="answer", type="http")
def named_output(req: func.HttpRequest, answer: func.Out[func.HttpResponse]) -> None:
    answer.set(func.HttpResponse("under its own name", status_code=202))


@app.generic_trigger(arg_name="req", type="httpTrigger", route="no_output", authLevel="ANONYMOUS")
@app.generic_output_binding(arg_name="answer", type="http")
def no_output(req: func.HttpRequest, answer: func.Out[func.HttpResponse]) -> None:
    """Sets nothing."""


@app.route("only_post", methods=["POST"])
async def only_post(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(str(len(req.get_body())))


@app.route("only_get", methods=["GET", "HEAD", "OPTIONS"])
async def only_get(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(f"{req.method} it is", headers={"x-method": req.method})


@app.route("items/{id:int}")
def item_number(req: func.HttpRequest) -> str:
    return f"number {req.route_params['id']}"


@app.route("items/latest")
def item_latest(req: func.HttpRequest) -> str:
    return "latest"


@app.route("items/{*rest}")
def item_rest(req: func.HttpRequest) -> str:
    return f"rest {req.route_params.get('rest')}"


@app.route("setting")
def setting(req: func.HttpRequest) -> str:
    return json.dumps({name: os.environ.get(name) for name in req.params["names"].split(",")})


@app.route("invocation")
def invocation(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(
        json.dumps(
            {
                "id": context.invocation_id,
                "name": context.function_name,
                "traceparent": context.trace_context.trace_parent,
            }
        )
    )


@app.route("guarded", auth_level=func.AuthLevel.FUNCTION)
def guarded(req: func.HttpRequest) -> str:
    return "let in"


@app.route("master_only", auth_level=func.AuthLevel.ADMIN)
def master_only(req: func.HttpRequest) -> str:
    return "let in"


@app.route("switched_off")
def switched_off(req: func.HttpRequest) -> str:
    return "should not answer"


@app.route("slow")
def slow(req: func.HttpRequest) -> str:
    logging.info("slow begins")
    time.sleep(float(req.params.get("seconds", "30")))
    return "done"


@app.timer_trigger(arg_name="tick", schedule="%NIGHTLY%")
def nightly(tick: func.TimerRequest) -> None:
    logging.info("nightly ran, past due: %s", tick.past_due)
