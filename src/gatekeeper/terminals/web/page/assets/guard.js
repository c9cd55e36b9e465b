// Output may hold sequences that are aimed at whoever watches: docs/explanation/terminal-viewer.md.
// Each handler answers true for "dealt with": xterm.js then does nothing of its own.

const MAX_TITLE_CHARS = 80;
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Ignored always: clipboard, palette, colours, notifications, files, and what asks for words. */
const IGNORED_OSC = [4, 5, 9, 10, 11, 12, 13, 14, 17, 19, 22, 50, 52, 99, 104, 105, 110, 111, 112, 117, 119, 777, 1337];

/** Answered to programs that ask now, but not where what they wrote is only drawn again. */
const QUESTIONS = [
  { final: "c" },
  { prefix: ">", final: "c" },
  { prefix: "=", final: "c" },
  { final: "n" },
  { prefix: "?", final: "n" },
  { intermediates: "$", final: "p" },
  { prefix: "?", intermediates: "$", final: "p" },
];

export function guard(terminal, { mayAnswer, title, bell }) {
  const parser = terminal.parser;
  for (const number of IGNORED_OSC) parser.registerOscHandler(number, () => true);
  for (const intermediates of ["$", "+"]) {
    parser.registerDcsHandler({ intermediates, final: "q" }, () => true);
  }
  parser.registerCsiHandler({ final: "t" }, () => true);
  parser.registerCsiHandler({ prefix: ">", final: "q" }, () => true);
  for (const question of QUESTIONS) parser.registerCsiHandler(question, () => !mayAnswer());
  terminal.onTitleChange((text) => title(plain(text)));
  terminal.onBell(bell);
}

/** Text for one line of the page: no controls, nothing that turns the direction around, short. */
export function plain(text) {
  return [...text.replace(CONTROLS, "")].slice(0, MAX_TITLE_CHARS).join("");
}

/** What may be pasted: nothing that a terminal would take for keys or for the paste's end. */
export function pastable(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "");
}

/** The address behind a link, or null where it is none that may be opened. */
export function openable(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
}
