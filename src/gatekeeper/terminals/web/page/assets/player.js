// Plays an asciicast v3 (https://docs.asciinema.org/manual/asciicast/v3/) on a screen.

const LONG_PAUSE_SECONDS = 2;
const CHUNK = 64;

/** Read a recording: its header, and its events with the seconds since its start. */
export function read(text) {
  const lines = text.split("\n").filter((line, number) => line !== "" && (number === 0 || !line.startsWith("#")));
  const header = JSON.parse(lines[0]);
  if (header.version !== 3) throw new Error("this is no asciicast of version 3");
  let at = 0;
  const events = [];
  for (const line of lines.slice(1)) {
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      break; // the last line of a recording that goes on may not be whole
    }
    at += Number(event[0]) || 0;
    events.push({ at, kind: String(event[1]), data: String(event[2]) });
  }
  return { header, events, seconds: at };
}

export class Player {
  #events;
  #screen;
  #onTime;
  #at = 0; // which event comes next
  #now = 0; // seconds into the recording
  #since = 0;
  #timer = 0;
  speed = 1;
  shorten = true;

  constructor(recording, screen, onTime) {
    this.#events = recording.events;
    this.#screen = screen;
    this.#onTime = onTime;
    this.recording = recording;
    this.#rewind();
  }

  get playing() {
    return this.#timer !== 0;
  }

  play() {
    if (this.#at >= this.#events.length) this.seek(0);
    this.#since = performance.now();
    this.#timer = setInterval(() => this.#step(), 20);
  }

  pause() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#onTime(this.#now, false);
  }

  /** Go to a time: everything before it is drawn at once. */
  seek(seconds) {
    if (seconds < this.#now) this.#rewind();
    this.#now = seconds;
    this.#drawTo(seconds);
    this.#since = performance.now();
    this.#onTime(this.#now, this.playing);
  }

  #rewind() {
    const { cols = 80, rows = 24 } = this.recording.header.term || {};
    this.#at = 0;
    this.#now = 0;
    this.#screen.clear();
    this.#screen.resize(cols, rows);
  }

  #step() {
    const now = performance.now();
    this.#now += ((now - this.#since) / 1_000) * this.speed;
    this.#since = now;
    const next = this.#events[this.#at];
    if (next === undefined) {
      this.#now = Math.min(this.#now, this.recording.seconds);
      this.pause();
      return;
    }
    if (this.shorten && next.at - this.#now > LONG_PAUSE_SECONDS) this.#now = next.at - LONG_PAUSE_SECONDS;
    this.#drawTo(this.#now);
    this.#onTime(this.#now, true);
  }

  #drawTo(seconds) {
    let text = [];
    const flush = () => {
      if (text.length) this.#screen.write(text.join(""), { again: true });
      text = [];
    };
    while (this.#at < this.#events.length && this.#events[this.#at].at <= seconds) {
      const { kind, data } = this.#events[this.#at];
      if (kind === "o") text.push(data);
      else if (kind === "r") {
        flush();
        this.#resize(data);
      }
      if (text.length >= CHUNK) flush();
      this.#at += 1;
    }
    flush();
  }

  #resize(data) {
    const [columns, rows] = data.split("x").map(Number);
    if (columns >= 1 && columns <= 1000 && rows >= 1 && rows <= 500) {
      // In its place among what is written, not before it.
      this.#screen.terminal.write("", () => this.#screen.resize(columns, rows));
    }
  }
}
