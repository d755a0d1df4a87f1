// What a worker did last, and why:  node decisions.mjs /run/forge-manager/elector/debug.sock
// Needs nothing but Node.  Frames and messages: docs/ipc.md.  Run it as the worker's user, or as root.
import { connect } from "node:net";

const QUESTION = "\x93\x06\xacDebugRequest\x82\xa4what\xa9decisions\xa8argument\xa0"; // [6, "DebugRequest", {...}]
let answer = Buffer.alloc(0), at = 4; // the first four bytes are the length of the only frame
const take = (bytes) => answer.subarray(at, (at += bytes));
const number = (bytes) => BigInt("0x" + take(bytes).toString("hex"));
const list = (count) => Array.from({ length: Number(count) }, value);
const map = (count) => Object.fromEntries(Array.from({ length: Number(count) }, () => [value(), value()]));

function value() { // what an answer consists of in msgpack: natural numbers, texts, lists, maps
  const kind = Number(number(1));
  if (kind < 0x80) return kind;
  if (kind < 0xc0) return kind < 0x90 ? map(kind & 15) : kind < 0xa0 ? list(kind & 15) : String(take(kind & 31));
  if (kind >= 0xcc && kind <= 0xcf) return number(1 << (kind - 0xcc));
  if (kind === 0xd9 || kind === 0xda) return String(take(Number(number(kind - 0xd8))));
  if (kind === 0xdc || kind === 0xde) return (kind === 0xdc ? list : map)(number(2));
  throw new Error("not a message of ours");
}

const shown = (any) => JSON.stringify(any).replace(/[^ -~]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
const fail = (...why) => { console.error(...why); process.exit(1); };
connect(process.argv[2], function () { this.write(Buffer.from(`\0\0\0${String.fromCharCode(QUESTION.length)}${QUESTION}`, "latin1")); })
  .on("data", (more) => { answer = Buffer.concat([answer, more]); })
  .on("error", (why) => fail("no answer; may this user ask?", why.message))
  .on("end", () => {
    const [protocol, name, body] = answer.length ? value() : fail("no answer; may this user ask?");
    if (protocol !== 6 || name !== "DebugDecisions") fail(protocol, name, shown(body));
    for (const d of body.decisions) console.log(`${d.at} ${d.level} ${d.event}: ${shown(d.message)} ${shown(d.fields)}`);
  });
