// An application on @ag-ui/client: one agent, told by lines of JSON on stdin what to do, telling what it has on stdout.
//   {"say": text, "id": id?}  a message of the user, and a run
//   {"resume": [...]}         a run that answers interrupts
//   {"again": true}           a run without anything new
//   {"result": {...}}         a run with a tool message: `toolCallId`, `content`
//   {"set": [...]}            no run: these messages instead
// {"tools": [...]} beside any of them: tools of the application.
// {"stop_after": n} beside any of them: the run is aborted after so many events.
"use strict";

const readline = require("node:readline");
const { HttpAgent } = require("@ag-ui/client");

const [url, threadId, user, forwarded] = process.argv.slice(2);
const agent = new HttpAgent({ url, threadId, headers: { "x-dev-user": user } });

async function run({ set, say, id, resume, result, tools, stop_after: stopAfter }) {
  const events = [];
  if (set !== undefined) {
    agent.setMessages(set);
    return { events, error: null, messages: agent.messages, interrupts: agent.pendingInterrupts };
  }
  if (say !== undefined) {
    agent.addMessage({ id: id ?? `user-${agent.messages.length}`, role: "user", content: say });
  }
  if (result !== undefined) {
    agent.addMessage({ id: `result-${agent.messages.length}`, role: "tool", ...result });
  }
  const subscriber = {
    onEvent({ event }) {
      events.push(event);
      if (events.length === stopAfter) {
        agent.abortRun();
      }
    },
  };
  let error = null;
  try {
    await agent.runAgent({ resume, tools, forwardedProps: forwarded ? JSON.parse(forwarded) : undefined }, subscriber);
  } catch (caught) {
    error = { status: caught.status ?? null, text: String(caught.message ?? caught) };
  }
  return { events, error, messages: agent.messages, interrupts: agent.pendingInterrupts };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await run(JSON.parse(line)))}\n`);
  }
})();
