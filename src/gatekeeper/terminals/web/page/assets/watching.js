// A terminal on a page: its screen, its socket, and what is said around them.

import { serverNow } from "./api.js";
import { Connection } from "./connection.js";
import { byId, make } from "./page.js";
import { Screen } from "./screen.js";
import { endingInWords, reasonInWords, span } from "./words.js";

const WARN_MS = 300_000;
const BELL_MS = 700;
const NO_ANSWERS_MS = 1_000;
const RESIZE_MS = 100;
const SHOWN_PASTE_CHARS = 2_000;

export class Watching {
  #deadline = null;
  #warned = false;
  #again = false;
  #bell = 0;
  #resizing = 0;
  #ended = "";
  #acts;
  #onStage;

  /** `acts` names the buttons for what may be done then; `onStage` hears that one was reached. */
  constructor({ getTicket, acts, onStage = () => {}, onOver = () => {} }) {
    this.#acts = acts;
    this.#onStage = onStage;
    this.onOver = onOver;
    this.mine = false;
    this.screen = new Screen(byId("screen"), {
      typed: (bytes) => this.connection.send(bytes),
      title: (text) => this.#title(text),
      bell: () => this.#ring(),
      link: (address) => this.#open(address),
      over: (address) => byId("over-link").replaceChildren(address),
      paste: (text, go) => this.#paste(text, go),
      leave: () => this.#leave(),
    });
    this.connection = new Connection({
      getTicket,
      size: () => this.screen.room() || {},
      on: {
        attaching: () => this.#state("attaching …"),
        message: (said) => this.#heard(said),
        lost: (words, then, byItself) => this.#lost(words, then, byItself),
        over: (words, then, reason) => this.#over(words, then, reason),
      },
    });
    this.#buttons();
    setInterval(() => this.#tick(), 1_000);
    new ResizeObserver(() => this.#resized()).observe(byId("screen"));
  }

  begin() {
    this.connection.attach();
  }

  endsIn(seconds) {
    this.#deadline = performance.now() + seconds * 1_000;
    this.#tick();
  }

  endsAt(time) {
    if (time) this.endsIn((Date.parse(time) - serverNow()) / 1_000);
  }

  why(words, then) {
    const box = byId("why");
    const act = this.#acts[then];
    box.querySelector("p").replaceChildren(words);
    box.querySelector(".acts").replaceChildren(...(act ? [act()] : []));
    box.hidden = false;
  }

  #heard(said) {
    switch (said.type) {
      case "hello": return this.#greeted(said);
      case "output": return this.#draw(said.data, said.offset + said.data.length);
      case "drawing":
        this.screen.clear();
        return this.screen.write(said.data, { again: true });
      case "size": return this.screen.resize(said.columns, said.rows);
      case "lease": return this.#lease(said);
      case "viewers": return byId("viewers").replaceChildren(said.count === 1 ? "" : `${said.count} watching`);
      case "stage": return this.#onStage();
      case "notice": return this.#state(said.text);
      case "pong": return byId("latency").replaceChildren(`${Math.max(0, Math.round(performance.now() - said.t))} ms`);
      case "exit":
        this.#ended = endingInWords(said.ending, said.code, said.signal);
        return undefined;
      default: return undefined;
    }
  }

  #greeted(said) {
    byId("why").hidden = true;
    this.#state(said.mode === "read" ? "watching" : "attached");
    if (!said.resumed) this.screen.clear();
    this.#again = said.resumed;
    if (said.resumed) setTimeout(() => { this.#again = false; }, NO_ANSWERS_MS);
    this.screen.resize(said.columns, said.rows);
    this.endsIn(said.expiresIn);
    this.mode = said.mode;
    this.#lease(said);
    const flags = [];
    if (said.unsandboxed) flags.push("There is no sandbox around this terminal.");
    if (said.recorded) flags.push("This terminal is recorded.");
    byId("flags").replaceChildren(flags.join(" "));
    byId("flags").classList.toggle("loud", Boolean(said.unsandboxed));
    byId("flags").hidden = flags.length === 0;
  }

  #draw(data, end) {
    this.screen.write(data, { again: this.#again, done: () => this.connection.drawn(end) });
  }

  #lease(said) {
    this.mine = said.mine && this.mode !== "read";
    this.screen.mayType(this.mine);
    const may = this.mode !== "read";
    let words = "nobody types";
    if (this.mine) words = "you type";
    else if (said.holder) words = `${said.holder} types`;
    byId("lease").replaceChildren(words);
    byId("take").hidden = !may || this.mine;
    byId("release").hidden = !may || !this.mine;
    if (this.mine) {
      this.#resized();
      if (document.activeElement === document.body || document.activeElement === byId("take")) this.screen.terminal.focus();
    }
  }

  #resized() {
    clearTimeout(this.#resizing);
    this.#resizing = setTimeout(() => {
      const room = this.screen.room();
      const { cols, rows } = this.screen.terminal;
      if (!this.mine || room === null || (room.columns === cols && room.rows === rows)) return;
      this.connection.say("resize", room);
    }, RESIZE_MS);
  }

