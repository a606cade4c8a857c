// What Parley adds to the AI SDK's messages, and the two calls beside `useChat`.

import { DefaultChatTransport, type UIMessage } from "ai";

const API = "/api/v1/ai-sdk/chat";

export type Turn = { session_id: string; turn_id: string; status?: string; seq?: number | null };
export type Approval = {
  tool_call_id: string;
  status: string;
  decided_by: string | null;
  comment: string | null;
  /** Of a subagent's call: which agent asks, and through which others. */
  agent_id?: string;
  asked_through?: string[];
};

export type Message = UIMessage<unknown, { turn: Turn; approval: Approval; progress: { text: string } }>;

/** A tool of the page: the agent asks, and whoever sits before it answers, after a reload if need be. */
const tools = {
  ask_user: {
    description: "Ask the user a question, and get the answer.",
    parameters: { type: "object", properties: { question: { type: "string" } }, required: ["question"] },
  },
};

/** The one line that an app with `useChat` changes. `version`: of `ai`. `tools`: of the page, if it has any. */
export const transport = new DefaultChatTransport<Message>({ api: `${API}?version=7`, body: { tools } });

/** What is stored of a chat; of the turn that runs only its question, since `resume` brings the rest. */
export async function stored(id: string): Promise<Message[]> {
  const response = await fetch(`${API}/${encodeURIComponent(id)}/messages`);
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()).messages;
}

export function turnOf(message: Message | undefined): Turn | undefined {
  return message?.parts.find((part) => part.type === "data-turn")?.data;
}

/** Stop the turn for good: aborting the request, as `stop` of `useChat` does, only stops listening to it. */
export async function cancel({ session_id, turn_id }: Turn): Promise<void> {
  const headers = { "x-requested-with": "use-chat" };
  await fetch(`/api/v1/sessions/${session_id}/turns/${turn_id}/cancel`, { method: "POST", headers });
}

const DECIDED = ["tool_call.approved", "tool_call.rejected", "stream.ended"];

/** Call `decided` once somebody decides an approval of the session or of a subagent; returns what ends the waiting. */
export function onDecision({ session_id, seq }: Turn, decided: () => void): () => void {
  const events = new EventSource(`/api/v1/sessions/${session_id}/events?after=${seq ?? 0}`);
  const ended = () => {
    events.close();
    decided();
  };
  for (const kind of DECIDED) events.addEventListener(kind, ended);
  events.addEventListener("stream.chunk", ({ data }) => {
    const { frame } = JSON.parse(data).data;
    if (frame.type === "subagent" && DECIDED.includes(frame.told.type)) ended();
  });
  return () => events.close();
}
