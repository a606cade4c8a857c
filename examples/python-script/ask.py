"""Ask an agent, watch its answer come, and decide what it wants to do: `python ask.py "What is 17 * 23?"`."""

from __future__ import annotations

import json
import os
import sys

from parley_client import ApiError, Approval, Client, ConnectionLost, Gap


def main(question: str) -> int:
    """0 when the turn has completed."""
    url, token = os.environ.get("PARLEY_URL", "http://localhost:7071"), os.environ.get("PARLEY_TOKEN")
    with Client(url, token=token) as parley:
        session = parley.create_session(name=question[:60])
        turn_id = parley.post_message(session.id, question).turn.id
        with parley.stream_events(session.id) as events:
            for event in events:
                if isinstance(event, Gap):
                    print("\n[some of it was lost; the whole answer comes at the end]")
                elif event.type == "stream.chunk":
                    show(event.data["frame"])
                elif event.type == "tool_call.pending" and event.approval is not None:
                    decide(parley, event.approval)
                elif event.type == "stream.ended" and event.turn_id == turn_id:
                    break
        turn = parley.get_turn(session.id, turn_id)
        answer = parley.list_messages(session.id, role="assistant", order="desc", limit=1).items[0]
        print(f"\n\n{answer.content}\n\n{turn.status}, {turn.usage.output_tokens} tokens", file=sys.stderr)
        return 0 if turn.status == "completed" else 1


def show(frame: dict[str, object]) -> None:
    """The text as it comes. A new attempt begins its answer again."""
    if frame["type"] == "message_start" and frame["attempt"] != 1:
        print("\n[again]")
    elif frame["type"] == "content_delta":
        print(frame["text"], end="", flush=True)


def decide(parley: Client, approval: Approval) -> None:
    """Ask on the terminal; what is approved is exactly what was shown."""
    print(f"\n{approval.tool} {json.dumps(approval.arguments, ensure_ascii=False)}")
    answer = input("Run it? [y/N] ").strip().lower()
    decided = parley.decide_approval(approval.id, "approve" if answer in {"y", "yes"} else "reject")
    print(f"[{decided.status}]")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python ask.py "QUESTION"')
    try:
        sys.exit(main(sys.argv[1]))
    except (ApiError, ConnectionLost) as error:
        sys.exit(str(error))