  #lost(words, then, byItself) {
    this.screen.mayType(false);
    this.#state(byItself ? "attaching again …" : "not attached");
    this.why(byItself ? `${words} It is attached again by itself.` : words, then);
  }

  #over(words, then, reason = "") {
    this.#ended = this.#ended || reasonInWords(reason);
    this.mine = false;
    this.screen.mayType(false);
    this.#deadline = null;
    for (const id of ["countdown", "lease", "viewers", "latency"]) byId(id).replaceChildren("");
    for (const id of ["take", "release"]) byId(id).hidden = true;
    this.#state("ended");
    this.why(this.#ended ? `${this.#ended}.` : words, then);
    this.onOver(words, then);
  }

  #state(words) {
    byId("state").replaceChildren(words);
  }

  #tick() {
    if (this.#deadline === null) return;
    const left = this.#deadline - performance.now();
    const shown = byId("countdown");
    shown.replaceChildren(`ends in ${span(left)}`);
    shown.classList.toggle("loud", left < WARN_MS);
    if (left < WARN_MS && !this.#warned) {
      this.#warned = true;
      this.#state(`attached; it ends in ${span(left)}`);
    }
  }

  #title(text) {
    byId("title").hidden = text === "";
    byId("title").querySelector("q").replaceChildren(text);
  }

  #ring() {
    clearTimeout(this.#bell);
    byId("bell").hidden = false;
    this.#bell = setTimeout(() => { byId("bell").hidden = true; }, BELL_MS);
  }

  #leave() {
    const first = [...document.querySelectorAll(".bar button, .bar input")].find((one) => one.offsetParent !== null);
    if (first) first.focus();
  }

  async #open(address) {
    if (await ask("Open this address in a new window?", address, "Open")) {
      window.open(address, "_blank", "noopener,noreferrer");
    }
  }

  async #paste(text, go) {
    const lines = text.split(/\r\n|\r|\n/).length;
    if (await ask(`Paste ${lines} lines? Each may run as soon as it is there.`, text.slice(0, SHOWN_PASTE_CHARS), "Paste")) go();
    this.screen.terminal.focus();
  }

  #buttons() {
    byId("take").addEventListener("click", () => this.connection.say("take"));
    byId("release").addEventListener("click", () => this.connection.say("release"));
    byId("reader").addEventListener("change", (event) => {
      this.screen.terminal.options.screenReaderMode = event.target.checked;
    });
  }
}

export function ask(question, shown, yes) {
  const dialog = byId("ask");
  byId("ask-text").replaceChildren(question);
  byId("ask-shown").replaceChildren(shown);
  byId("ask-yes").replaceChildren(yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export function linkButton(words, address) {
  return make("a", { className: "button main", href: address }, words);
}

export function actButton(words, act) {
  const button = make("button", { type: "button", className: "main" }, words);
  button.addEventListener("click", act);
  return button;
}
