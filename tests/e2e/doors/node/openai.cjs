// An application on the package openai, told by lines of JSON on stdin what to do, telling what it has on stdout.
//   {"create": {...}, "stop_after": n?}     a response; with `stream`, its events, of which it may read only so many
//   {"retrieve": id, "starting_after": n?}  a response; with a number, its events after that one
//   {"cancel": id}   {"models": true}
"use strict";

const readline = require("node:readline");
const { OpenAI } = require("openai");

const [baseURL, user] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused", defaultHeaders: { "x-dev-user": user }, maxRetries: 0 });

async function read(stream, stopAfter) {
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (events.length === stopAfter) {
      break;
    }
  }
  return { events };
}

async function act(command) {
  if (command.create !== undefined) {
    const made = await client.responses.create(command.create);
    return command.create.stream ? read(made, command.stop_after) : { response: made, text: made.output_text };
  }
  if (command.cancel !== undefined) {
    return { response: await client.responses.cancel(command.cancel) };
  }
  if (command.models) {
    const models = [];
    for await (const model of client.models.list()) {
      models.push(model.id);
    }
    return { models };
  }
  if (command.starting_after !== undefined) {
    const options = { stream: true, starting_after: command.starting_after };
    return read(await client.responses.retrieve(command.retrieve, options));
  }
  const found = await client.responses.retrieve(command.retrieve);
  return { response: found, text: found.output_text };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let told;
    try {
      told = await act(JSON.parse(line));
    } catch (error) {
      const { status = null, code = null, param = null } = error;
      told = { error: { status, code, param, message: String(error.message) } };
    }
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
})();
