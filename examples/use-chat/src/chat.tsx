import { useChat } from "@ai-sdk/react";
import {
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} from "ai";
import { type FormEvent, useEffect, useState } from "react";
import { cancel, type Message, onDecision, stored, transport, turnOf } from "./parley";

const RETRY_MS = 1_000;

export function Chat({ id, initial }: { id: string; initial: Message[] }) {
  const chat = useChat<Message>({
    id,
    messages: initial,
    transport,
    resume: true,
    sendAutomaticallyWhen: (options) =>
      lastAssistantMessageIsCompleteWithApprovalResponses(options) ||
      lastAssistantMessageIsCompleteWithToolCalls(options),
  });
  const { messages, status, error, sendMessage, stop, regenerate, resumeStream, setMessages } = chat;
  const [text, setText] = useState("");
  const last = messages.at(-1);
  const busy = status === "submitted" || status === "streaming";
  const waits = !busy && last?.parts.some((part) => part.type === "dynamic-tool" && part.state === "approval-requested");
  const turn = last?.role === "assistant" ? turnOf(last) : undefined;

  // A turn that has ended meanwhile has no stream: what it answered is in the history.
  async function goOn() {
    await resumeStream();
    try {
      const found = await stored(id);
      if (found.at(-1)?.role === "assistant") setMessages(found);
    } catch {
      setTimeout(() => void goOn(), RETRY_MS);
    }
  }

  // Somebody else may decide: the stream has ended, so the session's events tell when to resume.
  useEffect(() => {
    if (!waits || turn === undefined) return undefined;
    return onDecision(turn, () => void goOn());
  }, [waits, turn?.turn_id, turn?.seq]);

  // The server was away: the turn goes on there, so look again.
  const isLost = error instanceof TypeError || ((error as { statusCode?: number })?.statusCode ?? 0) >= 500;
  useEffect(() => {
    if (!isLost) return undefined;
    const timer = setTimeout(() => void goOn(), RETRY_MS);
    return () => clearTimeout(timer);
  }, [error]);

  function send(event: FormEvent) {
    event.preventDefault();
    void sendMessage({ text });
    setText("");
  }

  async function end() {
    await stop();
    if (turn !== undefined) await cancel(turn);
  }

  return (
    <main>
      <ol aria-label="Messages">
        {messages.map((message) => (
          <li key={message.id} aria-label={message.role}>
            {message.parts.map((part, index) => (
              <Part key={index} part={part} answer={chat.addToolApprovalResponse} output={chat.addToolOutput} />
            ))}
          </li>
        ))}
      </ol>
      <p role="status">{isLost ? "reconnecting" : status}</p>
      {error && !isLost && <p role="alert">{explained(error)}</p>}
      <form onSubmit={send}>
        <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
        <button type="submit" disabled={busy || text === ""}>
          Send
        </button>
        <button type="button" disabled={!busy} onClick={() => void end()}>
          Stop
        </button>
        <button type="button" disabled={busy || last === undefined} onClick={() => void regenerate()}>
          Again
        </button>
      </form>
    </main>
  );
}

type Answer = ReturnType<typeof useChat<Message>>["addToolApprovalResponse"];
type Output = ReturnType<typeof useChat<Message>>["addToolOutput"];

function Part({ part, answer, output }: { part: Message["parts"][number]; answer: Answer; output: Output }) {
  switch (part.type) {
    case "text":
      return <p className="text">{part.text}</p>;
    case "reasoning":
      return (
        <details>
          <summary>Reasoning</summary>
          {part.text}
        </details>
      );
    case "data-approval":
      return (
        <>
          {part.data.asked_through !== undefined && (
            <p>
              {part.data.agent_id} asks, through {part.data.asked_through.join(", ")}
            </p>
          )}
          {part.data.decided_by !== null && (
            <p>
              {part.data.status} by {part.data.decided_by} {part.data.comment}
            </p>
          )}
        </>
      );
    case "dynamic-tool":
      return (
        <section aria-label={`Tool call ${part.toolName}`}>
          <b>{part.toolName}</b> <span>{part.state}</span>
          <pre>{JSON.stringify(part.input, null, 2)}</pre>
          {part.state === "approval-requested" && (
            <>
              <button type="button" onClick={() => void answer({ id: part.approval.id, approved: true })}>
                Approve
              </button>
              <button type="button" onClick={() => void answer({ id: part.approval.id, approved: false })}>
                Deny
              </button>
            </>
          )}
          {part.state === "input-available" && part.providerExecuted === false && part.toolName === "ask_user" && (
            <form
              onSubmit={(event) => {
                event.preventDefault();
                const said = String(new FormData(event.currentTarget).get("answer"));
                void output({ tool: part.toolName as never, toolCallId: part.toolCallId, output: said as never });
              }}
            >
              <input name="answer" aria-label={(part.input as { question: string }).question} />
              <button type="submit">Answer</button>
            </form>
          )}
          {part.state === "output-available" && <pre>{JSON.stringify(part.output, null, 2)}</pre>}
          {part.state === "output-error" && <p>{part.errorText}</p>}
        </section>
      );
    default:
      return null;
  }
}

/** Refusals are problem documents (RFC 9457). */
function explained(error: Error): string {
  try {
    return JSON.parse(error.message).detail ?? error.message;
  } catch {
    return error.message;
  }
}
