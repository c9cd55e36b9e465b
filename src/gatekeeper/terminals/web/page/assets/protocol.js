// `gk.term.v1`, this end of it: docs/reference/terminal-protocol.md.

export const SUBPROTOCOL = "gk.term.v1";
export const ACK_EVERY_BYTES = 65_536;
const MAX_INPUT_BYTES = 65_536;
const INPUT = 0x00;
const OUTPUT = 0x01;
const SCREEN = 0x02;
const HEAD_BYTES = 9;

/** Read a message: what it is called, and what it says. Null for what we do not know. */
export function read(message) {
  if (typeof message === "string") {
    const { type, ...said } = JSON.parse(message);
    return { type, ...said };
  }
  if (message.byteLength < HEAD_BYTES) return null;
  const head = new DataView(message);
  const kind = head.getUint8(0);
  if (kind !== OUTPUT && kind !== SCREEN) return null;
  return {
    type: kind === OUTPUT ? "output" : "drawing",
    offset: Number(head.getBigUint64(1)),
    data: new Uint8Array(message, HEAD_BYTES),
  };
}

export function say(type, fields = {}) {
  return JSON.stringify({ type, ...fields });
}

/** Cut input into messages. */
export function* input(bytes) {
  for (let at = 0; at < bytes.length; at += MAX_INPUT_BYTES) {
    const part = bytes.subarray(at, at + MAX_INPUT_BYTES);
    const message = new Uint8Array(part.length + 1);
    message[0] = INPUT;
    message.set(part, 1);
    yield message;
  }
}
