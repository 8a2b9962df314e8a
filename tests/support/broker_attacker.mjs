// Raw bytes to a Unix socket, in as many pieces and with as many pauses as an attacker likes.
//
// Reads one JSON object per line on stdin and writes one per line on stdout, in the order in which they are done:
//   {id, socket, parts: [[base64, milliseconds to wait before], …], answers, half_close, seconds, read}
//   {id, answer: base64, closed, error, milliseconds}
// A connection is over when the other side closes it, when `seconds` are over, or when `answers` answers have come and
// nothing more for a second. `read: false` never reads until the time is over.
import net from "node:net";
import readline from "node:readline";

const LIMIT = 8 * 2 ** 20;
const STATUS = /HTTP\/1\.[01] \d{3}/g;
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function send(order) {
  return new Promise((done) => {
    const begin = Date.now();
    const pieces = [];
    let size = 0;
    let quiet;
    let over = false;
    const finish = (closed, error) => {
      if (over) return;
      over = true;
      clearTimeout(deadline);
      clearTimeout(quiet);
      socket.destroy();
      const answer = Buffer.concat(pieces).toString("base64");
      done({ id: order.id, answer, closed, error, milliseconds: Date.now() - begin });
    };
    const deadline = setTimeout(() => finish(false, null), order.seconds * 1000);
    const socket = net.connect({ path: order.socket, allowHalfOpen: true });
    if (order.read === false) socket.pause();
    else {
      socket.on("data", (piece) => {
        size += piece.length;
        if (size <= LIMIT) pieces.push(piece);
        clearTimeout(quiet);
        if (size > 2 ** 20) return;
        const text = Buffer.concat(pieces).toString("latin1");
        if ((text.match(STATUS) ?? []).length >= order.answers) quiet = setTimeout(() => finish(false, null), 1000);
      });
    }
    socket.on("end", () => finish(true, null));
    socket.on("close", () => finish(true, null));
    // A server may close before everything is written; what it said until then still counts.
    socket.on("error", (error) => setTimeout(() => finish(true, error.code), 50));
    socket.on("connect", async () => {
      for (const [data, wait] of order.parts) {
        if (wait) await pause(wait);
        if (over) return;
        socket.write(Buffer.from(data, "base64"));
      }
      if (order.half_close) socket.end();
    });
  });
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  send(JSON.parse(line)).then((result) => process.stdout.write(`${JSON.stringify(result)}\n`));
}
