// xterm.js, as this page has it: its screen, its keyboard, and what output may not do.

import { letOurStylesIn } from "./csp.js";
import { guard, openable, pastable } from "./guard.js";
import { FitAddon, Terminal, Unicode11Addon } from "./vendor.js";

const SCROLLBACK_LINES = 20_000;
const READABLE_CONTRAST = 4.5;
const DARK = { background: "#16181d", foreground: "#e6e6e6", cursor: "#e6e6e6", selectionBackground: "#3a5a8c" };
const LIGHT = { background: "#ffffff", foreground: "#1b1f24", cursor: "#1b1f24", selectionBackground: "#b5d2ff" };

export class Screen {
  #fit = new FitAddon();
  #answers = true;
  #on;

  /** `on` hears: typed(bytes), title(text), bell(), link(address), over(address), paste(text, go). */
  constructor(element, on) {
    this.#on = on;
    letOurStylesIn();
    this.terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: false,
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
      fontSize: 14,
      linkHandler: this.#links(),
      minimumContrastRatio: READABLE_CONTRAST,
      scrollback: SCROLLBACK_LINES,
      disableStdin: true,
    });
    this.terminal.loadAddon(this.#fit);
    this.terminal.loadAddon(new Unicode11Addon());
    this.terminal.unicode.activeVersion = "11";
    this.terminal.open(element);
    guard(this.terminal, { mayAnswer: () => this.#answers, title: on.title, bell: on.bell });
    this.#keys();
    this.#pastes(element);
    this.#colours();
    // For tests, and for whoever wants to read the screen from the console.
    element.terminal = this.terminal;
  }

  /** Draw. Where it is only drawn again (`again`), nothing that it asks is answered. */
  write(data, { again = false, done } = {}) {
    this.terminal.write("", () => {
      this.#answers = !again;
    });
    this.terminal.write(data, done);
  }

  clear() {
    this.terminal.write("\x1bc");
  }

  resize(columns, rows) {
    if (columns === this.terminal.cols && rows === this.terminal.rows) return;
    this.terminal.resize(columns, rows);
  }

  /** How many columns and rows there is room for. */
  room() {
    const found = this.#fit.proposeDimensions();
    if (!found || !found.cols || !found.rows) return null;
    return { columns: Math.min(1000, found.cols), rows: Math.min(500, found.rows) };
  }

  mayType(may) {
    this.terminal.options.disableStdin = !may;
  }

  #keys() {
    const encoder = new TextEncoder();
    this.terminal.onData((text) => this.#on.typed(encoder.encode(text)));
    this.terminal.onBinary((text) => this.#on.typed(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    this.terminal.attachCustomKeyEventHandler((event) => {
      if (!(event.ctrlKey && event.key === "F6")) return true;
      if (event.type === "keydown") this.#on.leave();
      event.preventDefault();
      return false;
    });
  }

  #pastes(element) {
    const paste = (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (this.terminal.options.disableStdin) return;
      const text = pastable((event.clipboardData && event.clipboardData.getData("text/plain")) || "");
      if (text === "") return;
      const go = () => this.terminal.paste(text);
      // Where a program takes pastes apart from keys, it shows them before anything runs.
      if (/[\r\n]/.test(text) && !this.terminal.modes.bracketedPasteMode) this.#on.paste(text, go);
      else go();
    };
    element.addEventListener("paste", paste, true);
  }

  #links() {
    return {
      activate: (_event, address) => {
        const found = openable(address);
        if (found !== null) this.#on.link(found);
      },
      hover: (_event, address) => this.#on.over(openable(address) || ""),
      leave: () => this.#on.over(""),
    };
  }

  #colours() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const choose = () => {
      this.terminal.options.theme = dark.matches ? DARK : LIGHT;
    };
    dark.addEventListener("change", choose);
    choose();
  }
}
