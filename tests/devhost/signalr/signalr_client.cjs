// The real @microsoft/signalr client, driven over standard input and output.
//
// Each input line is a command {"do": ..., "id": ...}, each output line an event {"id": ..., "event": ...}. One process
// holds any number of connections. It ends when its input does.
"use strict";

const readline = require("node:readline");
const signalr = require("@microsoft/signalr");
const { MessagePackHubProtocol } = require("@microsoft/signalr-protocol-msgpack");

const connections = new Map();
const counts = new Map();

function report(id, event, fields) {
  process.stdout.write(JSON.stringify({ id, event, ...fields }) + "\n");
}

function build(command) {
  const options = {};
  if (command.transport) options.transport = signalr.HttpTransportType[command.transport];
  if (command.headers) options.headers = command.headers;
  if (command.accessToken) {
    options.accessTokenFactory = () => command.accessToken;
    options.skipNegotiation = true;
    options.transport = signalr.HttpTransportType.WebSockets;
  }
  let builder = new signalr.HubConnectionBuilder()
    .withUrl(command.url, options)
    .configureLogging(signalr.LogLevel.None);
  if (command.protocol === "messagepack") builder = builder.withHubProtocol(new MessagePackHubProtocol());
  if (command.reconnect) builder = builder.withAutomaticReconnect(command.reconnect);
  if (command.stateful) builder = builder.withStatefulReconnect();
  const connection = builder.build();
  if (command.keepAliveMs) connection.keepAliveIntervalInMilliseconds = command.keepAliveMs;
  if (command.serverTimeoutMs) connection.serverTimeoutInMilliseconds = command.serverTimeoutMs;
  for (const target of command.targets) {
    connection.on(target, (...args) => {
      if (command.quiet) counts.set(target, (counts.get(target) || 0) + 1);
      else report(command.id, "message", { target, args });
    });
  }
  connection.onreconnecting((error) => report(command.id, "reconnecting", { error: String(error || "") }));
  connection.onreconnected((connectionId) => report(command.id, "reconnected", { connectionId }));
  connection.onclose((error) => report(command.id, "closed", { error: error ? error.message : null }));
  return connection;
}

const actions = {
  async connect(command) {
    const connection = build(command);
    connections.set(command.id, connection);
    await connection.start();
    report(command.id, "connected", { connectionId: connection.connectionId });
  },
  async invoke(command) {
    report(command.id, "result", { result: await connections.get(command.id).invoke(command.target, ...command.args) });
  },
  async send(command) {
    await connections.get(command.id).send(command.target, ...command.args);
  },
  async stop(command) {
    await connections.get(command.id).stop();
    report(command.id, "stopped", {});
  },
  async count(command) {
    report(command.id, "count", { count: counts.get(command.target) || 0 });
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  actions[command.do](command).catch((error) => report(command.id, "failed", { error: String(error.message || error) }));
}).on("close", () => process.exit(0));
