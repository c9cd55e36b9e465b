// /console: one's terminals, and starting one.

import { answer, call, inWords, serverNow } from "./api.js";
import { begin, byId, make } from "./page.js";
import { choices } from "./starting.js";
import { OVER, commandInWords, span, stateInWords } from "./words.js";

const REFRESH_MS = 10_000;
const SOON_MS = 150;
let views = [];
let refreshing = 0;

begin();

// Whoever came with a shared link, and had to sign in first, goes on to it.
if (sessionStorage.getItem("gatekeeper-shared") !== null) location.assign("/console/shared");

async function refresh() {
  try {
    views = (await call("GET", "/terminals?mine=true")).items;
    byId("list-says").replaceChildren(views.length ? "" : "You have none.");
    show();
  } catch (problem) {
    byId("list-says").replaceChildren(inWords(problem));
    if (problem.status === 401) location.reload();
  }
}

function show() {
  byId("list").hidden = views.length === 0;
  byId("list").querySelector("tbody").replaceChildren(...views.map(row));
}

function row(view) {
  const open = make("a", { href: `/console/terminals/${view.terminalId}` }, view.terminalId);
  const over = OVER.has(view.status);
  const act = over ? recordingLink(view) : stopButton(view);
  const made = make(
    "tr",
    {},
    make("td", {}, open),
    make("td", {}, make("code", {}, commandInWords(view))),
    make("td", {}, stateInWords(view)),
    make("td", { className: "ends" }, ""),
    make("td", {}, act),
  );
  made.dataset.expires = over ? "" : view.expiresAt || "";
  tick(made);
  return made;
}

function recordingLink(view) {
  if (!view.recording) return "";
  if (view.recording.deletedAt) return "Recording deleted";
  return make("a", { href: `/console/recordings/${view.terminalId}` }, "Recording");
}

function stopButton(view) {
  const button = make("button", { type: "button", ariaLabel: `Stop ${view.terminalId}` }, "Stop");
  button.addEventListener("click", async () => {
    button.disabled = true;
    await call("DELETE", `/terminals/${view.terminalId}`).catch((problem) => byId("list-says").replaceChildren(inWords(problem)));
    refresh();
  });
  return button;
}

function tick(shown) {
  const expires = shown.dataset.expires;
  shown.querySelector(".ends").replaceChildren(expires ? span(Date.parse(expires) - serverNow()) : "");
}

/** Hear of changes as they happen; where the stream ends, look every few seconds. */
async function listen() {
  for (;;) {
    try {
      const stream = (await answer("GET", "/terminals/events")).body.getReader();
      for (;;) {
        const { done } = await stream.read();
        if (done) break;
        clearTimeout(refreshing);
        refreshing = setTimeout(refresh, SOON_MS);
      }
    } catch {
      // The next look says what is wrong.
    }
    await new Promise((resolve) => { setTimeout(resolve, REFRESH_MS); });
    refresh();
  }
}

byId("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  byId("start-says").replaceChildren("");
  try {
    const made = await call("POST", "/terminals?wait=20", choices.wanted());
    sessionStorage.setItem("gatekeeper-made", JSON.stringify(made));
    location.assign(`/console/terminals/${made.terminalId}`);
  } catch (problem) {
    byId("start-says").replaceChildren(inWords(problem));
    button.disabled = false;
  }
});

choices.load().catch((problem) => byId("start-says").replaceChildren(inWords(problem)));
refresh();
listen();
// What the next page needs is then here already.
import("./watching.js").catch(() => null);
setInterval(() => byId("list").querySelectorAll("tbody tr").forEach(tick), 1_000);
