// Fed to `node` in the gateway's container by playbooks/verify.yml: one turn of the bot's own running OpenClaw whose model is
// this program. It asks for one call of the tool `exec`, prints what came of it as JSON, and ends. Environment:
// PROBE_COMMAND what the tool shall run, PROBE_PORT where the configured model is, PROBE_MODEL its reference.
import { spawn } from "node:child_process";
import { createServer } from "node:http";

const { PROBE_COMMAND, PROBE_PORT, PROBE_MODEL } = process.env;
const SESSION = "agent:main:clawfactory-verify";
const MAX_BYTES = 16 * 1024 * 1024;
const result = { asked: 0, tool: "", exit: null, said: "" };

const textOf = (message) =>
  typeof message.content === "string" ? message.content : (message.content ?? []).map((part) => part.text ?? "").join("\n");

// The session is an old one: only what answers this run's own call counts.
const CALL = `call${process.hrtime.bigint()}`;
const answer = (messages) => {
  const found = messages.findLast((message) => message.role === "tool" && message.tool_call_id === CALL);
  if (found !== undefined) {
    result.tool = textOf(found);
    return { role: "assistant", content: "Verified." };
  }
  if (result.asked > 1) return { role: "assistant", content: "The call of the tool was lost." };
  const call = { name: "exec", arguments: JSON.stringify({ command: PROBE_COMMAND, yieldMs: 60000 }) };
  return { role: "assistant", content: null, tool_calls: [{ index: 0, id: CALL, type: "function", function: call }] };
};

const chunk = (delta, reason) =>
  `data: ${JSON.stringify({
    id: "verify", object: "chat.completion.chunk", created: 0, model: "probe",
    choices: [{ index: 0, delta, finish_reason: reason }],
  })}\n\n`;

const server = createServer((request, response) => {
  const parts = [];
  let size = 0;
  request.on("data", (part) => {
    size += part.length;
    if (size > MAX_BYTES) request.destroy();
    else parts.push(part);
  });
  request.on("end", () => {
    if (request.method !== "POST") return response.writeHead(404).end();
    result.asked += 1;
    const message = answer(JSON.parse(Buffer.concat(parts)).messages);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk(message, null));
    response.end(`${chunk({}, message.tool_calls ? "tool_calls" : "stop")}data: [DONE]\n\n`);
  });
});

server.listen(Number(PROBE_PORT), "127.0.0.1", () => {
  const turn = ["agent", "--agent", "main", "--session-key", SESSION, "--model", PROBE_MODEL, "--timeout", "120", "--json"];
  const child = spawn("openclaw", [...turn, "--message", "Verify that tools run in a sandbox."], { stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (part) => { result.said = (result.said + part).slice(-4000); });
  }
  child.on("close", (code) => {
    result.exit = code;
    process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
  });
});
server.on("error", (error) => {
  result.said = `port ${PROBE_PORT} of the gateway's loopback cannot be had: ${error.message}`;
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
});
