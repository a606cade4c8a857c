// A chat of the AI SDK without a page: commands as JSON lines in, one JSON line of state out for each.
//
//   node client.cjs VERSION API CHAT_ID HEADERS [TRANSPORT_OPTIONS]
//
// The state is what a page would show: {status, error, messages, finishes}, and the tools that it was told to run: `called`. `wait` answers once the chat is at rest.
"use strict";

const readline = require("node:readline");

const [version, api, id, headers, options] = process.argv.slice(2);
const {
  AbstractChat,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} = require(version === "6" ? "ai6" : "ai");

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => void (this.messages = [...this.messages, structuredClone(message)]);
  popMessage = () => void (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    void (this.messages = this.messages.map((old, at) => (at === index ? structuredClone(message) : old)));
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends AbstractChat {
  constructor(init) {
    super({ ...init, state: new State() });
  }
}

const finishes = [];
const called = [];
const chat = new Chat({
  id,
  transport: new DefaultChatTransport({ api, headers: JSON.parse(headers), ...JSON.parse(options ?? "{}") }),
  sendAutomaticallyWhen: (options) =>
    lastAssistantMessageIsCompleteWithApprovalResponses(options) || lastAssistantMessageIsCompleteWithToolCalls(options),
  onToolCall: ({ toolCall }) => void called.push(toolCall.toolName),
  onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
    finishes.push({ isAbort, isDisconnect, isError, finishReason }),
});

const running = new Set();

function begin(promise) {
  const begun = Promise.resolve(promise).catch((error) => void console.error(String(error)));
  running.add(begun);
  void begun.finally(() => running.delete(begun));
}

async function atRest() {
  // What an answered approval sends is begun a few ticks later.
  for (let quiet = 0; quiet < 5; quiet += 1) {
    while (running.size > 0 || chat.status === "submitted" || chat.status === "streaming") {
      await Promise.race([...running, new Promise((done) => setTimeout(done, 20))]);
      quiet = 0;
    }
    await new Promise((done) => setTimeout(done, 10));
  }
}

const commands = {
  send: ({ message, ...more }) => begin(chat.sendMessage(message, more)),
  regenerate: (options) => begin(chat.regenerate(options)),
  approve: (answer) => begin(chat.addToolApprovalResponse(answer)),
  output: (output) => begin(chat.addToolOutput(output)),
  resume: () => begin(chat.resumeStream()),
  stop: () => chat.stop(),
  set: ({ messages }) => void (chat.messages = messages),
  wait: atRest,
  look: () => {},
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { do: name, ...fields } = JSON.parse(line);
    await commands[name](fields);
    const { status, error, messages } = chat;
    process.stdout.write(`${JSON.stringify({ status, error: error?.message ?? null, messages, finishes, called })}\n`);
  }
  process.exit(0);
}

void main();
