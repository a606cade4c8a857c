"""Streaming HTTP functions (starlette requests and responses)."""

import asyncio

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response, StreamingResponse
from fastapi import HTTPException

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
gate = asyncio.Event()
cancelled: list[str] = []


@app.route("ping", methods=["GET"])
async def ping(req: Request) -> Response:
    return Response(b"pong")


@app.route("in_thread")
def in_thread(req: Request) -> JSONResponse:
    return JSONResponse({"path": req.url.path})


@app.route("echo/{name}")
async def echo(req: Request) -> JSONResponse:
    return JSONResponse(
        {
            "route": req.path_params,
            "query": dict(req.query_params),
            "headers": dict(req.headers),
            "body": (await req.body()).decode(),
        },
        status_code=201,
    )


@app.route("count_body", methods=["POST"])
async def count_body(req: Request) -> JSONResponse:
    sizes = [len(chunk) async for chunk in req.stream() if chunk]
    return JSONResponse({"chunks": len(sizes), "total": sum(sizes)})


@app.route("value/{kind}")
async def value(req: Request):
    values = {"dict": {"a": 1}, "str": "text", "list": [1, 2], "int": 7, "bool": True, "none": None}
    return values[req.path_params["kind"]]


@app.route("pieces")
async def pieces(req: Request) -> StreamingResponse:
    gate.clear()

    async def produce():
        yield "first\n"
        await gate.wait()
        yield "second\n"

    return StreamingResponse(produce(), media_type="text/plain")


@app.route("open_gate", methods=["POST"])
async def open_gate(req: Request) -> Response:
    gate.set()
    return Response(status_code=204)


@app.route("endless")
async def endless(req: Request) -> StreamingResponse:
    async def produce():
        try:
            while True:
                yield b"x" * 1024
                await asyncio.sleep(0.02)
        finally:
            cancelled.append("endless")

    return StreamingResponse(produce())


@app.route("silent")
async def silent(req: Request) -> StreamingResponse:
    async def produce():
        try:
            yield b"only this"
            await asyncio.Event().wait()
        finally:
            cancelled.append("silent")

    return StreamingResponse(produce())


@app.route("cancelled")
async def was_cancelled(req: Request) -> JSONResponse:
    return JSONResponse(cancelled)


@app.route("cookies")
async def cookies(req: Request) -> Response:
    response = Response(b"ok")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


@app.route("boom")
async def boom(req: Request) -> Response:
    raise LookupError("no such thing")


@app.route("breaks")
async def breaks(req: Request) -> StreamingResponse:
    async def produce():
        yield b"so far so good"
        raise LookupError("and no further")

    return StreamingResponse(produce())


@app.route("refuse")
async def refuse(req: Request) -> Response:
    raise HTTPException(status_code=403, detail="not you", headers={"x-why": "because"})


@app.route("hang")
async def hang(req: Request) -> Response:
    await asyncio.sleep(3600)
    return Response()


@app.route("not_ascii")
async def not_ascii(req: Request) -> Response:
    return Response(b"x", headers={"x-u": "\u00e9"})
