"""A chat room in serverless SignalR: every message goes through a function, clients only listen."""

import json

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
HUB = "Chat"


@app.route("negotiate", methods=["POST"])
@app.generic_input_binding("connection", type="signalRConnectionInfo", hub_name=HUB, user_id="{headers.x-chat-user}")
def negotiate(req: func.HttpRequest, connection: str) -> func.HttpResponse:
    return func.HttpResponse(connection, mimetype="application/json")


@app.route("rooms/{room}/negotiate", methods=["POST"])
@app.generic_input_binding("connection", type="signalRConnectionInfo", hub_name=HUB, user_id="{query.user}@{room}")
def negotiate_for_room(req: func.HttpRequest, connection: str) -> func.HttpResponse:
    return func.HttpResponse(connection, mimetype="application/json")


@app.route("messages", methods=["POST"])
@app.generic_output_binding("out", type="signalR", hub_name=HUB)
def say(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    """Body: {"text", "user"? , "group"?, "connection"?}; to everybody without an address."""
    body = req.get_json()
    message = {"target": "said", "arguments": [body["text"]]}
    for key, name in (("user", "userId"), ("group", "groupName"), ("connection", "connectionId")):
        if key in body:
            message[name] = body[key]
    out.set(json.dumps(message))
    return func.HttpResponse(status_code=202)


@app.route("groups/{group}/{kind:alpha}/{member}", methods=["PUT", "DELETE"])
@app.generic_output_binding("out", type="signalR", hub_name=HUB)
def membership(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    """Join or leave: kind is `users` or `connections`. The others in the group are told, in the same output."""
    group, member = req.route_params["group"], req.route_params["member"]
    is_join = req.method == "PUT"
    change = {
        "action": "add" if is_join else "remove",
        "groupName": group,
        "userId" if req.route_params["kind"] == "users" else "connectionId": member,
    }
    notice = {"target": "said", "arguments": [f"{member} {'joined' if is_join else 'left'}"], "groupName": group}
    out.set(json.dumps([change, notice]))
    return func.HttpResponse(status_code=204)


@app.route("raw", methods=["POST"])
@app.generic_output_binding("out", type="signalR", hub_name=HUB)
def raw(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    """Hands the body to the binding as it is, to see what the binding says about it."""
    out.set(req.get_body().decode())
    return func.HttpResponse("user code ran")
