// One terminal's socket: attaches with a fresh ticket, comes back by itself, loses no byte.

import { closing, refusal } from "./closing.js";
import { ACK_EVERY_BYTES, SUBPROTOCOL, input, read, say } from "./protocol.js";

const FIRST_WAIT_MS = 250;
const MOST_WAIT_MS = 5_000;
const PING_EVERY_MS = 5_000;
const SILENT_MS = 20_000;
// Codes of our own, for the other side to know why we went.
const MISSED_BYTES = 3999;
const HEARD_NOTHING = 3998;

export class Connection {
  #getTicket;
  #size;
  #on;
  #socket = null;
  #instance = null;
  #next = null; // the offset of the byte that comes next
  #acked = 0;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #pinging = 0;
  #heardAt = 0;
  #stopped = false;

  /**
   * `getTicket` fetches leave to attach; `size` says how large the screen is here.
   * `on` hears: message(said, {resumed}), attaching(), lost(words, then, byItself),
   * over(words, then, reason).
   */
  constructor({ getTicket, size, on }) {
    this.#getTicket = getTicket;
    this.#size = size;
    this.#on = on;
    addEventListener("online", () => this.again());
  }

  async attach() {
    clearTimeout(this.#timer);
    if (this.#stopped || this.#socket !== null) return;
    this.#on.attaching();
    this.#socket = "asking";
    let ticket;
    try {
      ticket = await this.#getTicket();
    } catch (problem) {
      this.#socket = null;
      this.#refused(refusal(problem));
      return;
    }
    this.#open(ticket);
  }

  /** Attach now, without waiting any longer. */
  again() {
    this.#stopped = false;
    this.#wait = FIRST_WAIT_MS;
    this.attach();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    if (this.#socket instanceof WebSocket) this.#socket.close(1000);
  }

  send(bytes) {
    if (!this.#isOpen()) return;
    for (const message of input(bytes)) this.#socket.send(message);
  }

  say(type, fields) {
    if (this.#isOpen()) this.#socket.send(say(type, fields));
  }

  /** All output before this offset is on the screen. */
  drawn(offset) {
    if (offset - this.#acked < ACK_EVERY_BYTES) return;
    this.#acked = offset;
    this.say("ack", { offset });
  }

  #isOpen() {
    return this.#socket instanceof WebSocket && this.#socket.readyState === WebSocket.OPEN;
  }

  #open(ticket) {
    const socket = new WebSocket(ticket.url, [SUBPROTOCOL, `ticket.${ticket.ticket}`]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      const known = this.#next === null ? {} : { offset: this.#next };
      socket.send(say("attach", { ...known, ...this.#size() }));
      this.#heardAt = performance.now();
      this.#pinging = setInterval(() => this.#ping(socket), PING_EVERY_MS);
    };
    socket.onmessage = (event) => this.#heard(socket, event.data);
    socket.onclose = (event) => this.#closed(event.code, event.reason);
  }

  #heard(socket, message) {
    this.#heardAt = performance.now();
    const said = read(message);
    if (said === null) return;
    if (said.type === "hello") this.#greeted(said);
    else if (said.type === "output" && !this.#take(said)) {
      // A gap: what is between is lost here, so we begin anew from a screen.
      this.#next = null;
      socket.close(MISSED_BYTES);
      return;
    } else if (said.type === "drawing") {
      this.#next = said.offset;
      this.#acked = said.offset;
    }
    this.#on.message(said);
  }

  #greeted(said) {
    this.#wait = FIRST_WAIT_MS;
    said.resumed = this.#instance === said.instance && this.#next !== null;
    if (!said.resumed) this.#next = said.offset;
    this.#instance = said.instance;
    this.#acked = Math.min(this.#acked, this.#next);
    if (!said.resumed) this.#acked = this.#next;
  }

  /** Keep the count of bytes; drop those that we have. False where some are missing. */
  #take(said) {
    if (said.offset > this.#next) return false;
    said.data = said.data.subarray(Math.min(said.data.length, this.#next - said.offset));
    said.offset = this.#next;
    this.#next += said.data.length;
    return true;
  }

  #ping(socket) {
    if (performance.now() - this.#heardAt > SILENT_MS) socket.close(HEARD_NOTHING);
    else this.say("ping", { t: Math.floor(performance.now()) });
  }

  #closed(code, reason) {
    clearInterval(this.#pinging);
    this.#socket = null;
    if (this.#stopped) return;
    const why = closing(code);
    if (why.over) {
      this.#stopped = true;
      this.#on.over(why.words, why.then, reason);
    } else if (why.held) {
      this.#on.lost(why.words, why.then, false);
    } else this.#later(why.words, why.then, 0);
  }

  #refused(why) {
    if (why.over) {
      this.#stopped = true;
      this.#on.over(why.words, why.then);
    } else if (why.retry) this.#later(why.words, why.then, why.retry * 1000);
    else this.#on.lost(why.words, why.then, false);
  }

  #later(words, then, least) {
    this.#on.lost(words, then, true);
    this.#timer = setTimeout(() => this.attach(), Math.max(least, this.#wait));
    this.#wait = Math.min(MOST_WAIT_MS, this.#wait * 2);
  }
}
