"""A hub whose methods are functions: clients call them, and are heard when they come and go."""

import json

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
HUB = "Calls"
heard: list[dict] = []


@app.route("negotiate", methods=["POST"])
@app.generic_input_binding("connection", type="signalRConnectionInfo", hub_name=HUB, user_id="{headers.x-user}")
def negotiate(req: func.HttpRequest, connection: str) -> func.HttpResponse:
    return func.HttpResponse(connection, mimetype="application/json")


@app.route("heard")
def told(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(heard), mimetype="application/json")


@app.generic_trigger(
    arg_name="invocation", type="signalRTrigger", hubName=HUB, category="connections", event="connected"
)
def came(invocation: str) -> None:
    context = json.loads(invocation)
    heard.append(context)
    if context["UserId"] == "mallory":
        raise PermissionError("not you")


@app.generic_trigger(
    arg_name="invocation", type="signalRTrigger", hubName=HUB, category="connections", event="disconnected"
)
def went(invocation: str) -> None:
    heard.append(json.loads(invocation))


@app.generic_trigger(
    arg_name="invocation",
    type="signalRTrigger",
    hubName=HUB,
    category="messages",
    event="Broadcast",
    parameterNames=["text"],
)
@app.generic_output_binding(arg_name="out", type="signalR", hub_name=HUB)
def broadcast(invocation: str, out: func.Out[str]) -> None:
    context = json.loads(invocation)
    out.set(json.dumps({"target": "said", "arguments": [context["UserId"], *context["Arguments"]]}))


@app.generic_trigger(arg_name="invocation", type="signalRTrigger", hubName=HUB, category="messages", event="echo")
def echo(invocation: str):
    return {"echo": json.loads(invocation)["Arguments"]}


@app.generic_trigger(arg_name="invocation", type="signalRTrigger", hubName=HUB, category="messages", event="text")
def text(invocation: str) -> str:
    return '{"is": "text"}'


@app.generic_trigger(arg_name="invocation", type="signalRTrigger", hubName=HUB, category="messages", event="fails")
def fails(invocation: str) -> str:
    raise ValueError("no such room")
